//! What one address, identity or door has now, against its quota. Pure: the time is an argument.

use std::time::Duration;

use tidewire_runtime::rate::Meter;

use super::quota::Quota;
use super::turns::{Place, Turns};

/// What is counted. Only what the quota limits is.
#[derive(Debug, Default)]
pub struct Tally {
    connections: u32,
    handshakes: u32,
    arrivals: Turns,
    requests: Meter,
}

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Connections,
    Handshakes,
    Rate,
    Requests,
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub what: What,
    /// When it will not be any more; `None` when that is up to others.
    pub after: Option<Duration>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Handshake,
    Open,
}

impl Tally {
    /// Takes in a connection that begins its handshake: with a place in the line when it must wait
    /// for its turn. Nothing is taken of a quota when there is not all that it needs.
    pub fn enter(&mut self, quota: &Quota, now: u64) -> Result<Option<Place>, Exceeded> {
        let is_full = |most: Option<u32>, now| most.is_some_and(|most| now >= most);
        if is_full(quota.connections, self.connections) {
            return Err(Exceeded { what: What::Connections, after: None });
        }
        if is_full(quota.handshakes, self.handshakes) {
            return Err(Exceeded { what: What::Handshakes, after: None });
        }
        let mut place = None;
        if let Some(pace) = &quota.arrivals {
            let entered = self.arrivals.enter(pace, quota.wait, now);
            place = entered.map_err(|after| Exceeded { what: What::Rate, after: Some(after) })?;
        }
        self.connections += u32::from(quota.connections.is_some());
        self.handshakes += u32::from(quota.handshakes.is_some());
        Ok(place)
    }

    /// How long it is until the turn of `place`. `None` when it has come.
    pub fn ask(&mut self, quota: &Quota, place: &Place, now: u64) -> Option<Duration> {
        self.arrivals.ask(quota.arrivals.as_ref()?, place, now)
    }

    /// Gives `place` to those behind it.
    pub fn leave_line(&mut self, quota: &Quota, place: &Place, now: u64) {
        if let Some(pace) = &quota.arrivals {
            self.arrivals.leave(pace, place, now);
        }
    }

    /// Takes in a request that is no handshake.
    pub fn request(&mut self, quota: &Quota, now: u64) -> Result<(), Exceeded> {
        let Some(pace) = &quota.requests else { return Ok(()) };
        let taken = self.requests.take(pace, 1, now);
        taken.map_err(|after| Exceeded { what: What::Requests, after: Some(after) })
    }

    /// A connection has got through its handshake.
    pub fn open(&mut self, quota: &Quota) {
        let counted = u32::from(quota.handshakes.is_some());
        debug_assert!(self.handshakes >= counted, "a handshake ends that has not begun");
        self.handshakes = self.handshakes.saturating_sub(counted);
    }

    /// A connection is gone.
    pub fn leave(&mut self, quota: &Quota, stage: Stage) {
        if stage == Stage::Handshake {
            self.open(quota);
        }
        let counted = u32::from(quota.connections.is_some());
        debug_assert!(self.connections >= counted, "a connection ends that has not begun");
        self.connections = self.connections.saturating_sub(counted);
    }

    /// Takes back the turn of an arrival that came to nothing, as another quota was used up.
    pub fn undo(&mut self, quota: &Quota, now: u64) {
        if let Some(pace) = &quota.arrivals {
            self.arrivals.refund(pace, now);
        }
    }

    /// Takes back a request that another quota has refused.
    pub fn undo_request(&mut self, quota: &Quota, _: u64) {
        if let Some(pace) = &quota.requests {
            self.requests.refund(pace, 1);
        }
    }

    /// Connections and handshakes that are counted here now.
    pub fn held(&self) -> u32 {
        self.connections + self.handshakes
    }

    /// How long until all that has come is paid for.
    pub fn debt(&self, now: u64) -> Duration {
        self.arrivals.debt(now).max(self.requests.debt(now))
    }

    /// Whether somebody who is there is counted here, or waits.
    pub fn is_in_use(&self) -> bool {
        self.held() > 0 || self.arrivals.has_waiters()
    }

    /// Whether it is as if nobody had ever come.
    pub fn is_fresh(&self, now: u64) -> bool {
        !self.is_in_use() && self.debt(now).is_zero()
    }
}

impl Quota {
    /// Whether a connection at this stage is counted.
    pub fn holds(&self, stage: Stage) -> bool {
        self.connections.is_some() || stage == Stage::Handshake && self.handshakes.is_some()
    }
}

impl What {
    pub const ALL: [What; 4] = [What::Connections, What::Handshakes, What::Rate, What::Requests];
}

#[cfg(test)]
mod tests {
    use tidewire_runtime::rate::Pace;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn exceeded<T>(result: Result<T, Exceeded>) -> Option<What> {
        result.err().map(|it| it.what)
    }

    #[test]
    fn a_connection_is_counted_until_it_is_gone_and_a_handshake_until_it_is_over() {
        let quota = Quota { connections: Some(2), handshakes: Some(1), ..Quota::default() };
        let mut tally = Tally::default();
        assert_eq!(exceeded(tally.enter(&quota, 0)), None);
        assert_eq!(exceeded(tally.enter(&quota, 0)), Some(What::Handshakes));
        tally.open(&quota);
        assert_eq!(exceeded(tally.enter(&quota, 0)), None);
        assert_eq!(exceeded(tally.enter(&quota, 0)), Some(What::Connections));
        tally.leave(&quota, Stage::Handshake);
        assert_eq!(exceeded(tally.enter(&quota, 0)), None);
        tally.leave(&quota, Stage::Handshake);
        tally.leave(&quota, Stage::Open);
        assert!(tally.is_fresh(0));
    }

    #[test]
    fn those_above_the_rate_wait_for_turns_of_their_own_and_no_longer_than_they_may() {
        let arrivals = Pace::new(10, Duration::from_secs(1), 2);
        let quota = Quota { arrivals, wait: Duration::from_millis(250), ..Quota::default() };
        let mut tally = Tally::default();
        let mut places = Vec::new();
        let refused = loop {
            match tally.enter(&quota, SECOND) {
                Ok(place) => places.push(place),
                Err(refused) => break refused,
            }
        };
        let turns = places
            .iter()
            .map(|place| tally.ask(&quota, place.as_ref()?, SECOND).map(|turn| turn.as_millis()));
        assert_eq!(turns.collect::<Vec<_>>(), [None, None, Some(100), Some(200)]);
        assert_eq!(refused, Exceeded { what: What::Rate, after: Some(Duration::from_millis(50)) });
        let place = tally.enter(&quota, SECOND + SECOND / 20).unwrap().unwrap();
        let turn = tally.ask(&quota, &place, SECOND + SECOND / 20);
        assert_eq!(turn, Some(Duration::from_millis(250)));
    }

    #[test]
    fn what_came_to_nothing_is_given_back() {
        let arrivals = Pace::new(1, Duration::from_secs(1), 1);
        let quota =
            Quota { connections: Some(1), arrivals, requests: arrivals, ..Quota::default() };
        let mut tally = Tally::default();
        assert!(tally.enter(&quota, SECOND).is_ok() && tally.request(&quota, SECOND).is_ok());
        tally.leave(&quota, Stage::Handshake);
        tally.undo(&quota, SECOND);
        tally.undo_request(&quota, SECOND);
        assert!(tally.is_fresh(SECOND));
    }
}
