//! The thread's buffers for records on their way in and out.
//!
//! They are not the plain scratch buffer of [`crate::buffer`]: whoever reads from a socket has
//! borrowed that one, to have the plaintext put into it.

use std::cell::RefCell;

use crate::buffer::SCRATCH_BYTES;

/// The most ciphertext that is looked at in one go, what was kept of an earlier read included.
///
/// As big as the plain scratch buffer, so that what it opens to fits into that.
pub(super) const CIPHERTEXT_BYTES: usize = SCRATCH_BYTES;

/// The most plaintext in a record (RFC 8446, section 5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// The most plaintext that one write takes: four full records.
pub(super) const WRITE_BYTES: usize = 4 * RECORD_BYTES;

/// Room beside the records of one write: a ticket or a key update that goes before them, and what
/// each record costs.
pub(super) const SLACK_BYTES: usize = 8 * 1024;

/// Records on their way out.
pub(super) struct Outgoing {
    /// Where records are sealed into.
    pub(super) sealed: Box<[u8]>,
    /// Where small slices are gathered to become one record.
    pub(super) gathered: Box<[u8]>,
}

/// Lends the thread's buffer for ciphertext that comes in.
pub(super) fn with_incoming<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    INCOMING.with(|incoming| work(&mut incoming.borrow_mut()[..]))
}

/// Lends the thread's buffers for what goes out.
pub(super) fn with_outgoing<R>(work: impl FnOnce(&mut Outgoing) -> R) -> R {
    OUTGOING.with(|outgoing| work(&mut outgoing.borrow_mut()))
}

fn zeroed(length: usize) -> Box<[u8]> {
    vec![0; length].into_boxed_slice()
}

thread_local! {
    static INCOMING: RefCell<Box<[u8]>> = RefCell::new(zeroed(CIPHERTEXT_BYTES));
    static OUTGOING: RefCell<Outgoing> = RefCell::new(Outgoing {
        sealed: zeroed(WRITE_BYTES + SLACK_BYTES),
        gathered: zeroed(RECORD_BYTES),
    });
}
