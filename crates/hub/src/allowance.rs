//! What a client may send, by the limits of its route, and how much of it is used up.
//!
//! Pure. Who has not come near a limit has no allowance: it is made when there is something to
//! count, and given back once that is forgotten.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use tidewire_runtime::deadline::{NEVER, TICK, Tick, ticks};
use tidewire_runtime::rate::{Meter, Pace};
use tidewire_wire::ws::frame::Opcode;
use tidewire_wire::ws::judge::{Allowed, Rules};
use tidewire_wire::ws::message::Limits;
use tidewire_wire::{Traffic, Violation};

/// The limits on what clients of a route send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Its framing does not matter here: a hub is an endpoint, and takes frames as RFC 6455 has
    /// them or not at all.
    pub rules: Rules,
    pub messages: Option<Pace>,
    pub bytes: Option<Pace>,
    /// Pings, pongs that nobody has asked for, and Closes.
    pub control: Option<Pace>,
    pub over_rate: OverRate,
    /// How old a connection may become; `None` is for ever.
    pub lifetime: Option<Duration>,
}

/// What is done about a client that sends faster than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverRate {
    /// It is not read from until the rate allows it.
    Slow,
    /// It is closed with 1008.
    Close,
}

impl ClientLimits {
    pub const NONE: Self = Self {
        rules: Rules::NONE,
        messages: None,
        bytes: None,
        control: None,
        over_rate: OverRate::Slow,
        lifetime: None,
    };

    /// The sizes that hold where `hub` holds, too: of each limit the smaller one.
    pub(crate) fn sizes(&self, hub: &Limits) -> Limits {
        let own = &self.rules.limits;
        Limits {
            frame_bytes_max: own.frame_bytes_max.min(hub.frame_bytes_max),
            message_bytes_max: own.message_bytes_max.min(hub.message_bytes_max),
            fragments_max: own.fragments_max.min(hub.fragments_max),
        }
    }

    /// That messages of this kind are taken.
    pub(crate) fn check_opcode(&self, opcode: Opcode) -> Result<(), Violation> {
        let allowed = if opcode == Opcode::Text { self.rules.text } else { self.rules.binary };
        match allowed {
            Allowed::Yes => Ok(()),
            Allowed::No => Err(Violation::OpcodeRefused(opcode)),
        }
    }

    fn pace(&self, traffic: Traffic) -> Option<&Pace> {
        match traffic {
            Traffic::Messages => self.messages.as_ref(),
            Traffic::Bytes => self.bytes.as_ref(),
            Traffic::ControlFrames => self.control.as_ref(),
        }
    }

    /// Whether there is anything to count of this.
    pub(crate) fn has_pace(&self, traffic: Traffic) -> bool {
        self.pace(traffic).is_some()
    }
}

/// A client's allowance, while it has one.
#[derive(Default)]
pub(crate) struct Slot(Cell<Option<Box<Allowance>>>);

impl Slot {
    pub(crate) fn put(&self, allowance: Allowance) {
        self.0.set(Some(Box::new(allowance)));
    }

    /// Does something with the allowance, which is made if there is none.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Allowance) -> R) -> R {
        let mut allowance = self.0.take().unwrap_or_default();
        let result = act(&mut allowance);
        self.0.set(Some(allowance));
        result
    }

    /// As [`Slot::with`], if there is one.
    pub(crate) fn ask<R>(&self, act: impl FnOnce(&mut Allowance) -> R) -> Option<R> {
        let mut allowance = self.0.take()?;
        let result = act(&mut allowance);
        self.0.set(Some(allowance));
        Some(result)
    }

    /// Gives the memory back if nothing has to be remembered.
    pub(crate) fn tidy(&self, now: Tick) {
        self.0.set(self.0.take().filter(|allowance| !allowance.is_spare(now)));
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// What a client has used of its limits.
#[derive(Debug)]
pub(crate) struct Allowance {
    messages: Meter,
    bytes: Meter,
    control: Meter,
    /// Until when it is not read from; 0 when it is.
    paused_until: Tick,
    /// When it is too old.
    lapses: Tick,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            messages: Meter::default(),
            bytes: Meter::default(),
            control: Meter::default(),
            paused_until: 0,
            lapses: NEVER,
        }
    }
}

impl Allowance {
    /// That of a client that has come now, if it will ever be too old. `random`, evenly spread in
    /// `0.0..1.0`, makes it up to a tenth earlier: who came together does not come back together.
    pub(crate) fn aging(limits: &ClientLimits, now: Tick, random: f32) -> Option<Self> {
        let lifetime = limits.lifetime?.mul_f32(1.0 - random / 10.0);
        Some(Self { lapses: now.saturating_add(ticks(lifetime)), ..Self::default() })
    }

    /// Counts what has come. Where going too fast is no reason to close, it is paid for later.
    pub(crate) fn take(
        &mut self,
        limits: &ClientLimits,
        traffic: Traffic,
        amount: u64,
        now: Tick,
    ) -> Result<(), Violation> {
        let Some(pace) = limits.pace(traffic) else { return Ok(()) };
        let now = nanoseconds(now);
        let meter = match traffic {
            Traffic::Messages => &mut self.messages,
            Traffic::Bytes => &mut self.bytes,
            Traffic::ControlFrames => &mut self.control,
        };
        match limits.over_rate {
            OverRate::Close => {
                meter.take(pace, amount, now).map_err(|_| Violation::TooFast(traffic))
            }
            OverRate::Slow => {
                meter.charge(pace, amount, now);
                Ok(())
            }
        }
    }

    /// Whether nothing more may be taken in now; it is paused then.
    pub(crate) fn must_wait(&mut self, limits: &ClientLimits, now: Tick) -> bool {
        if limits.over_rate == OverRate::Close {
            return false;
        }
        let time = nanoseconds(now);
        let meters = [
            (&self.messages, &limits.messages),
            (&self.bytes, &limits.bytes),
            (&self.control, &limits.control),
        ];
        let waits =
            meters.iter().filter_map(|(meter, pace)| Some(meter.wait(pace.as_ref()?, time)));
        let wait = waits.max().unwrap_or_default();
        self.paused_until = if wait.is_zero() { 0 } else { now.saturating_add(ticks(wait)) };
        !wait.is_zero()
    }

    /// Until when it is not read from.
    fn paused_until(&self, now: Tick) -> Option<Tick> {
        Some(self.paused_until).filter(|&until| until > now)
    }

    /// Whether it is not read from now. To be asked before it is read from, which ends its pause.
    pub(crate) fn is_paused(&mut self, now: Tick) -> bool {
        if self.paused_until <= now {
            self.paused_until = 0;
        }
        self.paused_until > 0
    }

    /// Whether it has not been read from since it was paused, so that nothing could be heard.
    pub(crate) fn is_unheard(&self) -> bool {
        self.paused_until > 0
    }

    pub(crate) fn is_too_old(&self, now: Tick) -> bool {
        self.lapses <= now
    }

    /// When there is something to do for it.
    pub(crate) fn due(&self, now: Tick) -> Tick {
        self.paused_until(now).unwrap_or(NEVER).min(self.lapses)
    }

    /// Whether it is as if there had never been one.
    pub(crate) fn is_spare(&self, now: Tick) -> bool {
        let time = nanoseconds(now);
        self.lapses == NEVER
            && self.paused_until(now).is_none()
            && [&self.messages, &self.bytes, &self.control].iter().all(|it| it.is_fresh(time))
    }
}

/// A tick as the meters have time.
fn nanoseconds(tick: Tick) -> u64 {
    u64::from(tick) * TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(over_rate: OverRate) -> ClientLimits {
        ClientLimits { messages: Pace::new(10, SECOND, 10), over_rate, ..ClientLimits::NONE }
    }

    #[test]
    fn who_is_too_fast_waits_for_its_next_message_only() {
        let limits = limits(OverRate::Slow);
        let mut allowance = Allowance::default();
        let mut come = |now| {
            let mut count = 0;
            while !allowance.must_wait(&limits, now) {
                allowance.take(&limits, Traffic::Messages, 1, now).unwrap();
                count += 1;
            }
            (count, allowance.paused_until(now))
        };
        assert_eq!(come(50), (10, Some(51)));
        assert_eq!(come(51), (1, Some(52)));
        assert_eq!(come(55), (4, Some(56)));
        assert_eq!(come(900), (10, Some(901)));
    }

    #[test]
    fn who_may_be_closed_is_told_what_was_too_fast() {
        let limits = limits(OverRate::Close);
        let mut allowance = Allowance::default();
        let mut take = || allowance.take(&limits, Traffic::Messages, 1, 50);
        assert!((0..10).all(|_| take().is_ok()));
        assert_eq!(take(), Err(Violation::TooFast(Traffic::Messages)));
        // What has no pace is not counted.
        assert_eq!(allowance.take(&limits, Traffic::Bytes, u64::MAX, 50), Ok(()));
        assert!(!allowance.must_wait(&limits, 50));
    }

    #[test]
    fn an_allowance_is_spare_when_all_is_paid_for() {
        let limits = limits(OverRate::Slow);
        let mut allowance = Allowance::default();
        assert!(allowance.is_spare(50));
        allowance.take(&limits, Traffic::Messages, 3, 50).unwrap();
        assert!(!allowance.is_spare(52) && allowance.is_spare(53));
    }

    #[test]
    fn the_oldest_a_client_becomes_is_spread_over_a_tenth() {
        let limits = ClientLimits { lifetime: Some(100 * SECOND), ..ClientLimits::NONE };
        let lapses = |random| Allowance::aging(&limits, 5, random).unwrap().due(5);
        assert_eq!((lapses(0.0), lapses(0.5)), (1005, 955));
        assert!((905..=906).contains(&lapses(0.9999)));
        assert!(Allowance::aging(&ClientLimits::NONE, 5, 0.5).is_none());
    }

    /// Of each kind 10 in a second.
    fn paces() -> ClientLimits {
        let pace = Pace::new(10, SECOND, 10);
        ClientLimits { messages: pace, bytes: pace, control: pace, ..ClientLimits::NONE }
    }

    const KINDS: [Traffic; 3] = [Traffic::Messages, Traffic::Bytes, Traffic::ControlFrames];

    #[test]
    fn each_kind_is_counted_by_itself_and_the_longest_wait_counts() {
        let limits = paces();
        let wait = |taken: [u64; 3]| {
            let mut allowance = Allowance::default();
            for (kind, amount) in KINDS.into_iter().zip(taken) {
                allowance.take(&limits, kind, amount, 50).unwrap();
            }
            let must_wait = allowance.must_wait(&limits, 50);
            assert_eq!(must_wait, allowance.paused_until(50).is_some());
            allowance.paused_until(50).map_or(0, |until| until - 50)
        };
        assert_eq!(wait([9, 9, 9]), 0, "there is one left of each");
        assert_eq!([wait([10, 0, 0]), wait([0, 10, 0]), wait([0, 0, 10])], [1; 3]);
        assert_eq!([wait([40, 0, 20]), wait([20, 40, 0]), wait([0, 20, 40])], [31; 3]);
        let only = ClientLimits { messages: None, control: None, ..limits };
        let mut allowance = Allowance::default();
        for kind in KINDS {
            allowance.take(&only, kind, 15, 50).unwrap();
        }
        assert!(allowance.must_wait(&only, 50) && !allowance.is_spare(50));
        assert_eq!(allowance.paused_until(50), Some(56));
        let has_pace = KINDS.map(|kind| only.has_pace(kind));
        assert_eq!(has_pace, [false, true, false]);
    }

    #[test]
    fn what_is_not_fresh_is_remembered_and_each_kind_is_looked_at() {
        for kind in KINDS {
            let mut allowance = Allowance::default();
            allowance.take(&paces(), kind, 1, 50).unwrap();
            assert!(!allowance.is_spare(50) && allowance.is_spare(51), "{kind:?}");
        }
        let aging = ClientLimits { lifetime: Some(SECOND), ..ClientLimits::NONE };
        assert!(!Allowance::aging(&aging, 50, 0.0).unwrap().is_spare(50));
    }

    #[test]
    fn a_pause_ends_with_the_first_read_behind_it() {
        let limits = limits(OverRate::Slow);
        let mut allowance = Allowance::default();
        assert!(!allowance.must_wait(&limits, 50) && !allowance.is_unheard());
        allowance.take(&limits, Traffic::Messages, 11, 50).unwrap();
        assert!(allowance.must_wait(&limits, 50));
        assert_eq!((allowance.due(50), allowance.due(51), allowance.due(52)), (52, 52, NEVER));
        assert!(allowance.is_paused(51) && allowance.is_unheard());
        assert!(allowance.is_unheard(), "nobody has read since");
        assert!(!allowance.is_paused(52) && !allowance.is_unheard());
    }

    #[test]
    fn a_client_is_too_old_when_its_time_is_over_and_not_before() {
        let limits = ClientLimits { lifetime: Some(SECOND), ..limits(OverRate::Slow) };
        let mut allowance = Allowance::aging(&limits, 50, 0.0).unwrap();
        assert!(!allowance.is_too_old(59) && allowance.is_too_old(60));
        assert_eq!(allowance.due(50), 60);
        // Whichever comes first.
        allowance.take(&limits, Traffic::Messages, 10, 50).unwrap();
        assert!(allowance.must_wait(&limits, 50));
        assert_eq!(allowance.due(50), 51);
    }

    #[test]
    fn a_slot_holds_what_must_be_remembered_and_no_more() {
        let slot = Slot::default();
        assert!(slot.ask(|_| ()).is_none());
        slot.with(|it| it.take(&paces(), Traffic::Bytes, 2, 50)).unwrap();
        slot.tidy(51);
        assert_eq!(slot.ask(|it| it.is_spare(51)), Some(false));
        slot.tidy(52);
        assert!(slot.ask(|_| ()).is_none());
    }

    #[test]
    fn of_two_sizes_the_smaller_one_holds() {
        let sizes = |frame_bytes_max, message_bytes_max, fragments_max| Limits {
            frame_bytes_max,
            message_bytes_max,
            fragments_max,
        };
        let of = |own: Limits, hub: Limits| {
            let rules = Rules { limits: own, ..Rules::NONE };
            ClientLimits { rules, ..ClientLimits::NONE }.sizes(&hub)
        };
        assert_eq!(of(sizes(1, 2, 3), sizes(4, 5, 6)), sizes(1, 2, 3));
        assert_eq!(of(sizes(4, 5, 6), sizes(1, 2, 3)), sizes(1, 2, 3));
    }

    #[test]
    fn each_kind_of_message_can_be_refused() {
        let takes = |text, binary| {
            let rules = Rules { text, binary, ..Rules::NONE };
            let limits = ClientLimits { rules, ..ClientLimits::NONE };
            [Opcode::Text, Opcode::Binary].map(|opcode| limits.check_opcode(opcode).is_ok())
        };
        assert_eq!(takes(Allowed::Yes, Allowed::No), [true, false]);
        assert_eq!(takes(Allowed::No, Allowed::Yes), [false, true]);
    }
}
