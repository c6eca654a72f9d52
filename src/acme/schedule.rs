//! When the next order is due: pure, times and chance come in.

use std::time::{Duration, SystemTime};

/// When a certificate of this validity is renewed: `renew_before` its end, or a third of its
/// lifetime if that is less; a little later by `chance` (0 to 1), so that nodes and names do not
/// order all at once.
pub fn renewal(
    not_before: SystemTime,
    not_after: SystemTime,
    renew_before: Duration,
    chance: f64,
) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    let before = renew_before.min(lifetime / 3);
    not_after - before + before.mul_f64(chance.clamp(0.0, 1.0) / 10.0)
}

/// How long to wait after `failures` in a row, at least one: from `first` on twice as long each
/// time, up to a day, and up to a tenth more by `chance`.
pub fn backoff(failures: u32, first: Duration, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let wait = first.saturating_mul(1 << doublings).min(LONGEST);
    wait + wait.mul_f64(chance.clamp(0.0, 1.0) / 10.0)
}

const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn check(lifetime: u32, renew_before: u32, chance: f64, days_before_end: f64) {
        let begin = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let end = begin + DAY * lifetime;
        let due = renewal(begin, end, DAY * renew_before, chance);
        let before = end.duration_since(due).unwrap().as_secs_f64() / DAY.as_secs_f64();
        assert!((before - days_before_end).abs() < 1e-6, "{before} days before the end");
    }

    #[test]
    fn a_renewal_comes_with_a_third_of_the_lifetime_left() {
        check(90, 30, 0.0, 30.0);
        check(90, 10, 0.0, 10.0);
        check(90, 60, 0.0, 30.0);
        check(6, 30, 0.0, 2.0);
    }

    #[test]
    fn chance_spreads_renewals_over_a_tenth_of_what_is_left() {
        check(90, 30, 1.0, 27.0);
        check(90, 30, 7.0, 27.0);
    }

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_due_at_once() {
        let end = SystemTime::UNIX_EPOCH + DAY;
        assert_eq!(renewal(end + DAY, end, DAY, 1.0), end);
    }

    #[test]
    fn waits_double_up_to_a_day() {
        let minute = Duration::from_secs(60);
        let waits: Vec<_> = (1..=12).map(|it| backoff(it, minute, 0.0).as_secs() / 60).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440]);
        assert_eq!(backoff(u32::MAX, minute, 0.0), DAY);
        assert_eq!(backoff(1, minute, 1.0), Duration::from_secs(66));
    }
}
