//! Who may connect to a Unix socket.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The rights of a socket's file, which say who can connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnixConfig {
    /// The permissions, as `chmod` has them: who may write may connect.
    pub mode: Mode,
    /// The user whose file it is, by name or number; without it, who starts the process.
    pub user: Option<String>,
    /// The group whose file it is, by name or number.
    pub group: Option<String>,
}

/// Permissions of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

/// What is wrong with written permissions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mode of a file; write three octal digits, such as \"660\"")]
pub struct NotMode(String);

impl Default for Mode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl FromStr for Mode {
    type Err = NotMode;

    fn from_str(text: &str) -> Result<Self, NotMode> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let is_octal = digits.len() == 3 && digits.bytes().all(|it| (b'0'..b'8').contains(&it));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
        mode.map(Self).ok_or_else(|| NotMode(text.to_owned()))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^0?[0-7]{3}$",
            "description": "The permissions of a file, in octal, such as 660."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_written_in_octal() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(text.parse().ok().map(|Mode(bits)| bits), expected, "{text}");
        };
        check("660", Some(0o660));
        check("0666", Some(0o666));
        check("600", Some(0o600));
        for odd in ["", "0", "66", "06666", "0o660", "rw-rw----", "680", "+66", "1777"] {
            check(odd, None);
        }
        assert_eq!(Mode(0o60).to_string(), "060");
    }
}
