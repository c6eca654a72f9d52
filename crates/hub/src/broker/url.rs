//! Which broker, as a person writes it: `"memory"` or `"redis://user:password@host:port/db"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which broker, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BrokerUrl {
    /// Inside the process: for one node, or several in one process.
    #[default]
    Memory,
    Redis(RedisUrl),
}

/// Where Redis is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: i64,
}

/// Why a text names no broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    #[error("`{0}` names no broker; write \"memory\" or \"redis://host:6379\"")]
    Unknown(String),
    #[error(
        "TLS towards Redis (rediss://) is not supported yet; write redis:// and keep the way to \
         it private"
    )]
    Tls,
    #[error("the broker's URL has no host; write \"redis://host:6379\"")]
    NoHost,
    #[error("`{0}` is not a port; write a number from 1 to 65535")]
    Port(String),
    #[error("`{0}` is not the number of a Redis database; write one such as 0")]
    Database(String),
    #[error("`{0}` has a % that two hexadecimal digits should follow; write %25 for the sign")]
    Percent(String),
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        match text.split_once("://") {
            None if text == "memory" => Ok(Self::Memory),
            Some(("redis", rest)) => RedisUrl::parse(rest).map(Self::Redis),
            Some(("rediss", _)) => Err(BrokerUrlError::Tls),
            _ => Err(BrokerUrlError::Unknown(text.to_owned())),
        }
    }
}

impl RedisUrl {
    /// Reads what follows `redis://`.
    fn parse(rest: &str) -> Result<Self, BrokerUrlError> {
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => number
                .parse::<u16>()
                .map(i64::from)
                .map_err(|_| BrokerUrlError::Database(number.to_owned()))?,
        };
        // The last @, as a password may have one that its owner did not encode.
        let (who, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err(BrokerUrlError::NoHost);
        }
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (None, None),
        };
        Ok(Self { host: host.to_owned(), port, user, password, database })
    }
}

/// `"[::1]:6379"` is `("::1", 6379)`.
fn split_port(place: &str) -> Result<(&str, u16), BrokerUrlError> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
        None => place.split_once(':').unwrap_or((place, "")),
    };
    match port {
        "" => Ok((host, DEFAULT_PORT)),
        _ => match port.parse() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ => Err(BrokerUrlError::Port(port.to_owned())),
        },
    }
}

/// Undoes percent-encoding; an empty text is none.
fn decode(text: &str) -> Result<Option<String>, BrokerUrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    // The text itself stays out of the error: it may be a password.
    let wrong = || BrokerUrlError::Percent("user:password".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map(Some).map_err(|_| wrong())
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => fmt::Display::fmt(url, f),
        }
    }
}

/// Without the password, as this is for logs.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://")?;
        if self.user.is_some() || self.password.is_some() {
            f.write_str(self.user.as_deref().unwrap_or_default())?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port)?,
            false => write!(f, "{}:{}", self.host, self.port)?,
        }
        if self.database != 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BrokerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for BrokerUrl {
    fn schema_name() -> Cow<'static, str> {
        "BrokerUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(memory|redis://.+)$",
            "description": "A broker: \"memory\", or \"redis://user:password@host:port/db\".",
        })
    }
}

const DEFAULT_PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: RedisUrl) {
        assert_eq!(text.parse(), Ok(BrokerUrl::Redis(expected)), "{text}");
    }

    fn redis(host: &str, port: u16) -> RedisUrl {
        RedisUrl { host: host.into(), port, user: None, password: None, database: 0 }
    }

    #[test]
    fn urls_are_read_as_people_write_them() {
        assert_eq!("memory".parse(), Ok(BrokerUrl::Memory));
        check("redis://localhost", redis("localhost", 6379));
        check("redis://10.0.0.5:7000/3", RedisUrl { database: 3, ..redis("10.0.0.5", 7000) });
        check("redis://[::1]:7000", redis("::1", 7000));
        check("redis://[::1]/", redis("::1", 6379));
        let password = Some("s@cr:t".to_owned());
        check("redis://:s%40cr%3At@h", RedisUrl { password: password.clone(), ..redis("h", 6379) });
        check(
            "redis://app:s@cr:t@h:1",
            RedisUrl { user: Some("app".into()), password, ..redis("h", 1) },
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected| assert_eq!(text.parse::<BrokerUrl>(), Err(expected));
        check("rediss://h", BrokerUrlError::Tls);
        check("kafka://h", BrokerUrlError::Unknown("kafka://h".into()));
        check("localhost:6379", BrokerUrlError::Unknown("localhost:6379".into()));
        check("redis://", BrokerUrlError::NoHost);
        check("redis://h:0", BrokerUrlError::Port("0".into()));
        check("redis://h:port", BrokerUrlError::Port("port".into()));
        check("redis://h/x", BrokerUrlError::Database("x".into()));
        check("redis://:100%@h", BrokerUrlError::Percent("user:password".into()));
    }

    #[test]
    fn a_password_is_never_printed() {
        let url: BrokerUrl = "redis://app:secret@h:1/2".parse().unwrap();
        assert_eq!(url.to_string(), "redis://app:***@h:1/2");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
