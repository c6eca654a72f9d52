//! What looks at the frames of one direction of a tunnel whose route has limits: its judge, its
//! rates, and the few bytes that it holds back.
//!
//! Of a header that is cut by the end of a read nothing passes before its rest has come. Those
//! bytes, fewer than [`HEADROOM`], are put in front of the next read.
//!
//! Nearly all routes have limits, so every tunnel has two of these: what few of them ever need is
//! in a box that is made when it is.

use std::ops::Range;
use std::time::Duration;

use tidewire_runtime::deadline::{TICK, Tick, ticks};
use tidewire_runtime::pump::{HEADROOM, Next};
use tidewire_runtime::rate::{Meter, Pace};
use tidewire_wire::ws::cursor::{Cursor, HEAD_BYTES_MAX};
use tidewire_wire::ws::frame::FrameHeader;
use tidewire_wire::ws::judge::{Judge, Rest};
use tidewire_wire::ws::message::Role;
use tidewire_wire::ws::rules::Extensions;
use tidewire_wire::{Traffic, Violation};

use crate::limits::frame::{FrameLimits, OverRate};

/// Looks at the frames of one direction.
#[derive(Debug)]
pub(crate) struct Inspector {
    judge: Judge,
    /// Of control frames: the one rate that routes have which say nothing of limits.
    control: Meter,
    rare: Option<Box<Rare>>,
}

/// What an inspector has once it has something to hold against its sender, or a rate to hold it to.
#[derive(Debug, Default)]
struct Rare {
    messages: Meter,
    bytes: Meter,
    /// The beginning of a header; the first `held_bytes` are filled.
    held: [u8; HEADROOM],
    held_bytes: u8,
    /// Until when its sender has to wait.
    pause: Option<Tick>,
    is_pause_new: bool,
    /// Since when it is known that its sender has ended behind what it still has to wait with.
    source_ended: Option<Tick>,
    refused: Option<Violation>,
}

impl Inspector {
    pub(crate) fn new(role: Role, extensions: Extensions) -> Self {
        Self { judge: Judge::new(role, extensions), control: Meter::default(), rare: None }
    }

    /// Puts what was held back in front of what is in `buffer` at `read`, and says where the two
    /// together are.
    pub(crate) fn rejoin(&mut self, buffer: &mut [u8], read: Range<usize>) -> Range<usize> {
        let Some(rare) = &mut self.rare else { return read };
        let held = usize::from(std::mem::take(&mut rare.held_bytes));
        let start = read.start - held;
        buffer[start..read.start].copy_from_slice(&rare.held[..held]);
        start..read.end
    }

    /// How many of `bytes` pass, and how it goes on. Takes `cursor` along.
    #[inline]
    pub(crate) fn pass(
        &mut self,
        cursor: &mut Cursor,
        bytes: &[u8],
        limits: &FrameLimits,
        now: Tick,
    ) -> (usize, Next) {
        let Self { judge, control, rare } = self;
        let admit = |header: &FrameHeader| match limits.have_pace() {
            true => Meters { control, rare }.admit(header, limits, nanoseconds(now)),
            false => Ok(()),
        };
        let (passed, rest) = judge.pass(cursor, bytes, &limits.rules, admit);
        match rest {
            Rest::None => {}
            Rest::Held => self.hold(&bytes[passed..]),
            Rest::AfterClose => return (passed, Next::Cut),
            Rest::Refused(violation) => {
                self.rare().refused = Some(violation);
                return (passed, Next::Cut);
            }
        }
        if limits.over_rate == OverRate::Slow && limits.have_pace() {
            let Self { control, rare, .. } = self;
            let wait = Meters { control, rare }.wait(bytes.len(), limits, nanoseconds(now));
            if let Some(wait) = wait {
                let rare = self.rare();
                rare.pause = Some(now.saturating_add(wait));
                rare.is_pause_new = true;
                return (passed, Next::Pause);
            }
        }
        (passed, Next::Read)
    }

    /// What its sender did wrong.
    pub(crate) fn refused(&self) -> Option<Violation> {
        self.rare.as_ref()?.refused
    }

    /// Until when its sender has to wait.
    pub(crate) fn paused_until(&self) -> Option<Tick> {
        self.rare.as_ref()?.pause
    }

    /// Since when it is known that its sender has ended, behind what has not been read.
    pub(crate) fn source_ended(&self) -> Option<Tick> {
        self.rare.as_ref()?.source_ended
    }

    pub(crate) fn note_source_ended(&mut self, now: Tick) {
        self.rare().source_ended.get_or_insert(now);
    }

    pub(crate) fn take_new_pauses(&mut self) -> u64 {
        self.rare.as_mut().map_or(0, |rare| u64::from(std::mem::take(&mut rare.is_pause_new)))
    }

    pub(crate) fn resume(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.pause = None;
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[cold]
    fn hold(&mut self, bytes: &[u8]) {
        let rare = self.rare();
        rare.held[..bytes.len()].copy_from_slice(bytes);
        rare.held_bytes = bytes.len() as u8;
    }
}

/// What has come so far, against the rates.
struct Meters<'i> {
    control: &'i mut Meter,
    rare: &'i mut Option<Box<Rare>>,
}

impl Meters<'_> {
    /// Whether a frame may come now. Bytes that are read no faster than they may are paid for as
    /// they come, since a frame may be longer than anybody should have to wait at once.
    fn admit(
        &mut self,
        header: &FrameHeader,
        limits: &FrameLimits,
        now: u64,
    ) -> Result<(), Violation> {
        let over = limits.over_rate;
        if header.opcode & CONTROL_BIT != 0 {
            return take(self.control, limits.control, 1, over, now, Traffic::ControlFrames);
        }
        if header.opcode != 0 && limits.messages.is_some() {
            let messages = &mut self.rare.get_or_insert_default().messages;
            take(messages, limits.messages, 1, over, now, Traffic::Messages)?;
        }
        if over == OverRate::Close && limits.bytes.is_some() {
            let bytes = &mut self.rare.get_or_insert_default().bytes;
            take(bytes, limits.bytes, header.length, over, now, Traffic::Bytes)?;
        }
        Ok(())
    }

    /// Pays for `read` bytes, and says for how many ticks nothing more may come.
    fn wait(&mut self, read: usize, limits: &FrameLimits, now: u64) -> Option<Tick> {
        if let Some(pace) = &limits.bytes {
            self.rare.get_or_insert_default().bytes.charge(pace, read as u64, now);
        }
        let wait = |meter: &Meter, pace: &Option<Pace>| {
            pace.as_ref().map_or(Duration::ZERO, |pace| meter.wait(pace, now))
        };
        let mut longest = wait(self.control, &limits.control);
        if let Some(rare) = self.rare {
            longest = longest.max(wait(&rare.messages, &limits.messages));
            longest = longest.max(wait(&rare.bytes, &limits.bytes));
        }
        (!longest.is_zero()).then(|| ticks(longest))
    }
}

fn take(
    meter: &mut Meter,
    pace: Option<Pace>,
    amount: u64,
    over: OverRate,
    now: u64,
    traffic: Traffic,
) -> Result<(), Violation> {
    let Some(pace) = pace else { return Ok(()) };
    match over {
        OverRate::Close => meter.take(&pace, amount, now).map_err(|_| Violation::TooFast(traffic)),
        OverRate::Slow => {
            meter.charge(&pace, amount, now);
            Ok(())
        }
    }
}

/// A tick as the meters have time.
fn nanoseconds(tick: Tick) -> u64 {
    u64::from(tick) * TICK.as_nanos() as u64
}

/// The bit that the opcodes of control frames have in common.
const CONTROL_BIT: u8 = 0x08;

const _: () = assert!(HEAD_BYTES_MAX <= HEADROOM, "what is held back fits in front of a read");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stays_small() {
        assert!(size_of::<Inspector>() <= 32, "{}", size_of::<Inspector>());
    }
}
