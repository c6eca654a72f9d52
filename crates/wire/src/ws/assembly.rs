//! What a decoder keeps while something is incomplete: a cut header, a cut frame, the fragments of
//! a message. A connection between messages has no assembly.

use std::mem;

use crate::Violation;
use crate::ws::frame::{FrameHeader, HEADER_BYTES_MAX, Opcode};
use crate::ws::mask::apply_mask;
use crate::ws::message::{Event, Payload};

/// Everything that is incomplete at the end of the input.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub place: Place,
    /// The payload of a cut control frame, apart from the message it may stand in the middle of.
    pub control: Vec<u8>,
    pub message: Option<Message>,
}

/// Where in the stream of frames the input ended.
#[derive(Debug, Default)]
pub(super) enum Place {
    #[default]
    Boundary,
    Header(CutHeader),
    Payload(Frame),
}

/// The first bytes of a header.
#[derive(Debug, Default)]
pub(super) struct CutHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    count: usize,
}

/// A frame whose header was found good, and how much of its payload has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub header: FrameHeader,
    pub opcode: Opcode,
    pub received: u64,
}

/// A message whose end has not come.
#[derive(Debug)]
pub(super) struct Message {
    opcode: Opcode,
    pub bytes: Vec<u8>,
    pub fragments: u32,
    /// How many of `bytes` are whole characters; the rest, at most 3, may become one.
    checked: usize,
}

impl Assembly {
    pub fn is_empty(&self) -> bool {
        matches!(self.place, Place::Boundary) && self.message.is_none()
    }
}

impl CutHeader {
    /// Adds what `input` has of the header, and takes it from there. `None` asks for more.
    pub fn go_on(&mut self, input: &mut &mut [u8]) -> Result<Option<FrameHeader>, Violation> {
        let had = self.count;
        let end = HEADER_BYTES_MAX.min(had + input.len());
        self.bytes[had..end].copy_from_slice(&input[..end - had]);
        let parsed = FrameHeader::parse(&self.bytes[..end])?;
        self.count = parsed.map_or(end, |(_, header_bytes)| header_bytes);
        take(input, self.count - had);
        Ok(parsed.map(|(header, _)| header))
    }
}

impl Frame {
    /// Cuts the payload bytes off `input` that belong to this frame, and unmasks them.
    pub fn take_payload<'i>(&mut self, input: &mut &'i mut [u8]) -> &'i mut [u8] {
        let count = self.payload_left().min(input.len() as u64) as usize;
        let piece = take(input, count);
        if let Some(mask) = self.header.mask {
            apply_mask(piece, mask, self.received as usize);
        }
        self.received += count as u64;
        piece
    }

    pub fn payload_left(&self) -> u64 {
        self.header.length - self.received
    }

    pub fn has_ended(&self) -> bool {
        self.received == self.header.length
    }

    /// Whether `piece`, the one taken last, is the whole payload.
    pub fn is_whole_in(&self, piece: &[u8]) -> bool {
        piece.len() as u64 == self.header.length
    }
}

impl Message {
    pub fn new(opcode: Opcode) -> Message {
        Message { opcode, bytes: Vec::new(), fragments: 1, checked: 0 }
    }

    /// Adds `piece`. `bytes_max` is how long the message can still become.
    ///
    /// Text is checked as it comes, so that a peer learns of its mistake before it has sent the
    /// rest of a long frame.
    pub fn append(&mut self, piece: &[u8], bytes_max: u64) -> Result<(), Violation> {
        let needed = self.bytes.len() + piece.len();
        if needed > self.bytes.capacity() {
            // Doubles, as a length is only a promise, but not beyond what was promised.
            let doubled = (2 * self.bytes.len() as u64).min(bytes_max) as usize;
            self.bytes.reserve_exact(needed.max(doubled) - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        if self.opcode != Opcode::Text {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::TextNotUtf8),
        }
        Ok(())
    }

    pub fn finish<'i>(self) -> Result<Event<'i>, Violation> {
        let payload = Payload::Assembled(self.bytes);
        match self.opcode {
            Opcode::Text if self.checked < payload.len() => Err(Violation::TextNotUtf8),
            Opcode::Text => Ok(Event::Text(payload)),
            _ => Ok(Event::Binary(payload)),
        }
    }
}

/// Cuts the first `count` bytes off `input`.
pub(super) fn take<'i>(input: &mut &'i mut [u8], count: usize) -> &'i mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(count);
    *input = rest;
    taken
}
