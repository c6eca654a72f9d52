//! Whether a client is still there: when to ping it, when to give it up.
//!
//! Pure. A message only notes the present tick; the deadlines are looked at when one may have
//! passed.

use tidewire_runtime::deadline::{NEVER, Tick, ticks};
use tidewire_runtime::units::Period;

use crate::config::HubConfig;

/// The deadlines of all clients; `None` is off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    ping: Option<Tick>,
    pong: Tick,
    idle: Option<Tick>,
}

impl Deadlines {
    pub(crate) fn new(config: &HubConfig) -> Self {
        let some = |period: Period| (!period.0.is_zero()).then(|| ticks(period.0));
        Self { ping: some(config.ping), pong: ticks(config.pong.0), idle: some(config.idle) }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing before that tick.
    Wait(Tick),
    /// Send a ping, and look again at that tick.
    Ping(Tick),
    /// It has not answered.
    Silent,
    /// It has sent no message for too long.
    Idle,
}

/// When a client was heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    /// Any byte came, or our bytes were taken after they had waited.
    heard: Tick,
    message: Tick,
    /// The ping that waits for a sign of life.
    pinged: Option<Tick>,
    /// Whether the first look, which comes early, is over.
    has_looked: bool,
}

impl Liveness {
    pub(crate) fn new(now: Tick) -> Self {
        Self { heard: now, message: now, pinged: None, has_looked: false }
    }

    /// Whether an answer to a ping is waited for.
    pub(crate) fn is_asked(&self) -> bool {
        self.pinged.is_some()
    }

    pub(crate) fn note_heard(&mut self, now: Tick) {
        self.heard = now;
        self.pinged = None;
    }

    pub(crate) fn note_message(&mut self, now: Tick) {
        self.message = now;
    }

    /// When to look first. Clients that come together (a reload, a restart) must not be pinged
    /// together for ever: `random`, evenly spread in `0.0..1.0`, says when in the second half of
    /// the first period. Earlier than asked, as later could be too late for a proxy on the way.
    pub(crate) fn first_look(&self, deadlines: &Deadlines, random: f32) -> Tick {
        let ping = deadlines.ping.map_or(NEVER, |ping| {
            self.heard.saturating_add(ping / 2 + (ping as f32 / 2.0 * random) as Tick)
        });
        ping.min(self.idle_at(deadlines))
    }

    /// Looks at the deadlines.
    pub(crate) fn check(&mut self, now: Tick, deadlines: &Deadlines) -> Verdict {
        let idle_at = self.idle_at(deadlines);
        if idle_at <= now {
            return Verdict::Idle;
        }
        let Some(ping) = deadlines.ping else { return Verdict::Wait(idle_at) };
        if let Some(pinged) = self.pinged {
            let until = pinged.saturating_add(deadlines.pong);
            return match until <= now {
                true => Verdict::Silent,
                false => Verdict::Wait(until.min(idle_at)),
            };
        }
        let patience = if std::mem::replace(&mut self.has_looked, true) { ping } else { ping / 2 };
        if self.heard.saturating_add(patience) > now {
            return Verdict::Wait(self.heard.saturating_add(ping).min(idle_at));
        }
        self.pinged = Some(now);
        Verdict::Ping(now.saturating_add(deadlines.pong).min(idle_at))
    }

    fn idle_at(&self, deadlines: &Deadlines) -> Tick {
        deadlines.idle.map_or(NEVER, |idle| self.message.saturating_add(idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { ping: Some(100), pong: 20, idle: None };

    #[test]
    fn a_quiet_client_is_pinged_and_then_given_up() {
        let mut liveness = Liveness::new(0);
        assert_eq!(liveness.first_look(&DEADLINES, 0.999), 99);
        assert_eq!(liveness.check(100, &DEADLINES), Verdict::Ping(120));
        assert_eq!(liveness.check(110, &DEADLINES), Verdict::Wait(120));
        assert_eq!(liveness.check(120, &DEADLINES), Verdict::Silent);
    }

    #[test]
    fn any_sign_of_life_counts() {
        let mut liveness = Liveness::new(0);
        assert_eq!(liveness.check(100, &DEADLINES), Verdict::Ping(120));
        liveness.note_heard(119);
        assert_eq!(liveness.check(120, &DEADLINES), Verdict::Wait(219));
        assert_eq!(liveness.check(219, &DEADLINES), Verdict::Ping(239));
    }

    #[test]
    fn a_busy_client_is_never_pinged() {
        let mut liveness = Liveness::new(0);
        for now in 1..1_000 {
            liveness.note_heard(now);
            assert!(matches!(liveness.check(now, &DEADLINES), Verdict::Wait(_)));
        }
    }

    #[test]
    fn first_pings_are_spread() {
        let liveness = Liveness::new(10);
        assert_eq!(liveness.first_look(&DEADLINES, 0.0), 60);
        assert_eq!(liveness.first_look(&DEADLINES, 0.5), 85);
        let mut early = liveness;
        assert_eq!(early.check(60, &DEADLINES), Verdict::Ping(80));
        early.note_heard(61);
        assert_eq!(early.check(120, &DEADLINES), Verdict::Wait(161));
    }

    #[test]
    fn pongs_do_not_keep_an_idle_client() {
        let deadlines = Deadlines { idle: Some(150), ..DEADLINES };
        let mut liveness = Liveness::new(0);
        assert_eq!(liveness.check(100, &deadlines), Verdict::Ping(120));
        liveness.note_heard(101);
        assert_eq!(liveness.check(120, &deadlines), Verdict::Wait(150));
        assert_eq!(liveness.check(150, &deadlines), Verdict::Idle);
        let mut talks = Liveness::new(0);
        talks.note_message(149);
        assert_ne!(talks.check(150, &deadlines), Verdict::Idle);
    }

    #[test]
    fn nothing_is_due_when_all_is_off() {
        let off = Deadlines { ping: None, pong: 20, idle: None };
        let mut liveness = Liveness::new(0);
        assert_eq!(liveness.first_look(&off, 0.5), NEVER);
        assert_eq!(liveness.check(1_000_000, &off), Verdict::Wait(NEVER));
    }
}
