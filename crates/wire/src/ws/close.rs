//! Why a WebSocket closes: the code, the reason, and the frame that carries them.

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;

use crate::Violation;
use crate::ws::frame::{self, CONTROL_BYTES_MAX, Opcode};
use crate::ws::message::Payload;

/// A status code of RFC 6455, section 7.4. Any number; [`CloseCode::is_sendable`] tells which may
/// be on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    pub const NORMAL: CloseCode = CloseCode(1000);
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// Stands for a Close without a code; never on the wire.
    pub const NO_STATUS: CloseCode = CloseCode(1005);
    /// Stands for a connection that ended without a Close; never on the wire.
    pub const ABNORMAL: CloseCode = CloseCode(1006);
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    pub const POLICY: CloseCode = CloseCode(1008);
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    pub const EXTENSION_MISSING: CloseCode = CloseCode(1010);
    pub const INTERNAL: CloseCode = CloseCode(1011);
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);
    /// IANA's registry, after 401: credentials are missing, or do not hold any more.
    pub const UNAUTHORIZED: CloseCode = CloseCode(3000);
    /// IANA's registry, after 403: the client may not be here.
    pub const FORBIDDEN: CloseCode = CloseCode(3003);

    pub const fn new(code: u16) -> CloseCode {
        CloseCode(code)
    }

    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the code may be in a Close frame: what RFC 6455, section 7.4 and the registry of
    /// IANA define, and the ranges left to libraries and applications.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Appends a Close frame, masked if a mask is given.
///
/// The reason is cut to what fits, between two characters. A code that must not be sent stands for
/// "no code", so the frame is empty then.
pub fn encode_close(code: CloseCode, reason: &str, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let mut payload = [0; CONTROL_BYTES_MAX];
    let mut end = 0;
    if code.is_sendable() {
        let mut reason_bytes = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(reason_bytes) {
            reason_bytes -= 1;
        }
        end = 2 + reason_bytes;
        payload[..2].copy_from_slice(&code.0.to_be_bytes());
        payload[2..end].copy_from_slice(&reason.as_bytes()[..reason_bytes]);
    }
    match mask {
        Some(mask) => frame::encode_frame_masked(Opcode::Close, &payload[..end], mask, out),
        None => frame::encode_frame(Opcode::Close, &payload[..end], out),
    }
}

/// Reads an unmasked Close payload: no code, or a code and a reason.
pub(super) fn parse_payload(
    payload: Payload<'_>,
) -> Result<(Option<CloseCode>, Cow<'_, str>), Violation> {
    let code = match *payload {
        [] => return Ok((None, Cow::Borrowed(""))),
        [_] => return Err(Violation::ClosePayloadCut),
        [high, low, ..] => check_code(u16::from_be_bytes([high, low]))?,
    };
    let reason = match payload {
        Payload::Borrowed(bytes) => std::str::from_utf8(&bytes[2..]).map(Cow::Borrowed),
        Payload::Assembled(bytes) => {
            std::str::from_utf8(&bytes[2..]).map(|text| text.to_owned().into())
        }
    };
    match reason {
        Ok(reason) => Ok((Some(code), reason)),
        Err(_) => Err(Violation::CloseReasonNotUtf8),
    }
}

/// A code that is in a Close frame must be one that may be.
pub(super) fn check_code(code: u16) -> Result<CloseCode, Violation> {
    let code = CloseCode(code);
    if code.is_sendable() { Ok(code) } else { Err(Violation::CloseCodeInvalid(code.0)) }
}

/// What a control frame leaves beside the code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(code: CloseCode, reason: &str) -> BytesMut {
        let mut out = BytesMut::new();
        encode_close(code, reason, None, &mut out);
        out
    }

    #[test]
    fn the_codes_on_the_wire_are_those_that_autobahn_accepts() {
        for valid in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            assert!(CloseCode::new(valid).is_sendable(), "{valid}");
        }
        for valid in [3000, 3999, 4000, 4999] {
            assert!(CloseCode::new(valid).is_sendable(), "{valid}");
        }
        for invalid in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!CloseCode::new(invalid).is_sendable(), "{invalid}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters_to_fit_the_frame() {
        let frame = encoded(CloseCode::NORMAL, &"x".repeat(200));
        assert_eq!(frame[..4], [0x88, 125, 0x03, 0xE8]);
        assert_eq!(frame.len(), 2 + 125);

        // 123 is no multiple of 2, so the 62nd character does not fit.
        let frame = encoded(CloseCode::NORMAL, &"é".repeat(62));
        assert_eq!(frame[1], 124);
        assert_eq!(frame[4..], *"é".repeat(61).as_bytes());
    }

    #[test]
    fn a_code_that_must_not_be_sent_gives_an_empty_close() {
        assert_eq!(encoded(CloseCode::NO_STATUS, "ignored")[..], [0x88, 0]);
        assert_eq!(encoded(CloseCode::ABNORMAL, "")[..], [0x88, 0]);
    }

    #[test]
    fn a_client_masks_its_close() {
        let mut out = BytesMut::new();
        encode_close(CloseCode::GOING_AWAY, "", Some([0xFF, 0, 0, 0]), &mut out);
        assert_eq!(out[..], [0x88, 0x82, 0xFF, 0, 0, 0, 0x03 ^ 0xFF, 0xE9]);
    }
}
