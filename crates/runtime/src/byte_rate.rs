//! How many bytes may pass in a length of time, as a person writes it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Size, written_as_text};

/// So many bytes in a length of time: `"1MiB/s"`, `"64KiB/s"`, `"100MiB/m"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ByteRate {
    /// 0 is none at all.
    pub size: Size,
    pub per: Duration,
}

/// What is wrong with a written rate of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByteRateError {
    #[error(
        "`{0}` is not a rate of bytes; write a size and a length of time, such as \"1MiB/s\" or \"100MiB/m\""
    )]
    NotByteRate(String),
}

impl FromStr for ByteRate {
    type Err = ByteRateError;

    fn from_str(text: &str) -> Result<Self, ByteRateError> {
        let wrong = || ByteRateError::NotByteRate(text.to_owned());
        let (size, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let size = size.parse().map_err(|_| wrong())?;
        Ok(Self { size, per: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.size)
    }
}

written_as_text!(
    ByteRate,
    "How many bytes in a second, minute or hour, such as 1MiB/s or 100MiB/m.",
    r"^\s*[0-9]+\s*([kKmMgG]([iI]?[bB])?|[bB])?\s*/\s*(s|m|min|h)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_printed_as_people_write_them() {
        for (text, bytes, seconds) in [("1MiB/s", 1 << 20, 1), ("64KiB/m", 65_536, 60)] {
            let rate = ByteRate { size: Size(bytes), per: Duration::from_secs(seconds) };
            assert_eq!((text.parse(), rate.to_string().as_str()), (Ok(rate), text));
        }
        for wrong in ["", "1MiB", "/s", "1MiB/d", "fast/s", "-1/s"] {
            assert!(wrong.parse::<ByteRate>().is_err(), "{wrong:?}");
        }
    }
}
