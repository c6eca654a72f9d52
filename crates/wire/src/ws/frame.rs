//! The frame: its header on the wire (RFC 6455, section 5.2) and whole frames to send.
//!
//! A header is parsed as far as it is grammar. Whether its opcode, reserved bits and mask are
//! allowed depends on who reads: `message` decides that for an endpoint.

use std::fmt;

use bytes::BytesMut;

use crate::Violation;
use crate::ws::mask::apply_mask;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    /// Close, Ping and Pong may stand between the fragments of a message.
    pub const fn is_control(self) -> bool {
        self as u8 & CONTROL_BIT != 0
    }
}

impl From<Opcode> for u8 {
    fn from(opcode: Opcode) -> u8 {
        opcode as u8
    }
}

impl TryFrom<u8> for Opcode {
    type Error = Violation;

    fn try_from(nibble: u8) -> Result<Opcode, Violation> {
        match nibble {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xA => Ok(Opcode::Pong),
            other => Err(Violation::ReservedOpcode(other)),
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Opcode::Continuation => "continuation",
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub fin: bool,
    /// RSV1, RSV2 and RSV3, from bit 2 down to bit 0.
    pub rsv: u8,
    /// The raw nibble, which need not be an [`Opcode`].
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// The number of payload bytes that follow.
    pub length: u64,
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`, and how many bytes it takes. `None` asks for more.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, Violation> {
        let [first, second, after @ ..] = bytes else {
            return Ok(None);
        };
        let Some((length, length_bytes)) = parse_length(second & LENGTH_BITS, after)? else {
            return Ok(None);
        };
        let mut header_bytes = 2 + length_bytes;
        let mut mask = None;
        if second & MASK_BIT != 0 {
            mask = after[length_bytes..].first_chunk::<4>().copied();
            if mask.is_none() {
                return Ok(None);
            }
            header_bytes += 4;
        }
        let header = FrameHeader {
            fin: first & FIN_BIT != 0,
            rsv: first >> 4 & 0b111,
            opcode: first & OPCODE_BITS,
            mask,
            length,
        };
        Ok(Some((header, header_bytes)))
    }

    /// Appends the header in its one legal form, the shortest.
    #[inline]
    pub fn encode(&self, out: &mut BytesMut) {
        debug_assert!(self.length >> 63 == 0, "a length has 63 bits");
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = u8::from(self.fin) << 7 | (self.rsv & 0b111) << 4 | self.opcode & OPCODE_BITS;
        let mut end = match self.length {
            0..=125 => {
                bytes[1] = self.length as u8;
                2
            }
            126..=0xFFFF => {
                bytes[1] = LENGTH_IN_2_BYTES;
                bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = LENGTH_IN_8_BYTES;
                bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            bytes[1] |= MASK_BIT;
            bytes[end..end + 4].copy_from_slice(&mask);
            end += 4;
        }
        out.extend_from_slice(&bytes[..end]);
    }
}

/// Appends a whole message in one frame, as a server sends it: not masked.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    header_of(opcode, payload, None).encode(out);
    out.extend_from_slice(payload);
}

/// Appends a whole message in one frame, as a client sends it: masked.
pub fn encode_frame_masked(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut BytesMut) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    header_of(opcode, payload, Some(mask)).encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask, 0);
}

fn header_of(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> FrameHeader {
    FrameHeader { fin: true, rsv: 0, opcode: opcode.into(), mask, length: payload.len() as u64 }
}

/// The payload length, and how many bytes after the first two it takes.
#[inline]
fn parse_length(seven_bits: u8, after: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, length_bytes) = match seven_bits {
        LENGTH_IN_2_BYTES => match after.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            None => return Ok(None),
        },
        LENGTH_IN_8_BYTES => match after.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => return Ok(Some((u64::from(short), 0))),
    };
    check_length(length, length_bytes)?;
    Ok(Some((length, length_bytes)))
}

/// Two spellings of one length are two readings of one stream: RFC 6455, section 5.2 allows only
/// the shortest, and a length of 63 bits.
#[inline]
pub(super) fn check_length(length: u64, length_bytes: usize) -> Result<(), Violation> {
    let least = match length_bytes {
        0 => return Ok(()),
        2 => 126,
        _ => 0x1_0000,
    };
    if length >> 63 != 0 {
        return Err(Violation::LengthOverflow(length));
    }
    if length < least {
        return Err(Violation::LengthNotMinimal(length));
    }
    Ok(())
}

/// Two bytes, a length of 8 bytes and a mask of 4.
pub const HEADER_BYTES_MAX: usize = 14;
/// The most that a control frame carries (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

pub(super) const FIN_BIT: u8 = 0x80;
pub(super) const MASK_BIT: u8 = 0x80;
pub(super) const CONTROL_BIT: u8 = 0x08;
pub(super) const OPCODE_BITS: u8 = 0x0F;
pub(super) const LENGTH_BITS: u8 = 0x7F;
pub(super) const LENGTH_IN_2_BYTES: u8 = 126;
pub(super) const LENGTH_IN_8_BYTES: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: &FrameHeader) -> BytesMut {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        out
    }

    #[test]
    fn every_header_is_read_back_and_its_prefixes_ask_for_more() {
        let lengths = [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, u64::from(u32::MAX), (1 << 63) - 1];
        for (index, length) in lengths.into_iter().enumerate() {
            for mask in [None, Some([1, 2, 3, 4])] {
                let rsv = index as u8 & 0b111;
                let header = FrameHeader { fin: rsv & 1 == 0, rsv, opcode: 0xF, mask, length };
                let bytes = encoded(&header);
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHeader::parse(&bytes[..cut]), Ok(None), "{header:?}");
                }
                assert_eq!(FrameHeader::parse(&bytes), Ok(Some((header, bytes.len()))));
            }
        }
    }

    #[test]
    fn a_length_has_one_spelling_of_63_bits() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(FrameHeader::parse(bytes), Err(expected), "{bytes:x?}");
        };
        check(&[0x82, 126, 0, 0], Violation::LengthNotMinimal(0));
        check(&[0x82, 126, 0, 125], Violation::LengthNotMinimal(125));
        check(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5], Violation::LengthNotMinimal(5));
        check(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Violation::LengthNotMinimal(0xFFFF));
        check(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::LengthOverflow(1 << 63));
        check(&[0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 1], Violation::LengthOverflow(0xFF << 56 | 1));
    }

    #[test]
    fn frames_are_those_of_rfc_6455_section_5_7() {
        let mut out = BytesMut::new();
        encode_frame(Opcode::Text, b"Hello", &mut out);
        assert_eq!(out[..], *b"\x81\x05Hello");

        out.clear();
        encode_frame_masked(Opcode::Text, b"Hello", [0x37, 0xFA, 0x21, 0x3D], &mut out);
        assert_eq!(out[..], *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");

        out.clear();
        encode_frame(Opcode::Binary, &[0; 256], &mut out);
        assert_eq!(out[..4], [0x82, 0x7E, 0x01, 0x00]);

        out.clear();
        encode_frame(Opcode::Binary, &[0; 65536], &mut out);
        assert_eq!(out[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn an_opcode_is_its_nibble_or_reserved() {
        for nibble in 0..=0xF {
            match Opcode::try_from(nibble) {
                Ok(opcode) => {
                    assert_eq!(u8::from(opcode), nibble);
                    assert_eq!(opcode.is_control(), nibble >= 8);
                }
                Err(violation) => {
                    assert!(matches!(nibble, 3..=7 | 0xB..=0xF), "{nibble}");
                    assert_eq!(violation, Violation::ReservedOpcode(nibble));
                }
            }
        }
    }
}
