//! A server's share of new clients: as configured, as it is now, and how it grows while the server
//! starts slowly.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The weight of a server.
#[derive(Debug)]
pub struct Weight {
    configured: AtomicU32,
    now: AtomicU32,
    slowstart: Duration,
    epoch: Instant,
    /// Milliseconds from `epoch` to the beginning of its slow start, and 1; 0 is that there is none.
    began: AtomicU64,
}

/// The greatest that can be written: HAProxy's.
pub const WEIGHT_MAX: u16 = 256;

/// Parts of a weight of 1: what a weight can be in steps of while it grows.
pub const SCALE: u32 = 256;

impl Weight {
    /// `slowstart` is how long it takes to grow; zero is not at all.
    pub fn new(weight: u16, slowstart: Duration) -> Self {
        Self {
            configured: AtomicU32::new(weight.into()),
            now: AtomicU32::new(weight.into()),
            slowstart,
            epoch: Instant::now(),
            began: AtomicU64::new(0),
        }
    }

    /// As it is configured, or was set since.
    pub fn full(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Sets it, until it is set again.
    pub fn set(&self, weight: u16) {
        self.now.store(weight.into(), Ordering::Relaxed);
    }

    /// Takes over what a new configuration says, if that is something new: what was set otherwise
    /// stays.
    pub fn configure(&self, weight: u16) {
        if self.configured.swap(weight.into(), Ordering::Relaxed) != u32::from(weight) {
            self.set(weight);
        }
    }

    /// Whether it gets no new clients.
    pub fn is_zero(&self) -> bool {
        self.full() == 0
    }

    /// Begins to grow from next to nothing, where there is a `slowstart`.
    pub fn start_slowly(&self, now: Instant) {
        if !self.slowstart.is_zero() {
            self.began.store(self.millis(now) + 1, Ordering::Relaxed);
        }
    }

    /// In parts of [`SCALE`]; at least one when there is a weight at all.
    pub fn effective(&self, now: impl FnOnce() -> Instant) -> u32 {
        let full = self.full() * SCALE;
        let began = self.began.load(Ordering::Relaxed);
        if began == 0 || full == 0 {
            return full;
        }
        let grown = self.millis(now()).saturating_sub(began - 1);
        let needed = self.slowstart.as_millis() as u64;
        if grown >= needed {
            // Another one may have begun meanwhile.
            let _ = self.began.compare_exchange(began, 0, Ordering::Relaxed, Ordering::Relaxed);
            return full;
        }
        ((u64::from(full) * grown / needed) as u32).max(1)
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_grows_over_its_slow_start() {
        let weight = Weight::new(10, Duration::from_secs(10));
        let start = Instant::now();
        let after = |seconds| weight.effective(|| start + Duration::from_secs(seconds));
        assert_eq!(after(0), 2560, "nothing has begun");
        weight.start_slowly(start);
        assert_eq!([0, 1, 5, 9].map(after), [1, 256, 1280, 2304]);
        assert_eq!(after(10), 2560);
        assert_eq!(after(0), 2560, "it is over");
    }

    #[test]
    fn what_was_set_stays_until_the_configuration_is_another() {
        let weight = Weight::new(3, Duration::ZERO);
        weight.set(7);
        weight.configure(3);
        assert_eq!(weight.full(), 7);
        weight.configure(4);
        assert_eq!(weight.full(), 4);
    }

    #[test]
    fn without_a_slow_start_it_is_there_at_once() {
        let weight = Weight::new(1, Duration::ZERO);
        weight.start_slowly(Instant::now());
        assert_eq!(weight.effective(Instant::now), SCALE);
    }

    #[test]
    fn a_weight_can_be_set_and_zero_stays_zero() {
        let weight = Weight::new(2, Duration::from_secs(1));
        weight.start_slowly(Instant::now());
        weight.set(0);
        assert!(weight.is_zero());
        assert_eq!(weight.effective(Instant::now), 0);
    }
}
