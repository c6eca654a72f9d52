//! Deadlines of many connections at little cost: a hashed wheel of coarse ticks.
//!
//! Moving a deadline away costs nothing: the wheel looks at a connection when its old place comes
//! round and puts it where it belongs now. A message on a tunnel therefore only notes the present
//! tick. Pure: the present tick is an argument.

use std::time::Duration;

/// A point in time, in ticks since the worker started.
pub type Tick = u32;

/// The length of a tick, and so how late a deadline may fire.
pub const TICK: Duration = Duration::from_millis(100);

/// No deadline.
pub const NEVER: Tick = Tick::MAX;

/// The number of whole ticks in `duration`, rounded up, at least one.
pub fn ticks(duration: Duration) -> Tick {
    let ticks = duration.as_millis().div_ceil(TICK.as_millis());
    ticks.clamp(1, u128::from(NEVER / 2)) as Tick
}

/// A hashed wheel of keys. It does not know the deadlines: its user says what to do with a key
/// that comes due.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<(u32, Tick)>>,
    now: Tick,
    len: usize,
}

impl Wheel {
    pub fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS as usize], now: 0, len: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `key` where it will come due at `at`, or at the horizon when `at` lies beyond it.
    /// Returns the tick at which it will come due.
    pub fn insert(&mut self, key: u32, at: Tick) -> Tick {
        let due = at.clamp(self.now + 1, self.now + SLOTS - 1);
        self.slots[(due % SLOTS) as usize].push((key, due));
        self.len += 1;
        due
    }

    /// Moves on to `now` and appends every key that has come due since, with its tick, to `due`.
    pub fn advance(&mut self, now: Tick, due: &mut Vec<(u32, Tick)>) {
        // After a long sleep every slot is due once; going round twice would find nothing more.
        let steps = now.saturating_sub(self.now).min(SLOTS);
        for step in (0..steps).rev() {
            let slot = &mut self.slots[((now - step) % SLOTS) as usize];
            self.len -= slot.len();
            due.append(slot);
        }
        self.now = self.now.max(now);
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

/// 51 seconds of slots: an idle tunnel with an hour to live is looked at seventy times in it.
const SLOTS: Tick = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(inserts: &[(u32, Tick)], upto: Tick) -> Vec<(u32, Tick)> {
        let mut wheel = Wheel::new();
        for &(key, at) in inserts {
            wheel.insert(key, at);
        }
        let mut found = Vec::new();
        for now in 1..=upto {
            let mut due = Vec::new();
            wheel.advance(now, &mut due);
            found.extend(due.into_iter().map(|(key, _)| (key, now)));
        }
        found
    }

    #[test]
    fn a_key_comes_due_at_its_tick_and_not_before() {
        assert_eq!(due_at(&[(1, 3), (2, 1), (3, 3)], 10), [(2, 1), (1, 3), (3, 3)]);
    }

    #[test]
    fn a_deadline_in_the_past_comes_due_at_the_next_tick() {
        assert_eq!(due_at(&[(1, 0)], 3), [(1, 1)]);
    }

    #[test]
    fn beyond_the_horizon_a_key_comes_round_to_be_put_further() {
        assert_eq!(due_at(&[(1, 10_000)], 2_000), [(1, SLOTS - 1)]);
    }

    #[test]
    fn a_long_sleep_misses_nothing() {
        let mut wheel = Wheel::new();
        for key in 0..1_000 {
            wheel.insert(key, key % 500);
        }
        let mut due = Vec::new();
        wheel.advance(50_000, &mut due);
        assert_eq!(due.len(), 1_000);
        assert!(wheel.is_empty());
    }

    #[test]
    fn ticks_round_up() {
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(250)), 3);
        assert_eq!(ticks(Duration::from_secs(3600)), 36_000);
    }
}
