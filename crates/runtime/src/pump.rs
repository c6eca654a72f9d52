//! One direction of a tunnel: bytes go from one socket to the other through the thread's scratch
//! buffer.
//!
//! ```text
//!   Open ──source ended──> Ending ──backlog written──> Ended: the owner tells the sink, or closes
//!    └──cut by the observer, or finish_with──> Discarding: what the source still says is dropped
//! ```
//!
//! The observer says of each read what passes. It may hold back a few bytes at the end of one, and
//! put them in front of the next: there is room for them in the scratch buffer.
//!
//! While the sink takes all it is given, nothing is copied and nothing is held. When it does not,
//! what is left of that one read waits in the [`Backlog`] and the source is not read meanwhile:
//! a peer that stalls costs one buffer, and the other side feels it through TCP.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use crate::buffer::{Backlog, with_scratch};
use crate::socket::Socket;
use crate::turn::{TURN_BYTES, give_way};

/// One direction of a tunnel.
#[derive(Debug, Default)]
pub struct Pump {
    backlog: Backlog,
    bytes: u64,
    flow: Flow,
}

/// What passes of a read, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// In the observed buffer.
    pub bytes: Range<usize>,
    pub next: Next,
}

/// How a direction goes on after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Read,
    /// The source is not read again before the owner polls anew; nothing wakes it for that.
    Pause,
    /// What the source still says is dropped.
    Cut,
}

/// Which of the two sockets failed.
#[derive(Debug)]
pub enum PumpError {
    /// The source, when it was read.
    Source(io::Error),
    /// The sink, when it was written.
    Sink(io::Error),
}

impl Pump {
    /// A pump to which the source has said `leftover` already: the first `passing` bytes of it are
    /// to be written before it reads anything, and the others are not.
    pub fn with_leftover(mut leftover: bytes::Bytes, passing: usize) -> Self {
        let mut pump = Self { bytes: leftover.len() as u64, ..Self::default() };
        leftover.truncate(passing);
        pump.backlog.fill_shared(leftover);
        pump
    }

    /// Drops what the source says from now on; what waits for the sink is written still.
    pub fn cut(&mut self) {
        debug_assert!(self.flow == Flow::Open, "what has ended is not cut");
        self.flow = Flow::Discarding;
    }

    /// Bytes taken from the source so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the source has ended and the sink has all that it said.
    pub fn is_ended(&self) -> bool {
        self.flow == Flow::Ended
    }

    /// Whether the source has ended, even if the sink has not taken all that it said.
    pub fn has_source_ended(&self) -> bool {
        matches!(self.flow, Flow::Ending | Flow::Ended)
    }

    /// Whether what the source says is dropped.
    pub fn is_cut(&self) -> bool {
        self.flow == Flow::Discarding
    }

    /// Whether `sink` has not taken all that was read, or not sent all that it has taken.
    pub fn is_backed_up(&self, sink: &Socket) -> bool {
        !self.backlog.is_empty() || sink.has_unsent()
    }

    /// How much the sink has not taken of what was read, or not sent of what it has taken.
    pub fn unsent_bytes(&self, sink: &Socket) -> usize {
        self.backlog.len() + sink.unsent_bytes()
    }

    /// Whether the sink has not taken all that was read: it does not end where that ends.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Moves bytes until a socket makes it wait (pending) or the source has ended and all it said
    /// is written (ready). The sink is not shut down: whoever owns both knows whether it is closed
    /// in the same breath, which saves the call.
    /// `observe` is shown every read, in order, before it is written: a buffer, and where in it the
    /// read is, with at least [`HEADROOM`] bytes in front of it that are the observer's to use. Once
    /// this direction is cut off it goes on to see what is dropped, and all that matters
    /// then is whether it pauses.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Socket,
        mut observe: impl FnMut(&mut [u8], Range<usize>) -> Passing,
    ) -> Poll<Result<(), PumpError>> {
        let turn_ends = self.bytes.saturating_add(TURN_BYTES as u64);
        loop {
            ready!(self.poll_backlog(cx, sink))?;
            match self.flow {
                Flow::Ended => return Poll::Ready(Ok(())),
                Flow::Ending => self.flow = Flow::Ended,
                Flow::Open | Flow::Discarding if self.bytes >= turn_ends => {
                    give_way(cx);
                    return Poll::Pending;
                }
                Flow::Open | Flow::Discarding => {
                    ready!(self.poll_move(cx, source, sink, &mut observe))?;
                }
            }
        }
    }

    /// Sends `frame` between what the source has said and what it will say. The caller sees to it
    /// that the bytes so far end with a whole frame, and polls for what the sink does not take now.
    pub fn put_in(&mut self, sink: &mut Socket, frame: &[u8]) -> io::Result<()> {
        debug_assert!(self.backlog.is_empty(), "a frame is put in behind whole frames");
        let written = match sink.try_write(frame) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.backlog.fill(&frame[written..]);
        Ok(())
    }

    /// Sends `frame` as the last thing that the sink gets, and drops what the source still says.
    /// The caller sees to it that the bytes so far end with a whole frame.
    pub fn finish_with(&mut self, sink: &mut Socket, frame: &[u8]) -> io::Result<()> {
        self.put_in(sink, frame)?;
        self.flow = Flow::Discarding;
        Ok(())
    }

    /// Brings to the sink what waits for it, and reads nothing. Ready when nothing waits.
    pub fn poll_unsent(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Socket,
    ) -> Poll<Result<(), PumpError>> {
        self.poll_backlog(cx, sink)
    }

    fn poll_backlog(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Socket,
    ) -> Poll<Result<(), PumpError>> {
        while !self.backlog.is_empty() {
            let written = ready!(sink.poll_write(cx, self.backlog.bytes()));
            self.backlog.consume(written.map_err(PumpError::Sink)?);
        }
        sink.poll_flush(cx).map_err(PumpError::Sink)
    }

    /// One read, and the write of what it gave.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Socket,
        observe: &mut impl FnMut(&mut [u8], Range<usize>) -> Passing,
    ) -> Poll<Result<(), PumpError>> {
        with_scratch(|scratch| {
            let read = source.poll_read(cx, &mut scratch[HEADROOM..]);
            let length = ready!(read).map_err(PumpError::Source)?;
            if length == 0 {
                self.flow = Flow::Ending;
                return Poll::Ready(Ok(()));
            }
            self.bytes += length as u64;
            let passing = observe(scratch, HEADROOM..HEADROOM + length);
            if self.flow == Flow::Discarding {
                let is_paused = passing.next == Next::Pause;
                return if is_paused { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            if passing.next == Next::Cut {
                self.flow = Flow::Discarding;
            }
            let bytes = &scratch[passing.bytes];
            let mut written = 0;
            while written < bytes.len() {
                match sink.poll_write(cx, &bytes[written..]) {
                    Poll::Ready(Ok(more)) => written += more,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Sink(error))),
                    Poll::Pending => {
                        self.backlog.fill(&bytes[written..]);
                        return Poll::Pending;
                    }
                }
            }
            if passing.next == Next::Pause {
                ready!(self.poll_backlog(cx, sink))?;
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// How many bytes of an earlier read an observer can put in front of the next one.
pub const HEADROOM: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    Discarding,
    Ending,
    Ended,
}
