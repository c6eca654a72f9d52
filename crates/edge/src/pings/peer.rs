//! Whether a peer is still there: when to ping it, when to give it up.
//!
//! Pure. What makes silence count is decided here: that the peer was read at all, that a ping could
//! be put somewhere, and that it was not behind what the peer is still taking.

use tidewire_runtime::deadline::Tick;

use super::after;
use super::sieve::Sieve;

/// One of the two of a tunnel.
#[derive(Debug)]
pub(crate) struct Peer {
    /// How long it may be silent; less the first time.
    quiet: Option<Tick>,
    interval: Option<Tick>,
    /// When a byte came of it, or it could not be heard, as it was not read.
    heard: Tick,
    read: u64,
    /// The question that waits for a sign of life.
    asked: Option<Asked>,
    /// No ping could be put in: when to try again.
    later: Tick,
    /// The other side has pinged it since it was heard.
    pub(super) is_asked_already: bool,
    pub(super) sieve: Sieve,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Tick,
    /// How much it had taken of what was said to it, and whether more was on its way.
    taken: u64,
    is_queued: bool,
}

/// How it is with a peer now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Whether it is read. It is not while the other side does not take what it says.
    pub(super) is_read: bool,
    /// Whether what it has been given ends with a whole frame.
    pub(super) is_between_frames: bool,
    /// How much it has taken.
    pub(super) taken: u64,
    /// Whether something is on its way to it.
    pub(super) is_queue: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    Ping,
    /// It has not answered.
    Silent,
}

impl Peer {
    /// Clients that come together (a reload, a restart) must not be pinged together for ever:
    /// `random`, evenly spread in `0.0..1.0`, says when in the second half of the first period.
    pub(super) fn new(
        interval: Option<Tick>,
        random: f32,
        sieve: Sieve,
        read: u64,
        now: Tick,
    ) -> Self {
        let quiet = interval.map(|ping| (ping - (ping as f32 / 2.0 * random) as Tick).max(1));
        Self {
            quiet,
            interval,
            heard: now,
            read,
            asked: None,
            later: 0,
            is_asked_already: false,
            sieve,
        }
    }

    /// `read` bytes have come of it so far. Whether that answers what it was asked: it may be due
    /// sooner now than when its answer would have been.
    pub(super) fn note(&mut self, read: u64, now: Tick) -> bool {
        if read == self.read {
            return false;
        }
        self.read = read;
        self.heard = now;
        self.is_asked_already = false;
        self.asked.take().is_some()
    }

    /// When to look.
    pub(super) fn due(&self, pong: Tick) -> Tick {
        let due = match self.asked {
            Some(asked) => asked.at.saturating_add(pong),
            None => after(self.heard, self.quiet),
        };
        due.max(self.later)
    }

    /// Looks, once it is due.
    pub(super) fn look(&mut self, now: Tick, situation: &Situation) -> Verdict {
        let asks = Asked { at: now, taken: situation.taken, is_queued: situation.is_queue };
        if !situation.is_read {
            self.heard = now;
            self.asked = self.asked.map(|_| asks);
            return Verdict::Wait;
        }
        if let Some(asked) = self.asked {
            // A slow line may need longer than that for what is in front of the ping.
            if asked.is_queued && situation.taken > asked.taken {
                self.asked = Some(asks);
                return Verdict::Wait;
            }
            return Verdict::Silent;
        }
        if !situation.is_between_frames {
            self.later = now.saturating_add(RETRY);
            return Verdict::Wait;
        }
        self.asked = Some(asks);
        // A peer may answer the last of several pings only (RFC 6455, section 5.5.3), and the other
        // side waits for an answer to its own. That tells us as much.
        if self.is_asked_already {
            return Verdict::Wait;
        }
        self.quiet = self.interval;
        Verdict::Ping
    }
}

/// A second, in ticks.
const RETRY: Tick = 10;

#[cfg(test)]
mod tests {
    use tidewire_runtime::deadline::NEVER;

    use super::*;

    const PONG: Tick = 20;
    const CALM: Situation =
        Situation { is_read: true, is_between_frames: true, taken: 0, is_queue: false };

    fn peer(random: f32) -> Peer {
        Peer::new(Some(100), random, Sieve::new(1, true), 0, 0)
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_given_up() {
        let mut peer = peer(0.0);
        assert_eq!(peer.due(PONG), 100);
        assert_eq!(peer.look(100, &CALM), Verdict::Ping);
        assert_eq!(peer.due(PONG), 120);
        assert_eq!(peer.look(120, &CALM), Verdict::Silent);
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut peer = peer(0.0);
        assert_eq!(peer.look(100, &CALM), Verdict::Ping);
        assert!(peer.note(1, 119), "it answers");
        assert_eq!(peer.due(PONG), 219);
        assert!(!peer.note(2, 119), "nobody has asked");
        for now in 120..1000 {
            peer.note(u64::from(now), now);
            assert!(peer.due(PONG) > now, "whoever talks is not pinged");
        }
    }

    #[test]
    fn first_pings_are_spread_and_the_others_are_not_early() {
        assert_eq!(peer(0.5).due(PONG), 75);
        let mut peer = peer(0.999);
        assert_eq!(peer.due(PONG), 51);
        assert_eq!(peer.look(51, &CALM), Verdict::Ping);
        peer.note(1, 52);
        assert_eq!(peer.due(PONG), 152);
    }

    #[test]
    fn who_is_not_read_is_not_given_up() {
        let mut peer = peer(0.0);
        let unread = Situation { is_read: false, ..CALM };
        assert_eq!(peer.look(100, &unread), Verdict::Wait);
        assert_eq!(peer.due(PONG), 200);
        assert_eq!(peer.look(200, &CALM), Verdict::Ping);
        assert_eq!(peer.look(220, &unread), Verdict::Wait);
        assert_eq!(peer.due(PONG), 240);
        assert_eq!(peer.look(240, &CALM), Verdict::Silent);
    }

    #[test]
    fn within_a_frame_nobody_is_pinged() {
        let mut peer = peer(0.0);
        let within = Situation { is_between_frames: false, ..CALM };
        assert_eq!(peer.look(100, &within), Verdict::Wait);
        assert_eq!(peer.due(PONG), 110);
        assert_eq!(peer.look(110, &CALM), Verdict::Ping);
    }

    #[test]
    fn a_ping_of_the_other_side_is_as_good_as_ours() {
        let mut peer = peer(0.0);
        peer.is_asked_already = true;
        assert_eq!(peer.look(100, &CALM), Verdict::Wait);
        assert_eq!(peer.look(120, &CALM), Verdict::Silent);
        // One that was answered is none.
        let mut peer = self::peer(0.0);
        peer.is_asked_already = true;
        peer.note(1, 10);
        assert_eq!(peer.look(110, &CALM), Verdict::Ping);
    }

    #[test]
    fn a_ping_behind_what_is_still_taken_gets_more_time() {
        let mut peer = peer(0.0);
        let queue = |taken| Situation { taken, is_queue: true, ..CALM };
        assert_eq!(peer.look(100, &queue(10)), Verdict::Ping);
        assert_eq!(peer.look(120, &queue(500)), Verdict::Wait);
        assert_eq!(peer.due(PONG), 140);
        assert_eq!(peer.look(140, &queue(500)), Verdict::Silent, "nothing is taken any more");
        // What is acknowledged is only the ping: its host is there, and it is not.
        let mut peer = self::peer(0.0);
        assert_eq!(peer.look(100, &CALM), Verdict::Ping);
        assert_eq!(peer.look(120, &Situation { taken: 10, ..CALM }), Verdict::Silent);
    }

    #[test]
    fn who_is_not_to_be_pinged_is_never_due() {
        let peer = Peer::new(None, 0.5, Sieve::new(1, false), 0, 7);
        assert_eq!(peer.due(PONG), NEVER);
    }
}
