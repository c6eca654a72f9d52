//! What looks at the frames of one direction of a tunnel whose route has limits: its judge, its
//! rates, and the few bytes that it holds back.
//!
//! Of a header that is cut by the end of a read nothing passes before its rest has come. Those
//! bytes, fewer than [`HEADROOM`], are put in front of the next read.

use std::ops::Range;

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
    meters: Meters,
    /// The beginning of a header; the first `held_bytes` are filled.
    held: [u8; HEADROOM],
    held_bytes: u8,
    /// Until when its sender has to wait.
    pause: Option<Tick>,
    is_pause_new: bool,
    refused: Option<Violation>,
}

/// What has come so far, against the rates.
#[derive(Debug, Default)]
struct Meters {
    messages: Meter,
    bytes: Meter,
    control: Meter,
}

impl Inspector {
    pub(crate) fn new(role: Role, extensions: Extensions) -> Self {
        Self {
            judge: Judge::new(role, extensions),
            meters: Meters::default(),
            held: [0; HEADROOM],
            held_bytes: 0,
            pause: None,
            is_pause_new: false,
            refused: None,
        }
    }

    /// Puts what was held back in front of what is in `buffer` at `read`, and says where the two
    /// together are.
    pub(crate) fn rejoin(&mut self, buffer: &mut [u8], read: Range<usize>) -> Range<usize> {
        let held = usize::from(std::mem::take(&mut self.held_bytes));
        let start = read.start - held;
        buffer[start..read.start].copy_from_slice(&self.held[..held]);
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
        let meters = &mut self.meters;
        let admit = |header: &FrameHeader| match limits.have_pace() {
            true => meters.admit(header, limits, nanoseconds(now)),
            false => Ok(()),
        };
        let (passed, rest) = self.judge.pass(cursor, bytes, &limits.rules, admit);
        match rest {
            Rest::None => {}
            Rest::Held => self.hold(&bytes[passed..]),
            Rest::AfterClose => return (passed, Next::Cut),
            Rest::Refused(violation) => {
                self.refused = Some(violation);
                return (passed, Next::Cut);
            }
        }
        if limits.over_rate == OverRate::Slow && limits.have_pace() {
            let wait = self.meters.wait(bytes.len(), limits, nanoseconds(now));
            if let Some(wait) = wait {
                self.pause = Some(now.saturating_add(wait));
                self.is_pause_new = true;
                return (passed, Next::Pause);
            }
        }
        (passed, Next::Read)
    }

    /// What its sender did wrong.
    pub(crate) fn refused(&self) -> Option<Violation> {
        self.refused
    }

    /// Until when its sender has to wait.
    pub(crate) fn paused_until(&self) -> Option<Tick> {
        self.pause
    }

    pub(crate) fn take_new_pauses(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.is_pause_new))
    }

    pub(crate) fn resume(&mut self) {
        self.pause = None;
    }

    #[cold]
    fn hold(&mut self, bytes: &[u8]) {
        self.held[..bytes.len()].copy_from_slice(bytes);
        self.held_bytes = bytes.len() as u8;
    }
}

impl Meters {
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
            return take(&mut self.control, limits.control, 1, over, now, Traffic::ControlFrames);
        }
        if header.opcode != 0 {
            take(&mut self.messages, limits.messages, 1, over, now, Traffic::Messages)?;
        }
        match over {
            OverRate::Slow => Ok(()),
            OverRate::Close => {
                take(&mut self.bytes, limits.bytes, header.length, over, now, Traffic::Bytes)
            }
        }
    }

    /// Pays for `read` bytes, and says for how many ticks nothing more may come.
    fn wait(&mut self, read: usize, limits: &FrameLimits, now: u64) -> Option<Tick> {
        if let Some(pace) = &limits.bytes {
            self.bytes.charge(pace, read as u64, now);
        }
        let meters = [
            (&self.messages, &limits.messages),
            (&self.bytes, &limits.bytes),
            (&self.control, &limits.control),
        ];
        let waits = meters.iter().filter_map(|(meter, pace)| Some(meter.wait(pace.as_ref()?, now)));
        waits.max().filter(|wait| !wait.is_zero()).map(ticks)
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
