//! Follows the frames of a tunnel from outside: one direction, in place, touching nothing.
//!
//! A tunnel forwards bytes as they are, and the cursor judges nothing: that is left to `judge`,
//! where a route has limits. It knows where frames end, which is where a Close may be put in, how
//! many messages have passed, and with which code a peer said goodbye.

use crate::Violation;
use crate::ws::close::CloseCode;
use crate::ws::frame::{
    FIN_BIT, FrameHeader, HEADER_BYTES_MAX, LENGTH_BITS, LENGTH_IN_2_BYTES, LENGTH_IN_8_BYTES,
    MASK_BIT, OPCODE_BITS, Opcode, check_length,
};

/// The place in a stream of frames. Small, because every tunnel has two.
///
/// Invariant: a frame is in its head or in its payload, so `cut_bytes` or `payload_left` is 0.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    payload_left: u64,
    messages: u64,
    /// A head whose end has not come; the first `cut_bytes` are filled.
    cut: [u8; HEAD_BYTES_MAX],
    cut_bytes: u8,
    ends_message: bool,
    is_lost: bool,
    has_close: bool,
    /// 0, which no peer can mean, stands for none.
    close_code: u16,
}

impl Cursor {
    /// At a boundary, with nothing seen.
    pub fn new() -> Cursor {
        Cursor::default()
    }

    /// Follows `bytes`, the next ones of this direction.
    #[inline]
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.advance_frame(bytes);
            bytes = &bytes[passed..];
        }
    }

    /// Follows `bytes` to the end of the frame they start in or with, and says how many that took.
    #[inline]
    pub fn advance_frame(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        if self.payload_left == 0 {
            let head = match self.cut_bytes {
                0 if !self.is_lost => Head::read(bytes),
                _ => return self.advance_cut(bytes),
            };
            let Some(head) = head else {
                return self.advance_cut(bytes);
            };
            self.enter(&head);
            passed = head.bytes;
        }
        passed + self.pass_payload(bytes.len() - passed)
    }

    /// Whether the bytes so far end with a whole frame, or there were none.
    #[inline]
    pub fn is_at_boundary(&self) -> bool {
        self.payload_left == 0 && self.cut_bytes == 0 && !self.is_lost
    }

    /// Whether the stream stopped being frames: a length had its highest bit set.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The text and binary messages whose last byte has passed.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether a Close frame has passed; what follows it is noise to its receiver.
    pub fn has_close(&self) -> bool {
        self.has_close
    }

    /// The code of the first Close frame: 1005 if it was empty, `None` if it held half a code.
    pub fn close_code(&self) -> Option<u16> {
        (self.close_code != 0).then_some(self.close_code)
    }

    #[inline]
    pub(super) fn enter(&mut self, head: &Head) {
        if head.is_lost() {
            return self.lose();
        }
        self.payload_left = head.payload_left;
        self.ends_message = head.ends_message();
        if head.is_close() {
            self.note_close(head.close_code);
        }
    }

    /// Follows the payload of the present frame through `available` bytes, and says how many of them
    /// are of it.
    #[inline]
    pub fn pass_payload(&mut self, available: usize) -> usize {
        let passed = self.payload_left.min(available as u64);
        self.payload_left -= passed;
        if self.payload_left == 0 {
            self.messages += u64::from(std::mem::take(&mut self.ends_message));
        }
        passed as usize
    }

    /// The rare way: the head is cut by the end of the bytes, before or after them.
    #[cold]
    fn advance_cut(&mut self, bytes: &[u8]) -> usize {
        if self.is_lost {
            return bytes.len();
        }
        let had = usize::from(self.cut_bytes);
        let taken = bytes.len().min(HEAD_BYTES_MAX - had);
        self.cut[had..had + taken].copy_from_slice(&bytes[..taken]);
        let Some(head) = Head::read(&self.cut[..had + taken]) else {
            self.cut_bytes = (had + taken) as u8;
            return taken;
        };
        self.cut_bytes = 0;
        self.enter(&head);
        let passed = head.bytes - had;
        passed + self.pass_payload(bytes.len() - passed)
    }

    #[cold]
    fn lose(&mut self) {
        self.is_lost = true;
        self.ends_message = false;
    }

    #[cold]
    fn note_close(&mut self, code: u16) {
        if !self.has_close {
            self.has_close = true;
            self.close_code = code;
        }
    }
}

/// A frame's header and, in a Close frame, the code behind it.
///
/// Taking the code as part of the head spares a state for a code that is cut in two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// As it is written, which may be against the rules.
    pub header: FrameHeader,
    /// How many bytes it takes, with the code.
    pub bytes: usize,
    /// 1005 for none, 0 for half of one.
    pub close_code: u16,
    payload_left: u64,
    length_bytes: usize,
}

impl Head {
    /// `None` asks for more bytes. Spelling and size are for others to judge.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let [first, second, after @ ..] = bytes else {
            return None;
        };
        let (length, length_bytes) = match second & LENGTH_BITS {
            LENGTH_IN_2_BYTES => (u64::from(u16::from_be_bytes(*after.first_chunk()?)), 2),
            LENGTH_IN_8_BYTES => (u64::from_be_bytes(*after.first_chunk()?), 8),
            short => (u64::from(short), 0),
        };
        let mask = match second & MASK_BIT {
            0 => None,
            _ => Some(*after[length_bytes..].first_chunk()?),
        };
        let header = FrameHeader {
            fin: first & FIN_BIT != 0,
            rsv: first >> 4 & 0b111,
            opcode: first & OPCODE_BITS,
            mask,
            length,
        };
        let bytes = 2 + length_bytes + if mask.is_some() { 4 } else { 0 };
        let head = Head { header, bytes, close_code: 0, payload_left: length, length_bytes };
        if head.is_close() {
            return head.read_close(after);
        }
        Some(head)
    }

    /// Checks that the length is spelled as it must be.
    #[inline]
    pub fn check_length(&self) -> Result<(), Violation> {
        check_length(self.header.length, self.length_bytes)
    }

    #[inline]
    fn is_lost(&self) -> bool {
        self.header.length >> 63 != 0
    }

    #[inline]
    fn is_close(&self) -> bool {
        self.header.opcode == Opcode::Close as u8 && !self.is_lost()
    }

    #[inline]
    fn ends_message(&self) -> bool {
        self.header.fin && self.header.opcode <= Opcode::Binary as u8
    }

    /// Takes the code out of `after`, which starts with the length.
    #[cold]
    fn read_close(mut self, after: &[u8]) -> Option<Head> {
        let code_bytes = self.payload_left.min(2) as usize;
        let at = self.bytes - 2;
        let code = after.get(at..at + code_bytes)?;
        let mask = self.header.mask.unwrap_or_default();
        self.close_code = match *code {
            [high, low] => u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]),
            [] => CloseCode::NO_STATUS.as_u16(),
            _ => 0,
        };
        self.bytes += code_bytes;
        self.payload_left -= code_bytes as u64;
        Some(self)
    }
}

/// The longest header, and a close code.
pub const HEAD_BYTES_MAX: usize = HEADER_BYTES_MAX + 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a cursor knows: messages, code, boundary.
    type Known = (u64, Option<u16>, bool);

    fn known(cursor: &Cursor) -> Known {
        (cursor.messages(), cursor.close_code(), cursor.is_at_boundary())
    }

    /// Whole, cut in two at each byte, and byte by byte.
    fn check(bytes: &[u8], expected: Known) {
        for cut in 0..=bytes.len() {
            let mut cursor = Cursor::new();
            cursor.advance(&bytes[..cut]);
            cursor.advance(&bytes[cut..]);
            assert_eq!(known(&cursor), expected, "{bytes:x?} cut at {cut}");
        }
        let mut cursor = Cursor::new();
        bytes.chunks(1).for_each(|byte| cursor.advance(byte));
        assert_eq!(known(&cursor), expected, "{bytes:x?} byte by byte");
    }

    #[test]
    fn the_state_stays_small() {
        assert!(size_of::<Cursor>() <= 40, "{}", size_of::<Cursor>());
    }

    #[test]
    fn messages_are_counted_when_their_last_byte_has_passed() {
        check(b"", (0, None, true));
        check(b"\x81\x02hi", (1, None, true));
        check(b"\x81\x02h", (0, None, false));
        check(b"\x81\x00", (1, None, true));
        check(b"\x81\x82\x01\x02\x03\x04hi\x82\x80\x01\x02\x03\x04", (2, None, true));
        check(b"\x81\x02hi\x81", (1, None, false));
    }

    #[test]
    fn fragments_are_one_message_and_control_frames_are_none() {
        check(b"\x01\x01a\x00\x00\x89\x03abc\x80\x01b\x8A\x00", (1, None, true));
        check(b"\x01\x01a\x00\x01b", (0, None, true));
    }

    #[test]
    fn long_payloads_are_followed_without_being_there() {
        let mut cursor = Cursor::new();
        cursor.advance(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]);
        let piece = vec![0x81; 1 << 20];
        for _ in 0..(1 << 12) - 1 {
            cursor.advance(&piece);
        }
        assert_eq!(known(&cursor), (0, None, false));
        cursor.advance(&piece);
        assert_eq!(known(&cursor), (1, None, true));
    }

    #[test]
    fn a_close_code_is_read_through_the_mask() {
        check(b"\x88\x02\x03\xE9", (0, Some(1001), true));
        check(b"\x88\x82\x01\x02\x03\x04\x02\xEB", (0, Some(1001), true));
        check(b"\x88\x85\x01\x02\x03\x04\x02\xEBbye", (0, Some(1001), true));
        check(b"\x88\x00", (0, Some(1005), true));
        check(b"\x88\x80\x01\x02\x03\x04", (0, Some(1005), true));
    }

    #[test]
    fn the_first_close_counts_and_half_a_code_is_none() {
        check(b"\x88\x02\x03\xE9\x88\x02\x03\xE8", (0, Some(1001), true));
        check(b"\x88\x01\x03\x88\x02\x03\xE8", (0, None, true));
        let mut cursor = Cursor::new();
        assert!(!cursor.has_close());
        cursor.advance(b"\x88\x01\x03");
        assert!(cursor.has_close());
    }

    #[test]
    fn what_only_a_receiver_may_judge_is_followed() {
        // A length in more bytes than needed, reserved bits, a reserved opcode.
        check(b"\x81\x7E\x00\x02hi\xF1\x01a\x83\x01b", (2, None, true));
        // A ping in 8 length bytes; a Close in 2 and, the longest head, in 8.
        check(b"\x89\x7F\0\0\0\0\0\0\0\x01a\x81\x00", (1, None, true));
        check(b"\x88\xFE\x00\x02\x00\x00\x00\x00\x03\xE8\x81\x00", (1, Some(1000), true));
        check(b"\x88\xFF\0\0\0\0\0\0\0\x03\0\0\0\0\x03\xE8a\x81\x00", (1, Some(1000), true));
    }

    #[test]
    fn a_length_of_64_bits_loses_the_stream_for_good() {
        let bytes = b"\x81\x00\x82\x7F\x80\0\0\0\0\0\0\0\x81\x00\x88\x00";
        check(bytes, (1, None, false));
        let mut cursor = Cursor::new();
        cursor.advance(bytes);
        assert!(cursor.is_lost());
    }

    #[test]
    fn a_frame_at_a_time_stops_at_each_boundary() {
        let bytes = b"\x81\x02hi\x88\x02\x03\xE8\x82\x00\x82";
        let mut cursor = Cursor::new();
        let mut passed = 0;
        for end in [4, 8, 10, 11] {
            passed += cursor.advance_frame(&bytes[passed..]);
            assert_eq!((passed, cursor.is_at_boundary()), (end, end < 11));
        }
        assert_eq!(cursor.advance_frame(b"\x05hello!"), 6);
        assert!(cursor.is_at_boundary());
    }
}
