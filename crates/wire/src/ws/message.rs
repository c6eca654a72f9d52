//! The decoder of an endpoint: bytes of one peer in, whole messages and control frames out, or the
//! rule of RFC 6455 that the peer broke.
//!
//! ```text
//!                 ┌── a whole frame that is a whole message: unmasked in place, borrowed
//! input ── frame ─┼── a whole control frame: the same
//!                 └── anything cut by the end of the input, or in fragments ── assembly ── owned
//! ```
//!
//! Between messages nothing is held but limits. Nothing is allocated on the word of a header: an
//! assembly grows with the bytes that have come, and its limits are checked against the header
//! before that.

use std::borrow::Cow;
use std::mem;
use std::ops::Deref;

use bytes::Bytes;

use crate::Violation;
use crate::ws::assembly::{Assembly, CutHeader, Frame, Message, Place, take};
use crate::ws::close::{self, CloseCode};
use crate::ws::frame::{FrameHeader, Opcode};
use crate::ws::rules::{self, Extensions};

/// The side that decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads from a client, whose frames are masked.
    Server,
    /// Reads from a server, whose frames are not.
    Client,
}

/// What one message may cost. All are checked when a header is read, before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub frame_bytes_max: u64,
    pub message_bytes_max: u64,
    /// Empty fragments count, as they cost time and no bytes. A message in one frame has one.
    pub fragments_max: u32,
}

/// What came in, whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// UTF-8, checked.
    Text(Payload<'i>),
    Binary(Payload<'i>),
    Ping(Payload<'i>),
    Pong(Payload<'i>),
    /// The last event. No code means that the peer gave none.
    Close {
        code: Option<CloseCode>,
        reason: Cow<'i, str>,
    },
}

/// An unmasked payload: where it came in if it was whole there, else assembled.
#[derive(Debug)]
pub enum Payload<'i> {
    Borrowed(&'i [u8]),
    Assembled(Vec<u8>),
}

/// Reads the frames of one peer.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    limits: Limits,
    is_over: bool,
    /// Boxed, as a connection between messages has none.
    assembly: Option<Box<Assembly>>,
}

impl Decoder {
    pub fn new(role: Role, limits: Limits) -> Decoder {
        Decoder { role, limits, is_over: false, assembly: None }
    }

    /// Takes the next event out of `input`, moving it on. `None` means that `input` is used up.
    ///
    /// A payload is unmasked where it lies, so a piece of input is given once. After a Close or a
    /// violation what follows is thrown away (RFC 6455, sections 1.4 and 7.1.7).
    #[inline]
    pub fn next<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Event<'i>>, Violation> {
        if self.is_over {
            *input = &mut [];
            return Ok(None);
        }
        let result = self.decode(input);
        self.is_over = matches!(result, Err(_) | Ok(Some(Event::Close { .. })));
        if self.assembly.as_ref().is_some_and(|assembly| self.is_over || assembly.is_empty()) {
            self.assembly = None;
        }
        result
    }

    /// Whether a Close or a violation has ended the stream.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether nothing is held: no part of a frame, no fragment of a message.
    pub fn is_idle(&self) -> bool {
        self.assembly.is_none()
    }

    fn decode<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Event<'i>>, Violation> {
        while !input.is_empty() {
            let Some(mut frame) = self.next_frame(input)? else {
                continue;
            };
            let piece = frame.take_payload(input);
            // With nothing of a message kept, its payload can still be borrowed if it comes whole.
            if piece.is_empty() && !frame.has_ended() {
                self.assembly_mut().place = Place::Payload(frame);
                continue;
            }
            let event = match frame.opcode.is_control() {
                true => self.take_control(frame, piece)?,
                false => self.take_data(frame, piece)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The frame whose payload is next in `input`; `None` if its header goes on after it.
    fn next_frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        let place = match &mut self.assembly {
            Some(assembly) => mem::take(&mut assembly.place),
            None => Place::Boundary,
        };
        let header = match place {
            Place::Payload(frame) => return Ok(Some(frame)),
            Place::Boundary => match FrameHeader::parse(input)? {
                Some((header, header_bytes)) => {
                    take(input, header_bytes);
                    Some(header)
                }
                None => self.cut_header(CutHeader::default(), input)?,
            },
            Place::Header(cut) => self.cut_header(cut, input)?,
        };
        header.map(|header| self.begin(header)).transpose()
    }

    #[cold]
    fn cut_header(
        &mut self,
        mut cut: CutHeader,
        input: &mut &mut [u8],
    ) -> Result<Option<FrameHeader>, Violation> {
        let header = cut.go_on(input)?;
        if header.is_none() {
            self.assembly_mut().place = Place::Header(cut);
        }
        Ok(header)
    }

    /// Everything that a header can be wrong in, before a byte of its payload is looked at.
    fn begin(&mut self, header: FrameHeader) -> Result<Frame, Violation> {
        let opcode = rules::check_frame(self.role, Extensions::None, &header)?;
        match opcode.is_control() {
            true => rules::check_control(opcode, &header)?,
            false => self.begin_data(opcode, &header)?,
        }
        Ok(Frame { header, opcode, received: 0 })
    }

    fn begin_data(&mut self, opcode: Opcode, header: &FrameHeader) -> Result<(), Violation> {
        let message = self.assembly.as_mut().and_then(|assembly| assembly.message.as_mut());
        rules::check_order(opcode, message.is_some())?;
        let (held, fragments) = match message {
            Some(message) => {
                message.fragments = message.fragments.saturating_add(1);
                (message.bytes.len() as u64, message.fragments)
            }
            None => (0, 1),
        };
        rules::check_size(&self.limits, header.length, held, fragments)
    }

    fn take_control<'i>(
        &mut self,
        frame: Frame,
        piece: &'i [u8],
    ) -> Result<Option<Event<'i>>, Violation> {
        let payload = if frame.is_whole_in(piece) {
            Payload::Borrowed(piece)
        } else {
            let assembly = self.assembly_mut();
            assembly.control.extend_from_slice(piece);
            if !frame.has_ended() {
                assembly.place = Place::Payload(frame);
                return Ok(None);
            }
            Payload::Assembled(mem::take(&mut assembly.control))
        };
        Ok(Some(match frame.opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => {
                let (code, reason) = close::parse_payload(payload)?;
                Event::Close { code, reason }
            }
        }))
    }

    fn take_data<'i>(
        &mut self,
        frame: Frame,
        piece: &'i [u8],
    ) -> Result<Option<Event<'i>>, Violation> {
        let is_message = frame.header.fin && frame.opcode != Opcode::Continuation;
        if is_message && frame.is_whole_in(piece) {
            return whole_message(frame.opcode, piece).map(Some);
        }
        let message_bytes_max = self.limits.message_bytes_max;
        let assembly = self.assembly_mut();
        let message = assembly.message.get_or_insert_with(|| Message::new(frame.opcode));
        let bytes_max = match frame.header.fin {
            true => (message.bytes.len() + piece.len()) as u64 + frame.payload_left(),
            false => message_bytes_max,
        };
        message.append(piece, bytes_max)?;
        if !frame.has_ended() {
            assembly.place = Place::Payload(frame);
        } else if frame.header.fin {
            return assembly.message.take().map(Message::finish).transpose();
        }
        Ok(None)
    }

    fn assembly_mut(&mut self) -> &mut Assembly {
        self.assembly.get_or_insert_default()
    }
}

impl Payload<'_> {
    /// The bytes for keeping: copied if they were borrowed, else handed over.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Payload::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Payload::Assembled(bytes) => bytes.into(),
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Assembled(bytes) => bytes,
        }
    }
}

/// Equal if the bytes are: how they came in is not part of what was said.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Payload<'_>) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

fn whole_message(opcode: Opcode, piece: &[u8]) -> Result<Event<'_>, Violation> {
    if opcode != Opcode::Text {
        return Ok(Event::Binary(Payload::Borrowed(piece)));
    }
    match simdutf8::basic::from_utf8(piece) {
        Ok(_) => Ok(Event::Text(Payload::Borrowed(piece))),
        Err(_) => Err(Violation::TextNotUtf8),
    }
}
