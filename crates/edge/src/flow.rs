//! One direction of a tunnel: its bytes and its frames.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewire_runtime::pump::{Pump, PumpError};
use tidewire_runtime::socket::Socket;
use tidewire_wire::ws::cursor::Cursor;

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
    pub(crate) cursor: Cursor,
    counted: u64,
    /// Whether the sink has been told that this direction has ended.
    is_told: bool,
}

impl Flow {
    pub(crate) fn with_leftover(leftover: Bytes) -> Self {
        let mut cursor = Cursor::new();
        cursor.advance(&leftover);
        Self { pump: Pump::with_leftover(leftover), cursor, counted: 0, is_told: false }
    }

    /// Moves what can be moved. `dropped` follows the frames that are not passed on any more.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Socket,
        extent: Extent,
        mut dropped: Option<&mut Cursor>,
    ) -> Poll<Result<(), PumpError>> {
        if self.pump.is_ended() {
            return Poll::Ready(Ok(()));
        }
        let (cursor, is_cut) = (&mut self.cursor, self.pump.is_cut());
        self.pump.poll(cx, source, sink, |bytes| {
            let passing = match extent {
                _ if is_cut => 0,
                Extent::ToBoundary if cursor.is_at_boundary() => 0,
                Extent::ToBoundary => cursor.advance_frame(bytes),
                Extent::All => {
                    cursor.advance(bytes);
                    bytes.len()
                }
            };
            if let Some(dropped) = &mut dropped {
                dropped.advance(&bytes[passing..]);
            }
            passing
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
        !self.cursor.is_lost() && self.cursor.is_at_boundary() && !self.pump.has_backlog()
    }

    pub(crate) fn has_close(&self) -> bool {
        self.cursor.has_close()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.has_close() || self.pump.has_source_ended()
    }

    pub(crate) fn take_new_messages(&mut self) -> u64 {
        let messages = self.cursor.messages();
        messages - std::mem::replace(&mut self.counted, messages)
    }
}
