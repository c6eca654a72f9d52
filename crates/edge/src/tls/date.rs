//! A moment in seconds since 1970, shown as a day.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i64);

impl Date {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// Whole days from `now` until this; negative when it has passed.
    pub fn days_from(self, now: Self) -> i64 {
        (self.0 - now.0).div_euclid(DAY)
    }
}

impl From<ASN1Time> for Date {
    fn from(time: ASN1Time) -> Self {
        Self(time.timestamp())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to years by whole eras of 400 years, beginning in March (Hinnant, "chrono-compatible
        // low-level date algorithms").
        let days = self.0.div_euclid(DAY) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", year + era * 400 + later)
    }
}

/// In seconds.
pub const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_shown_as_a_day() {
        let check = |seconds, expected| assert_eq!(Date(seconds).to_string(), expected);
        check(0, "1970-01-01");
        check(951_782_400, "2000-02-29");
        check(1_767_225_599, "2025-12-31");
        check(1_767_225_600, "2026-01-01");
        check(4_102_444_800, "2100-01-01");
        check(-1, "1969-12-31");
    }
}
