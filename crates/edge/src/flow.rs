//! One direction of a tunnel: its bytes and its frames.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewire_runtime::deadline::Tick;
use tidewire_runtime::pump::{Next, Passing, Pump, PumpError};
use tidewire_runtime::socket::Socket;
use tidewire_wire::Violation;
use tidewire_wire::ws::cursor::Cursor;
use tidewire_wire::ws::message::Role;
use tidewire_wire::ws::rules::Extensions;

use crate::inspector::Inspector;
use crate::limits::frame::FrameLimits;
use crate::pings::sieve::Sieve;

/// How far a direction goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// To the end of the frame that it is in. What is read of a stream without pauses hardly ever
    /// ends there by itself.
    ToBoundary,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) pump: Pump,
    pub(crate) frames: Frames,
    /// Of the messages, modulo 2^32: those that [`Flow::take_new_messages`] has told of.
    counted: u32,
    /// Whether the sink has been told that this direction has ended.
    is_told: bool,
}

/// The frames of a direction: those that pass, and those that do not any more.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) cursor: Cursor,
    /// Looks at them, where the route has limits.
    inspector: Option<Inspector>,
    /// Set when something is dropped.
    dropped: Option<Box<Dropped>>,
}

/// What is not passed on. It is followed for the Close that its sender answers with.
#[derive(Debug, Default)]
struct Dropped {
    cursor: Cursor,
    bytes: u64,
}

/// What a direction is held to at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'l> {
    pub(crate) limits: &'l FrameLimits,
    pub(crate) now: Tick,
}

impl Flow {
    /// A direction in which `leftover` was said already, by the peer that `role` reads from.
    pub(crate) fn with_leftover(
        leftover: Bytes,
        role: Role,
        extensions: Extensions,
        terms: Terms<'_>,
    ) -> Self {
        let inspector = match terms.limits.are_off() {
            true => None,
            false => Some(Inspector::new(role, extensions)),
        };
        let mut frames = Frames { cursor: Cursor::new(), inspector, dropped: None };
        let (passed, next) = frames.pass(&leftover, Extent::All, terms);
        let mut pump = Pump::with_leftover(leftover, passed);
        if next == Next::Cut {
            pump.cut();
        }
        Self { pump, frames, counted: 0, is_told: false }
    }

    /// Moves what can be moved.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Socket,
        extent: Extent,
        terms: Terms<'_>,
        mut sieve: Option<&mut Sieve>,
    ) -> Poll<Result<(), PumpError>> {
        if self.pump.is_ended() {
            return Poll::Ready(Ok(()));
        }
        let (frames, is_cut) = (&mut self.frames, self.pump.is_cut());
        if frames.rest(is_cut, terms.now) {
            let _ = self.pump.poll_unsent(cx, sink)?;
            frames.look(source, terms.now).map_err(PumpError::Source)?;
            return Poll::Pending;
        }
        self.pump.poll(cx, source, sink, |buffer, read| {
            let extent = if is_cut { None } else { Some(extent) };
            frames.observe(buffer, read, extent, terms, sieve.as_deref_mut())
        })
    }

    /// Ends what the sink gets, with `close` as the last of it unless it has had a Close already.
    /// False while that would be within a frame.
    pub(crate) fn cut(&mut self, sink: &mut Socket, close: &[u8]) -> io::Result<bool> {
        // One that has ended within a frame has no place for a Close.
        if self.is_told || self.pump.is_ended() && !self.is_at_boundary() {
            return Ok(true);
        }
        if !self.is_at_boundary() {
            return Ok(false);
        }
        let close = if self.has_close() { b"" } else { close };
        match self.pump.is_ended() {
            // Who has said its last word is not read again; a sink that does not take this now has
            // not taken what it was given before.
            true => _ = sink.try_write(close),
            false => self.pump.finish_with(sink, close)?,
        }
        Ok(true)
    }

    /// Whether the sink has to be told that nothing follows; true once.
    pub(crate) fn must_tell(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Whether the direction has ended and the sink is to be told; true once.
    pub(crate) fn ends_now(&mut self) -> bool {
        self.pump.is_ended() && self.must_tell()
    }

    pub(crate) fn is_at_boundary(&self) -> bool {
        self.frames.cursor.is_at_boundary() && !self.pump.has_backlog()
    }

    /// Whether a Close has passed.
    pub(crate) fn has_close(&self) -> bool {
        self.frames.cursor.has_close()
    }

    /// Whether the source has said its Close, passed on or not, or will not say one.
    pub(crate) fn has_source_left(&self) -> bool {
        let dropped = self.frames.dropped.as_ref().map(|dropped| &dropped.cursor);
        self.pump.is_ended()
            || self.has_close()
            || dropped.is_some_and(|cursor| cursor.has_close() || cursor.is_lost())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.has_close() || self.pump.has_source_ended()
    }

    /// What the source did wrong.
    pub(crate) fn refused(&self) -> Option<Violation> {
        self.frames.inspector.as_ref()?.refused()
    }

    /// Until when the source is not read, as it has said more than it may. One whose words are
    /// dropped has not to wait for that, and one that has ended has nothing to say.
    pub(crate) fn paused_until(&self) -> Option<Tick> {
        let until = self.frames.inspector.as_ref()?.paused_until();
        until.filter(|_| !self.pump.is_cut() && !self.pump.has_source_ended())
    }

    /// Since when it is known that the source says nothing new: `Tick::MIN` when all has been read.
    pub(crate) fn source_ended(&self) -> Option<Tick> {
        if self.pump.has_source_ended() {
            return Some(Tick::MIN);
        }
        self.paused_until()?;
        self.frames.inspector.as_ref()?.source_ended()
    }

    /// How often the source had to wait since this was asked last.
    pub(crate) fn take_new_pauses(&mut self) -> u64 {
        self.frames.inspector.as_mut().map_or(0, |inspector| inspector.take_new_pauses())
    }

    pub(crate) fn take_new_messages(&mut self) -> u64 {
        let messages = self.frames.cursor.messages() as u32;
        messages.wrapping_sub(std::mem::replace(&mut self.counted, messages)).into()
    }
}

impl Frames {
    /// Says of a read what passes. Without an extent nothing does.
    fn observe(
        &mut self,
        buffer: &mut [u8],
        read: Range<usize>,
        extent: Option<Extent>,
        terms: Terms<'_>,
        sieve: Option<&mut Sieve>,
    ) -> Passing {
        let mut all = match &mut self.inspector {
            None => read,
            Some(inspector) => inspector.rejoin(buffer, read),
        };
        if let Some(sieve) = sieve {
            all = sieve.rejoin(buffer, all);
            if extent.is_some() && self.dropped.is_none() {
                all = sieve.sift(&self.cursor, buffer, all);
            }
        }
        let start = all.start;
        let bytes = &buffer[all];
        let (passed, next) = match extent {
            Some(extent) if self.dropped.is_none() => self.pass(bytes, extent, terms),
            Some(_) | None => (0, self.drop_bytes(bytes)),
        };
        Passing { bytes: start..start + passed, next }
    }

    fn pass(&mut self, bytes: &[u8], extent: Extent, terms: Terms<'_>) -> (usize, Next) {
        let cursor = &mut self.cursor;
        let (passed, next) = match (extent, &mut self.inspector) {
            (Extent::All, None) => {
                cursor.advance(bytes);
                (bytes.len(), Next::Read)
            }
            (Extent::All, Some(inspector)) => {
                inspector.pass(cursor, bytes, terms.limits, terms.now)
            }
            (Extent::ToBoundary, _) => {
                let passed = match cursor.is_at_boundary() {
                    true => 0,
                    false => cursor.advance_frame(bytes),
                };
                (passed, if passed < bytes.len() { Next::Cut } else { Next::Read })
            }
        };
        if next == Next::Cut {
            self.drop_bytes(&bytes[passed..]);
        }
        (passed, next)
    }

    /// Follows what is not passed on. Whoever goes on and on, and does not answer, is not read any
    /// more, and ends by the deadline.
    #[cold]
    fn drop_bytes(&mut self, bytes: &[u8]) -> Next {
        let dropped = self.dropped.get_or_insert_default();
        dropped.cursor.advance(bytes);
        dropped.bytes += bytes.len() as u64;
        if dropped.bytes > DROPPED_BYTES_MAX { Next::Pause } else { Next::Cut }
    }

    /// Whether the source is not to be read now.
    fn rest(&mut self, is_cut: bool, now: Tick) -> bool {
        if is_cut {
            return self.dropped.as_ref().is_some_and(|it| it.bytes > DROPPED_BYTES_MAX);
        }
        let Some(inspector) = &mut self.inspector else { return false };
        match inspector.paused_until() {
            Some(until) if now < until => true,
            Some(_) => {
                inspector.resume();
                false
            }
            None => false,
        }
    }

    /// Looks whether a source that is not read is there still.
    #[cold]
    fn look(&mut self, source: &Socket, now: Tick) -> io::Result<()> {
        if let Some(inspector) = &mut self.inspector
            && inspector.paused_until().is_some()
            && source.has_peer_ended()?
        {
            inspector.note_source_ended(now);
        }
        Ok(())
    }
}

/// How much is read of who should not say anything any more. As much as a message that is too big
/// may still have under way, so that its sender gets to its Close.
const DROPPED_BYTES_MAX: u64 = 16 << 20;
