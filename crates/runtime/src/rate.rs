//! How often something may happen: rates as a person writes them, and the state that holds to one.
//!
//! The state is the one number of the generic cell rate algorithm (ITU-T I.371): the time at which
//! all that has happened would be paid for. Pure: the time is an argument.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::written_as_text;

/// So many in a length of time: `"100/s"`, `"30/m"`, `"5/h"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; 0 is none at all.
    pub count: u32,
    pub per: Duration,
}

/// What is wrong with a written rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error(
        "`{0}` is not a rate; write a number and a length of time, such as \"100/s\" or \"30/m\""
    )]
    NotRate(String),
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError::NotRate(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

written_as_text!(
    Rate,
    "How often in a second, minute or hour, such as 100/s, 30/m or 5/h.",
    r"^\s*[0-9]+\s*/\s*(s|m|min|h)\s*$"
);

/// A rate as it is held to: so long between two, and so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds that one costs.
    interval: u64,
    /// Nanoseconds that may be owed before one has to wait.
    tolerance: u64,
}

impl Pace {
    /// `count` in `per`, of which `burst` (at least 1) may come at once. `None` for none at all.
    pub fn new(count: u64, per: Duration, burst: u64) -> Option<Self> {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let interval = per.checked_div(count)?.max(1);
        Some(Self { interval, tolerance: interval.saturating_mul(burst.max(1) - 1) })
    }
}

/// What has happened so far, against a [`Pace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// When all so far is paid for, in nanoseconds of the caller's clock.
    paid: u64,
}

impl Meter {
    /// Takes `amount` at the time `now` (nanoseconds), if the pace allows it now; otherwise takes
    /// nothing and says how long until it would.
    pub fn take(&mut self, pace: &Pace, amount: u64, now: u64) -> Result<(), Duration> {
        match self.wait(pace, now) {
            Duration::ZERO => {
                self.charge(pace, amount, now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes `amount` whether or not the pace allows it: what has happened already.
    pub fn charge(&mut self, pace: &Pace, amount: u64, now: u64) {
        self.paid = self.paid.max(now).saturating_add(pace.interval.saturating_mul(amount));
    }

    /// Gives back what was taken for something that did not come about.
    pub fn refund(&mut self, pace: &Pace, amount: u64) {
        self.paid = self.paid.saturating_sub(pace.interval.saturating_mul(amount));
    }

    /// How long until it is as if nothing had ever happened.
    pub fn debt(&self, now: u64) -> Duration {
        Duration::from_nanos(self.paid.saturating_sub(now))
    }

    /// How long until the pace allows more.
    pub fn wait(&self, pace: &Pace, now: u64) -> Duration {
        self.wait_behind(pace, 0, now)
    }

    /// How long until the pace allows more behind `others`, who take one each as soon as they may.
    pub fn wait_behind(&self, pace: &Pace, others: u64, now: u64) -> Duration {
        let paid = self.paid.saturating_add(pace.interval.saturating_mul(others));
        let allowed = now.saturating_add(pace.tolerance);
        Duration::from_nanos(paid.saturating_sub(allowed))
    }

    /// Whether it is as if nothing had ever happened.
    pub fn is_fresh(&self, now: u64) -> bool {
        self.paid <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_are_read_and_printed_as_people_write_them() {
        for (text, count, seconds) in [("100/s", 100, 1), ("30/m", 30, 60), ("5/h", 5, 3600)] {
            let rate = Rate { count, per: Duration::from_secs(seconds) };
            assert_eq!((text.parse(), rate.to_string().as_str()), (Ok(rate), text));
        }
        assert_eq!(" 2 / min ".parse::<Rate>().map(|rate| rate.to_string()), Ok("2/m".to_owned()));
        for wrong in ["", "5", "5/", "/s", "5/d", "-1/s", "1.5/s", "5s", "99999999999/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong:?}");
        }
    }

    /// How many of the arrivals (in milliseconds) at ten a second are let through.
    fn check(burst: u64, arrivals: &[u64], expected: &[bool]) {
        let pace = Pace::new(10, Duration::from_secs(1), burst).unwrap();
        let mut meter = Meter::default();
        let take = |at: &u64| meter.take(&pace, 1, SECOND + at * 1_000_000).is_ok();
        assert_eq!(arrivals.iter().map(take).collect::<Vec<_>>(), expected, "{arrivals:?}");
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        check(1, &[0, 1, 99, 100, 150, 200], &[true, false, false, true, false, true]);
        check(3, &[0, 0, 0, 0, 100, 100], &[true, true, true, false, true, false]);
        check(2, &[0, 0, 1000, 1000, 1000], &[true, true, true, true, false]);
    }

    #[test]
    fn who_must_wait_is_told_how_long() {
        let pace = Pace::new(10, Duration::from_secs(1), 1).unwrap();
        let mut meter = Meter::default();
        assert_eq!(meter.take(&pace, 1, SECOND), Ok(()));
        assert_eq!(meter.take(&pace, 1, SECOND), Err(Duration::from_millis(100)));
        // Nothing was taken by that.
        assert_eq!(meter.take(&pace, 1, SECOND + SECOND / 10), Ok(()));
    }

    #[test]
    fn what_came_all_the_same_is_paid_for_later() {
        let pace = Pace::new(1000, Duration::from_secs(1), 500).unwrap();
        let mut meter = Meter::default();
        meter.charge(&pace, 2000, SECOND);
        assert!(!meter.is_fresh(2 * SECOND));
        assert_eq!(meter.wait(&pace, SECOND), Duration::from_millis(2000 - 499));
        assert_eq!(meter.wait(&pace, 3 * SECOND), Duration::ZERO);
        assert!(meter.is_fresh(3 * SECOND));
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(Pace::new(0, Duration::from_secs(1), 1), None);
        let pace = Pace::new(u64::MAX, Duration::MAX, u64::MAX).unwrap();
        let mut meter = Meter::default();
        meter.charge(&pace, u64::MAX, u64::MAX);
        assert_eq!(meter.wait(&pace, u64::MAX), Duration::ZERO);
        let slow = Pace::new(1, Duration::MAX, 1).unwrap();
        meter.charge(&slow, u64::MAX, 0);
        assert!(meter.wait(&slow, 0) > Duration::ZERO);
    }
}
