//! Buffers that nobody owns while idle: one scratch buffer a thread, and the bytes that a slow peer
//! has not taken yet.
//!
//! Every read goes into the thread's scratch buffer and is used up (written on, decoded, or copied
//! to where it must wait) before the next connection is looked at, so an idle connection holds no
//! buffer at all, and a busy one only while its peer will not take its bytes.

use std::cell::RefCell;

use bytes::{Buf, Bytes};

use crate::allocator::note_burst;

/// Size of the scratch buffer, and so the most that one read can return.
///
/// 32 KiB: a 16 KiB message with its header is read at once, bulk transfers need few calls, and who
/// floods with the tiniest of frames has a few thousand of them looked at before others have their
/// turn ([`TURN_BYTES`](crate::turn::TURN_BYTES)).
pub const SCRATCH_BYTES: usize = 32 * 1024;

/// Lends the thread's scratch buffer to `work`.
///
/// # Panics
/// When called again inside `work`: there is one scratch buffer a thread.
pub fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with(|scratch| work(&mut scratch.borrow_mut()[..]))
}

/// Bytes that a peer has not taken yet. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Backlog(Option<Box<Bytes>>);

impl Backlog {
    /// Keeps a copy of `bytes`, which must not follow others that still wait.
    pub fn fill(&mut self, bytes: &[u8]) {
        debug_assert!(self.0.is_none(), "a backlog is filled only when it is empty");
        if !bytes.is_empty() {
            note_burst();
            self.0 = Some(Box::new(Bytes::copy_from_slice(bytes)));
        }
    }

    /// Keeps bytes that are already shared, without copying them.
    pub fn fill_shared(&mut self, bytes: Bytes) {
        debug_assert!(self.0.is_none(), "a backlog is filled only when it is empty");
        if !bytes.is_empty() {
            self.0 = Some(Box::new(bytes));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// The bytes that wait, oldest first.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| &bytes[..])
    }

    /// Drops the `taken` oldest bytes; gives the memory back with the last of them.
    pub fn consume(&mut self, taken: usize) {
        if let Some(bytes) = &mut self.0 {
            bytes.advance(taken);
            if bytes.is_empty() {
                self.0 = None;
            }
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_gives_its_memory_back_with_its_last_byte() {
        let mut backlog = Backlog::default();
        backlog.fill(b"hello");
        backlog.consume(2);
        assert_eq!(backlog.bytes(), b"llo");
        backlog.consume(3);
        assert!(backlog.is_empty() && backlog.0.is_none());
    }

    #[test]
    fn an_empty_fill_holds_nothing() {
        let mut backlog = Backlog::default();
        backlog.fill(b"");
        assert!(backlog.is_empty());
        assert_eq!(std::mem::size_of::<Backlog>(), 8);
    }
}
