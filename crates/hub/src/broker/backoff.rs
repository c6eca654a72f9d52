//! How long to wait before trying again: longer each time, never the same on two nodes.

use std::time::Duration;

/// Growing delays with jitter. Pure: randomness is an argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next delay. `random` is evenly spread in `0.0..1.0`: half of each delay is up to it, so
    /// that the nodes of a cluster do not come back to a broker all at once.
    pub fn next(&mut self, random: f64) -> Duration {
        let full = (FIRST * 2u32.pow(self.attempts.min(20))).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(0.5 + random / 2.0)
    }

    /// Starts over, once a connection has proved to last.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_start_over() {
        let mut backoff = Backoff::default();
        let mut delays = (0..40).map(|_| backoff.next(1.0)).collect::<Vec<_>>();
        assert_eq!(delays[..3], [50, 100, 200].map(Duration::from_millis));
        assert!(delays.is_sorted());
        assert_eq!(delays.pop(), Some(LONGEST));
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(25));
    }
}
