//! What a peer did that RFC 6455 does not allow, or that passes a limit of ours.

use std::fmt;

use crate::ws::close::CloseCode;
use crate::ws::frame::Opcode;

/// The one thing a peer did wrong; decoding ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("reserved bits {0:#05b} are set and no extension gives them a meaning")]
    ReservedBits(u8),
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    #[error("the client sent a frame that is not masked")]
    NotMasked,
    #[error("the server sent a masked frame")]
    Masked,
    #[error("length {0} is not in its shortest form")]
    LengthNotMinimal(u64),
    #[error("length {0:#x} has its highest bit set")]
    LengthOverflow(u64),
    #[error("a {0} frame came in fragments")]
    ControlFragmented(Opcode),
    #[error("a {opcode} frame of {length} bytes came; control frames end at 125")]
    ControlTooLong { opcode: Opcode, length: u64 },
    #[error("a continuation came with no message to continue")]
    ContinuationWithoutStart,
    #[error("a {0} frame came before the fragmented message had ended")]
    MessageNotFinished(Opcode),
    #[error("a frame of {length} bytes came; the limit is {max}")]
    FrameTooBig { length: u64, max: u64 },
    #[error("a message of at least {length} bytes came; the limit is {max}")]
    MessageTooBig { length: u64, max: u64 },
    #[error("a message came in more than {max} fragments")]
    TooManyFragments { max: u32 },
    #[error("a {0} message came, which is not taken here")]
    OpcodeRefused(Opcode),
    #[error("{0} came faster than they may")]
    TooFast(Traffic),
    #[error("a text message is not UTF-8")]
    TextNotUtf8,
    #[error("a close payload of 1 byte came; it is empty or starts with a code of 2 bytes")]
    ClosePayloadCut,
    #[error("close code {0} must not be on the wire")]
    CloseCodeInvalid(u16),
    #[error("a close reason is not UTF-8")]
    CloseReasonNotUtf8,
}

/// What has a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Messages,
    Bytes,
    ControlFrames,
}

impl fmt::Display for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Traffic::Messages => "messages",
            Traffic::Bytes => "bytes",
            Traffic::ControlFrames => "control frames",
        })
    }
}

impl Violation {
    /// The code to close the connection with (RFC 6455, section 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Violation::ReservedBits(_)
            | Violation::ReservedOpcode(_)
            | Violation::NotMasked
            | Violation::Masked
            | Violation::LengthNotMinimal(_)
            | Violation::LengthOverflow(_)
            | Violation::ControlFragmented(_)
            | Violation::ControlTooLong { .. }
            | Violation::ContinuationWithoutStart
            | Violation::MessageNotFinished(_)
            | Violation::ClosePayloadCut
            | Violation::CloseCodeInvalid(_) => CloseCode::PROTOCOL_ERROR,
            Violation::OpcodeRefused(_) => CloseCode::UNSUPPORTED,
            Violation::TooFast(_) => CloseCode::POLICY,
            Violation::TextNotUtf8 | Violation::CloseReasonNotUtf8 => CloseCode::INVALID_PAYLOAD,
            Violation::FrameTooBig { .. }
            | Violation::MessageTooBig { .. }
            | Violation::TooManyFragments { .. } => CloseCode::TOO_BIG,
        }
    }
}
