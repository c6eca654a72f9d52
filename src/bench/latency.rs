//! How long things took, as percentiles.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles of many durations.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// Counts and durations of a run, in shards so that the generator's threads rarely meet.
pub struct Tally {
    shards: Box<[Mutex<Shard>]>,
}

/// What some of the connections did.
struct Shard {
    messages: u64,
    bytes: u64,
    latency: Histogram<u64>,
}

/// The sums over all shards.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    pub messages: u64,
    pub bytes: u64,
    pub latency: Percentiles,
}

impl Tally {
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::new(Shard::new())).collect() }
    }

    /// Counts a message of connection `number`.
    pub fn count(&self, number: usize, bytes: u64, took: Duration) {
        let mut shard = self.shard(number);
        shard.messages += 1;
        shard.bytes += bytes;
        shard.latency.saturating_record(took.as_nanos() as u64);
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[number % self.shards.len()];
        shard.lock().expect("no holder panics: they only count")
    }

    /// Forgets the warm-up.
    pub fn clear(&self) {
        for number in 0..self.shards.len() {
            *self.shard(number) = Shard::new();
        }
    }

    pub fn messages(&self) -> u64 {
        (0..self.shards.len()).map(|number| self.shard(number).messages).sum()
    }

    pub fn totals(&self) -> Totals {
        let mut sum = Shard::new();
        for number in 0..self.shards.len() {
            let shard = self.shard(number);
            sum.messages += shard.messages;
            sum.bytes += shard.bytes;
            sum.latency += &shard.latency;
        }
        Totals { messages: sum.messages, bytes: sum.bytes, latency: Percentiles::of(&sum.latency) }
    }
}

impl Shard {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
            .expect("the bounds are in order");
        Self { messages: 0, bytes: 0, latency }
    }
}

impl Percentiles {
    fn of(latency: &Histogram<u64>) -> Self {
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: at(0.50),
            p90_us: at(0.90),
            p99_us: at(0.99),
            max_us: latency.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("max", self.max_us),
        ];
        for (index, (name, microseconds)) in parts.into_iter().enumerate() {
            let gap = if index == 0 { "" } else { "   " };
            match microseconds {
                ..1e3 => write!(f, "{gap}{name} {microseconds:.0} us")?,
                ..1e6 => write!(f, "{gap}{name} {:.2} ms", microseconds / 1e3)?,
                _ => write!(f, "{gap}{name} {:.2} s", microseconds / 1e6)?,
            }
        }
        Ok(())
    }
}

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let tally = Tally::new(3);
        for number in 0..100 {
            tally.count(number, 10, Duration::from_micros(number as u64 + 1));
        }
        let totals = tally.totals();
        assert_eq!((totals.messages, totals.bytes), (100, 1000));
        assert!((49.0..=51.0).contains(&totals.latency.p50_us), "{:?}", totals.latency);
        tally.clear();
        assert_eq!(tally.messages(), 0);
    }

    #[test]
    fn percentiles_choose_their_unit() {
        let latency = Percentiles { p50_us: 12.0, p90_us: 1500.0, p99_us: 2e6, max_us: 999.4 };
        assert_eq!(latency.to_string(), "p50 12 us   p90 1.50 ms   p99 2.00 s   max 999 us");
    }
}
