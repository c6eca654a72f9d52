//! The algorithms by their words in the configuration.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::Key;

/// How a backend chooses a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    Roundrobin,
    Leastconn,
    Random,
    First,
    /// By what requests have in common.
    Hash(Key),
}

/// What is wrong with a written algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    #[error("`balance` cannot be `{0}`")]
    Unknown(String),
    #[error("`{0}:` says nothing to balance by; write such as \"{0}:{1}\"")]
    NoName(&'static str, &'static str),
    #[error("`{0}` is not the name of a header; write such as \"header:X-Room\"")]
    NotHeader(String),
    #[error("`{0}` is not the name of a cookie; write such as \"cookie:user\"")]
    NotCookie(String),
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let unknown = || AlgorithmError::Unknown(text.to_owned());
        let Some((kind, name)) = text.split_once(':') else {
            return match text {
                "roundrobin" => Ok(Self::Roundrobin),
                "leastconn" => Ok(Self::Leastconn),
                "random" => Ok(Self::Random),
                "first" => Ok(Self::First),
                "source" => Ok(Self::Hash(Key::Source)),
                "uri" => Ok(Self::Hash(Key::Uri)),
                "header" => Err(AlgorithmError::NoName("header", "X-Room")),
                "query" => Err(AlgorithmError::NoName("query", "room")),
                "cookie" => Err(AlgorithmError::NoName("cookie", "user")),
                _ => Err(unknown()),
            };
        };
        match (kind, name) {
            ("header", "") => Err(AlgorithmError::NoName("header", "X-Room")),
            ("query", "") => Err(AlgorithmError::NoName("query", "room")),
            ("cookie", "") => Err(AlgorithmError::NoName("cookie", "user")),
            ("header", name) => match name.parse::<HeaderName>() {
                Ok(name) => Ok(Self::Hash(Key::Header(name))),
                Err(_) => Err(AlgorithmError::NotHeader(name.to_owned())),
            },
            ("query", name) => Ok(Self::Hash(Key::Query(name.into()))),
            ("cookie", name) if is_cookie_name(name) => Ok(Self::Hash(Key::Cookie(name.into()))),
            ("cookie", name) => Err(AlgorithmError::NotCookie(name.to_owned())),
            _ => Err(unknown()),
        }
    }
}

/// Whether it can be a cookie's name: a token (RFC 6265, section 4.1.1), as a header's name is.
pub fn is_cookie_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roundrobin => f.write_str("roundrobin"),
            Self::Leastconn => f.write_str("leastconn"),
            Self::Random => f.write_str("random"),
            Self::First => f.write_str("first"),
            Self::Hash(key) => key.fmt(f),
        }
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| match error {
            AlgorithmError::Unknown(text) => D::Error::unknown_variant(&text, &[]),
            error => D::Error::custom(error),
        })
    }
}

impl JsonSchema for Algorithm {
    fn schema_name() -> Cow<'static, str> {
        "Algorithm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = |(word, meaning): &(&str, &str)| {
            json_schema!({ "const": word, "description": meaning }).to_value()
        };
        let mut words: Vec<_> = WORDS.iter().map(word).collect();
        words.push(
            json_schema!({
                "type": "string",
                "pattern": "^(header|query|cookie):.+$",
                "description": "A header, a parameter of the query or a cookie, by its name."
            })
            .to_value(),
        );
        json_schema!({ "description": "How a backend chooses a server.", "anyOf": words })
    }
}

/// What may be written, each with what it means.
const WORDS: [(&str, &str); 9] = [
    (
        "roundrobin",
        "Each in turn, in proportion to the weights, as evenly spread as the weights allow.",
    ),
    ("leastconn", "The one with the fewest requests and tunnels now, for its weight."),
    (
        "random",
        "Of two that are drawn, with the weights as their chances, the one with the fewest requests \
         and tunnels, for its weight.",
    ),
    ("first", "The first in the list that has room under its `maxconn`."),
    (
        "source",
        "By the client's address (IPv6: its first 64 bits): the same server for the same address.",
    ),
    ("uri", "By the path: the same server for the same path, whatever its query."),
    ("header:NAME", "By the value of a header, such as `header:X-Room`."),
    ("query:NAME", "By the value of a parameter of the query, such as `query:room`."),
    ("cookie:NAME", "By the value of a cookie, such as `cookie:user`."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_and_written_alike() {
        for (word, _) in WORDS {
            let algorithm: Algorithm = word.parse().unwrap();
            assert_eq!(algorithm.to_string().to_lowercase(), word.to_lowercase());
        }
        assert_eq!(Algorithm::default().to_string(), WORDS[0].0);
    }

    #[test]
    fn what_is_not_one_says_what_would_be() {
        let error = |text: &str| text.parse::<Algorithm>().unwrap_err();
        assert_eq!(error("leastcon"), AlgorithmError::Unknown("leastcon".into()));
        assert_eq!(error("hdr:X"), AlgorithmError::Unknown("hdr:X".into()));
        assert_eq!(error("header"), AlgorithmError::NoName("header", "X-Room"));
        assert_eq!(error("query:"), AlgorithmError::NoName("query", "room"));
        assert_eq!(error("header:a b"), AlgorithmError::NotHeader("a b".into()));
        assert_eq!(error("cookie:a=b"), AlgorithmError::NotCookie("a=b".into()));
    }
}
