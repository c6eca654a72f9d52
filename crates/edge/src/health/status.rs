//! Which status codes of an answer are meant: `204`, `"2xx"`, `"200-299"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Status codes from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

/// What is wrong with written status codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    #[error("`{0}` is no status; write such as 204, \"2xx\" or \"200-299\", from 200 to 599")]
    NotStatus(String),
}

impl StatusRange {
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    fn new(first: u16, last: u16) -> Option<Self> {
        // An answer below 200 is not the last word.
        let is_right = (200..=599).contains(&first) && (first..=599).contains(&last);
        is_right.then_some(Self { first, last })
    }
}

impl FromStr for StatusRange {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let code = |text: &str| {
            let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_code)
        };
        let lower = text.to_ascii_lowercase();
        let range = match (lower.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) if class.len() == 1 => {
                code(&format!("{class}00")).and_then(|first| Self::new(first, first + 99))
            }
            (_, Some((first, last))) => {
                code(first).zip(code(last)).and_then(|(first, last)| Self::new(first, last))
            }
            _ => code(text).and_then(|only| Self::new(only, only)),
        };
        range.ok_or_else(|| StatusError::NotStatus(text.to_owned()))
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = *self;
        match (first == last, first % 100 == 0 && last == first + 99) {
            (true, _) => write!(f, "{first}"),
            (_, true) => write!(f, "{}xx", first / 100),
            _ => write!(f, "{first}-{last}"),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.first == self.last {
            true => serializer.serialize_u16(self.first),
            false => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status such as 204, \"2xx\" or \"200-299\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusRange, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<StatusRange, E> {
        status.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<StatusRange, E> {
        status.to_string().parse().map_err(E::custom)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 200,
            "maximum": 599,
            "pattern": "^([2-5][0-9][0-9](-[2-5][0-9][0-9])?|[2-5][xX][xX])$",
            "description": "A status such as 204, \"2xx\" or \"200-299\"."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_classes_and_ranges_are_read_and_printed() {
        for (text, within, without) in
            [("204", 204, 205), ("2xx", 299, 300), ("200-204", 204, 205), ("599", 599, 598)]
        {
            let range: StatusRange = text.parse().unwrap();
            assert!(range.contains(within) && !range.contains(without), "{text}");
            assert_eq!(range.to_string(), text);
        }
        assert_eq!("4XX".parse::<StatusRange>().unwrap().to_string(), "4xx");
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for wrong in
            ["", "20", "2000", "101", "1xx", "6xx", "xx", "22xx", "204-200", "200-", "-299", "+04"]
        {
            let error = StatusError::NotStatus(wrong.into());
            assert_eq!(wrong.parse::<StatusRange>(), Err(error));
        }
    }
}
