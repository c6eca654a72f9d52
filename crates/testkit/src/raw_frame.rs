//! Frames built bit by bit, by rules of their own: also those that no peer may send.

/// A frame as it is about to be on the wire.
#[derive(Clone, Debug)]
pub struct RawFrame {
    is_final: bool,
    rsv: u8,
    opcode: u8,
    is_mask_wrong: bool,
    spelling: Option<Spelling>,
    announced: Option<u64>,
    payload: Vec<u8>,
}

/// Who sends a frame, which decides whether it has to be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// In how many bytes a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    Two,
    Eight,
}

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

impl RawFrame {
    /// A whole message or control frame, such as any peer may send.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            is_final: true,
            rsv: 0,
            opcode,
            is_mask_wrong: false,
            spelling: None,
            announced: None,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// A Close of this code and reason.
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// Without FIN.
    pub fn unfinished(mut self) -> Self {
        self.is_final = false;
        self
    }

    /// With these reserved bits, of which 0b100 is RSV1.
    pub fn rsv(mut self, bits: u8) -> Self {
        self.rsv = bits;
        self
    }

    /// Masked by a server, not masked by a client.
    pub fn wrongly_masked(mut self) -> Self {
        self.is_mask_wrong = true;
        self
    }

    /// With a length in this many bytes, whether or not it needs them.
    pub fn spelt(mut self, spelling: Spelling) -> Self {
        self.spelling = Some(spelling);
        self
    }

    /// Announces this length, whatever the payload has.
    pub fn announcing(mut self, length: u64) -> Self {
        self.announced = Some(length);
        self
    }

    /// Its bytes, from `side`.
    pub fn bytes(&self, side: Side) -> Vec<u8> {
        let is_masked = (side == Side::Client) != self.is_mask_wrong;
        let length = self.announced.unwrap_or(self.payload.len() as u64);
        let spelling = self.spelling.or(match length {
            0..126 => None,
            126..0x1_0000 => Some(Spelling::Two),
            _ => Some(Spelling::Eight),
        });
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let mut bytes = vec![u8::from(self.is_final) << 7 | self.rsv << 4 | self.opcode];
        match spelling {
            None => bytes.push(mask_bit | length as u8),
            Some(Spelling::Two) => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            Some(Spelling::Eight) => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if is_masked {
            bytes.extend(MASK);
            bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(it, mask)| it ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

const MASK: [u8; 4] = [0xA1, 0x5B, 0x0C, 0xE7];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_on_the_wire_as_it_was_asked_for() {
        let hello = RawFrame::new(TEXT, "Hello");
        assert_eq!(hello.bytes(Side::Server), b"\x81\x05Hello");
        assert_eq!(hello.bytes(Side::Client)[..6], [0x81, 0x85, 0xA1, 0x5B, 0x0C, 0xE7]);
        let odd = RawFrame::new(0xB, "").unfinished().rsv(0b110).announcing(1 << 63);
        assert_eq!(odd.bytes(Side::Server), [0x6B, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        let long = RawFrame::new(PING, "x").spelt(Spelling::Two).wrongly_masked();
        assert_eq!(long.bytes(Side::Client), [0x89, 126, 0, 1, b'x']);
    }
}
