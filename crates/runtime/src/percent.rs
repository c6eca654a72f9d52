//! Parts of a whole as a person writes them: `"2%"`, and `"50%"` or `"2"` of some things.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::written_as_text;

/// A part of a whole: `"2%"`, `"0.5%"`; at most `"100%"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    /// Hundredths of a percent.
    basis_points: u16,
}

/// Some of several things: a part of them, or so many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Part(Percent),
    Count(u32),
}

/// What is wrong with a written part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    #[error("`{0}` is not a percentage from 0% to 100%; write it such as \"2%\" or \"0.5%\"")]
    NotPercent(String),
    #[error("`{0}` is neither a percentage nor a number; write it such as \"50%\" or \"2\"")]
    NotShare(String),
}

impl Percent {
    pub const fn whole(percent: u16) -> Self {
        Self { basis_points: percent * 100 }
    }

    /// As a factor: 2 % is 0.02.
    pub fn factor(self) -> f64 {
        f64::from(self.basis_points) / 10_000.0
    }
}

impl Share {
    /// How many of `all` it is at least; never more than all.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Part(part) => (all * usize::from(part.basis_points)).div_ceil(10_000),
            Self::Count(count) => all.min(count as usize),
        }
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let wrong = || PercentError::NotPercent(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > 2 {
            return Err(wrong());
        }
        let whole: u16 = whole.parse().map_err(|_| wrong())?;
        let part: u16 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
        let basis_points = whole.checked_mul(100).and_then(|it| it.checked_add(part));
        let basis_points = basis_points.filter(|&it| it <= 10_000).ok_or_else(wrong)?;
        Ok(Self { basis_points })
    }
}

impl FromStr for Share {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let text = text.trim();
        if text.ends_with('%') {
            return text.parse().map(Self::Part);
        }
        text.parse().map(Self::Count).map_err(|_| PercentError::NotShare(text.to_owned()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.basis_points / 100, self.basis_points % 100);
        match part {
            0 => write!(f, "{whole}%"),
            tenths if part % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
            _ => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(part) => part.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

written_as_text!(
    Percent,
    "A percentage from 0% to 100%, such as 2% or 0.5%.",
    r"^\s*[0-9]{1,3}(\.[0-9]{1,2})?\s*%\s*$"
);
written_as_text!(
    Share,
    "A percentage, such as 50%, or a number, such as 2.",
    r"^\s*([0-9]{1,3}(\.[0-9]{1,2})?\s*%|[0-9]+)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_and_printed_as_people_write_them() {
        for (text, factor) in
            [("2%", 0.02), ("0.5%", 0.005), ("0.05%", 0.0005), ("100%", 1.0), ("0%", 0.0)]
        {
            let percent: Percent = text.parse().unwrap();
            assert_eq!((percent.factor(), percent.to_string().as_str()), (factor, text));
        }
        for wrong in ["", "%", "2", "-1%", "101%", "100.01%", "1.234%", ".5%", "1.%", "+1%", "2 %%"]
        {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_share_is_a_part_or_a_number_and_never_more_than_all() {
        let of = |text: &str, all| text.parse::<Share>().unwrap().of(all);
        assert_eq!([of("50%", 4), of("50%", 3), of("1%", 3), of("0%", 3)], [2, 2, 1, 0]);
        assert_eq!([of("2", 4), of("9", 4), of("0", 4), of("100%", 4)], [2, 4, 0, 4]);
        for wrong in ["", "x", "-1", "1.5", "200%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong:?}");
        }
        assert_eq!("50%".parse::<Share>().unwrap().to_string(), "50%");
    }
}
