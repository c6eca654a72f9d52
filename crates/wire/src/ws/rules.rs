//! What a frame may be: the rules of RFC 6455, section 5, and the limits on sizes.
//!
//! They are here once. The decoder of an endpoint asks them, and so does the judge of a tunnel.

use crate::Violation;
use crate::ws::frame::{CONTROL_BYTES_MAX, FrameHeader, Opcode};
use crate::ws::message::{Limits, Role};

/// What the 101 says about reserved bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extensions {
    /// No bit has a meaning.
    #[default]
    None,
    /// permessage-deflate: RSV1 marks the first frame of a message (RFC 7692, section 6).
    Deflate,
    /// An extension that is not known here: what its bits mean is between the two peers.
    Unknown,
}

impl Extensions {
    /// The reserved bits that a frame of this opcode may have.
    #[inline]
    fn reserved_bits(self, opcode: u8) -> u8 {
        match self {
            Extensions::None => 0,
            Extensions::Deflate if matches!(opcode, 0x1 | 0x2) => RSV1,
            Extensions::Deflate => 0,
            Extensions::Unknown => 0b111,
        }
    }
}

/// Checks what a frame of any kind must be, and says what it is for.
#[inline]
pub(super) fn check_frame(
    role: Role,
    extensions: Extensions,
    header: &FrameHeader,
) -> Result<Opcode, Violation> {
    if header.rsv & !extensions.reserved_bits(header.opcode) != 0 {
        return Err(Violation::ReservedBits(header.rsv));
    }
    let opcode = Opcode::try_from(header.opcode)?;
    match (role, header.mask) {
        (Role::Server, None) => Err(Violation::NotMasked),
        (Role::Client, Some(_)) => Err(Violation::Masked),
        _ => Ok(opcode),
    }
}

#[inline]
pub(super) fn check_control(opcode: Opcode, header: &FrameHeader) -> Result<(), Violation> {
    if !header.fin {
        return Err(Violation::ControlFragmented(opcode));
    }
    if header.length > CONTROL_BYTES_MAX as u64 {
        return Err(Violation::ControlTooLong { opcode, length: header.length });
    }
    Ok(())
}

/// Checks that a message begins where none is open, and goes on where one is.
#[inline]
pub(super) fn check_order(opcode: Opcode, is_open: bool) -> Result<(), Violation> {
    match (opcode, is_open) {
        (Opcode::Continuation, false) => Err(Violation::ContinuationWithoutStart),
        (Opcode::Continuation, true) | (_, false) => Ok(()),
        (_, true) => Err(Violation::MessageNotFinished(opcode)),
    }
}

/// Checks the size of a data frame, of which the message has `held` bytes before it, and which is
/// its fragment of this number.
#[inline]
pub(super) fn check_size(
    limits: &Limits,
    length: u64,
    held: u64,
    fragments: u32,
) -> Result<(), Violation> {
    if length > limits.frame_bytes_max {
        return Err(Violation::FrameTooBig { length, max: limits.frame_bytes_max });
    }
    let length = held.saturating_add(length);
    if length > limits.message_bytes_max {
        return Err(Violation::MessageTooBig { length, max: limits.message_bytes_max });
    }
    if fragments > limits.fragments_max {
        return Err(Violation::TooManyFragments { max: limits.fragments_max });
    }
    Ok(())
}

const RSV1: u8 = 0b100;
