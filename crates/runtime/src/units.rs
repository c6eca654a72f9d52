//! Lengths of time and sizes as a person writes them: `"30s"`, `"1m30s"`, `"64KiB"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time: `"250ms"`, `"30s"`, `"1m30s"`, `"1h"`, `"2d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: `"512"`, `"64KiB"`, `"16MiB"`, `"1GiB"`; `KB` and `MB` are powers of 1000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// What is wrong with a written length of time or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error(
        "`{0}` is not a length of time; write a number and a unit, such as \"250ms\", \"30s\" or \"1h\""
    )]
    NotPeriod(String),
    #[error(
        "`{0}` is not a size; write a number and a unit, such as \"512B\", \"64KiB\" or \"16MiB\""
    )]
    NotSize(String),
}

impl Period {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::NotPeriod(text.to_owned());
        let mut total: u64 = 0;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, unit, after) = split_part(rest).ok_or_else(wrong)?;
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(scale).ok_or_else(wrong)?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        Ok(Self::from_millis(total))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::NotSize(text.to_owned());
        let (number, unit, after) = split_part(text.trim()).ok_or_else(wrong)?;
        let scale = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "k" | "kib" => 1 << 10,
            "mb" => 1_000_000,
            "m" | "mib" => 1 << 20,
            "gb" => 1_000_000_000,
            "g" | "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        if !after.is_empty() {
            return Err(wrong());
        }
        number.checked_mul(scale).map(Self).ok_or_else(wrong)
    }
}

/// `"1m30s"` is `(1, "m", "30s")`.
fn split_part(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..unit], rest[unit..].trim_start()))
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        if rest > 0 { write!(f, "{rest}ms") } else { Ok(()) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Reads a type by its `FromStr` and writes it by its `Display`, in configurations and schemas.
macro_rules! written_as_text {
    ($type:ident, $what:literal, $pattern:literal) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    };
}

pub(crate) use written_as_text;

written_as_text!(
    Period,
    "A length of time, such as 250ms, 30s, 1m30s or 1h.",
    r"^\s*([0-9]+\s*(ms|s|m|min|h|d)\s*)+$"
);
written_as_text!(
    Size,
    "A number of bytes, such as 512B, 64KiB or 16MiB.",
    r"^\s*[0-9]+\s*([kKmMgG]([iI]?[bB])?|[bB])?\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn check_period(text: &str, milliseconds: Option<u64>) {
        let parsed = text.parse::<Period>().ok();
        assert_eq!(parsed, milliseconds.map(Period::from_millis), "{text:?}");
    }

    #[test]
    fn periods_are_read_as_people_write_them() {
        check_period("250ms", Some(250));
        check_period("30s", Some(30_000));
        check_period("1m30s", Some(90_000));
        check_period("1h", Some(3_600_000));
        check_period(" 2 d ", Some(172_800_000));
        check_period("0s", Some(0));
        for wrong in ["", "30", "s", "1.5s", "-1s", "1y", "99999999999999999999s", "9e9s", "1s x"] {
            check_period(wrong, None);
        }
    }

    fn check_size(text: &str, bytes: Option<u64>) {
        assert_eq!(text.parse::<Size>().ok(), bytes.map(Size), "{text:?}");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        check_size("512", Some(512));
        check_size("64KiB", Some(65_536));
        check_size("64 kib", Some(65_536));
        check_size("1MB", Some(1_000_000));
        check_size("2GiB", Some(2 << 30));
        for wrong in ["", "KiB", "1.5MiB", "-1", "1TiB", "1KiB 2", "99999999999999999999"] {
            check_size(wrong, None);
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for milliseconds in [0, 1, 999, 1_000, 61_000, 90_061_001] {
            let period = Period::from_millis(milliseconds);
            assert_eq!(period.to_string().parse(), Ok(period));
        }
        for bytes in [0, 1, 1_023, 1_024, 65_536, 3 << 30] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }
}
