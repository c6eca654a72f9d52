//! Where a request can have a credential, and finding it there.
//!
//! A credential that is there twice is refused: which of the two counts would depend on who reads.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidewire_wire::http::{cookies, query};

use crate::method::{Denied, Found, Presented};

/// A place of a request: `authorization`, `cookie:session`, `query:token`, `subprotocol:bearer`,
/// `header:X-Token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer ...`.
    Authorization,
    Cookie(Box<str>),
    Query(Box<str>),
    /// Among the offered subprotocols: the one after this marker, or the rest of the one that
    /// begins with the marker and a dot.
    Subprotocol(Box<str>),
    /// The whole value of this header.
    Header(HeaderName),
}

/// What is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a place for a token; write \"authorization\", \"cookie:session\", \
     \"query:token\", \"subprotocol:bearer\" or \"header:X-Token\""
)]
pub struct PlaceError(String);

/// A credential as it stands in a request, and where.
pub type At<'p> = (Cow<'p, str>, Found);

/// What stands in the first of the places that has something.
pub fn find<'p>(places: &[Place], presented: &Presented<'p>) -> Result<Option<At<'p>>, Denied> {
    for place in places {
        if let Some(found) = place.find(presented)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// All that stands in any of the places, be it a credential or not.
pub fn occupied(places: &[Place], presented: &Presented<'_>) -> Vec<Found> {
    places.iter().flat_map(|place| place.occupied(presented)).collect()
}

/// Whether there is an `Authorization` of this scheme.
pub fn has_scheme(presented: &Presented<'_>, scheme: &str) -> bool {
    presented.headers.get_all(AUTHORIZATION).iter().any(|line| {
        let first = line.as_bytes().split(|byte| b" \t,".contains(byte)).next();
        first.is_some_and(|first| first.eq_ignore_ascii_case(scheme.as_bytes()))
    })
}

/// The credentials of an `Authorization` of this scheme. Another scheme is for somebody else.
pub fn authorization<'p>(
    presented: &Presented<'p>,
    scheme: &str,
) -> Result<Option<&'p str>, Denied> {
    let mut lines = presented.headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => text(line)?,
        (Some(_), Some(_)) => return Err(twice()),
    };
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if !first.eq_ignore_ascii_case(scheme) {
        return Ok(None);
    }
    match rest.trim_start_matches(' ') {
        "" => Err(malformed()),
        credentials => Ok(Some(credentials)),
    }
}

impl Place {
    fn find<'p>(&self, presented: &Presented<'p>) -> Result<Option<At<'p>>, Denied> {
        match self {
            Self::Authorization => {
                let found = authorization(presented, "Bearer")?;
                Ok(found.map(|text| (text.into(), Found::Header(AUTHORIZATION))))
            }
            Self::Cookie(name) => cookie(name, presented),
            Self::Query(name) => parameter(name, presented),
            Self::Subprotocol(marker) => subprotocol(marker, presented),
            Self::Header(name) => {
                let lines = presented.headers.get_all(name).iter();
                let value = one(lines)?.map(text).transpose()?;
                Ok(value.map(|text| (text.into(), Found::Header(name.clone()))))
            }
        }
    }
}

impl Place {
    /// What stands here. All that has the same name is one, as it is taken out together.
    fn occupied(&self, presented: &Presented<'_>) -> Vec<Found> {
        let one = |is_there: bool, found: Found| is_there.then_some(found).into_iter().collect();
        match self {
            Self::Authorization => {
                one(has_scheme(presented, "Bearer"), Found::Header(AUTHORIZATION))
            }
            Self::Cookie(name) => {
                let lines = presented.headers.get_all(COOKIE).iter();
                let mut pairs = lines.flat_map(|line| cookies::pairs(line.as_bytes()));
                let is_there = pairs.any(|(found, _)| found == name.as_bytes());
                one(is_there, Found::Cookie(name.clone()))
            }
            Self::Query(name) => {
                let mut all = presented.query.into_iter().flat_map(query::parameters);
                one(all.any(|it| it.is_named(name)), Found::Query(name.clone()))
            }
            Self::Subprotocol(marker) => tokens_among(marker, presented.subprotocols),
            Self::Header(name) => {
                one(presented.headers.contains_key(name), Found::Header(name.clone()))
            }
        }
    }
}

/// Each marker with what is behind it, and each offer that begins with the marker and a dot.
fn tokens_among(marker: &str, offers: &[&str]) -> Vec<Found> {
    let mut all = Vec::new();
    let mut index = 0;
    while let Some(offer) = offers.get(index) {
        let is_single = offer.strip_prefix(marker).is_some_and(|rest| rest.starts_with('.'));
        let end = if *offer == marker { (index + 2).min(offers.len()) } else { index + 1 };
        if *offer == marker || is_single {
            all.push(Found::Subprotocol { offers: index..end, answer: (*offer).into() });
        }
        index = end;
    }
    all
}

fn cookie<'p>(name: &str, presented: &Presented<'p>) -> Result<Option<At<'p>>, Denied> {
    let lines = presented.headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| cookies::pairs(line.as_bytes()));
    let values = pairs.filter(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value);
    let Some(value) = one(values)? else { return Ok(None) };
    // RFC 6265, section 4.1.1: quotes around it are not part of it.
    let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    let value = std::str::from_utf8(value).map_err(|_| malformed())?;
    Ok(Some((value.into(), Found::Cookie(name.into()))))
}

fn parameter<'p>(name: &str, presented: &Presented<'p>) -> Result<Option<At<'p>>, Denied> {
    let parameters = presented.query.into_iter().flat_map(query::parameters);
    let Some(found) = one(parameters.filter(|it| it.is_named(name)))? else { return Ok(None) };
    let value = match found.decoded().ok_or_else(malformed)? {
        Cow::Borrowed(_) => Cow::Borrowed(found.value),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| malformed())?),
    };
    Ok(Some((value, Found::Query(name.into()))))
}

fn subprotocol<'p>(marker: &str, presented: &Presented<'p>) -> Result<Option<At<'p>>, Denied> {
    let offers = presented.subprotocols;
    let rest = |offer: &'p str| offer.strip_prefix(marker)?.strip_prefix('.');
    let is_ours = |&(_, offer): &(usize, &&'p str)| *offer == marker || rest(offer).is_some();
    // A token may itself begin like the marker; what is behind a marker is not looked at.
    let mut found = None;
    let mut index = 0;
    while let Some((at, offer)) = offers.iter().enumerate().skip(index).find(is_ours) {
        let (token, end) = match rest(offer) {
            Some(token) => (token, at + 1),
            None => (*offers.get(at + 1).ok_or_else(malformed)?, at + 2),
        };
        if found.is_some() {
            return Err(twice());
        }
        found =
            Some((token.into(), Found::Subprotocol { offers: at..end, answer: (*offer).into() }));
        index = end;
    }
    Ok(found)
}

/// The only element, if there is one.
fn one<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Denied> {
    let first = all.next();
    if all.next().is_some() { Err(twice()) } else { Ok(first) }
}

fn text(line: &HeaderValue) -> Result<&str, Denied> {
    line.to_str().map_err(|_| malformed())
}

fn twice() -> Denied {
    Denied::Invalid("the credentials are there twice".into())
}

fn malformed() -> Denied {
    Denied::Invalid("the credentials are malformed".into())
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError(text.to_owned());
        if text == "authorization" {
            return Ok(Self::Authorization);
        }
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let is_token = HeaderName::from_bytes(name.as_bytes()).is_ok();
        match kind {
            "query" if !name.is_empty() && !name.contains(['&', '=', '#', ' ', '%']) => {
                Ok(Self::Query(name.into()))
            }
            _ if !is_token => Err(wrong()),
            "cookie" => Ok(Self::Cookie(name.into())),
            "subprotocol" => Ok(Self::Subprotocol(name.into())),
            // It has a scheme, and may be in parts.
            "header" if name.eq_ignore_ascii_case("authorization") => Err(wrong()),
            "header" if name.eq_ignore_ascii_case("cookie") => Err(wrong()),
            "header" => name.parse().map(Self::Header).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("authorization"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Subprotocol(marker) => write!(f, "subprotocol:{marker}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(authorization|(cookie|query|subprotocol|header):.+)$",
            "description": "A place of a request, such as authorization, cookie:session, \
                            query:token, subprotocol:bearer or header:X-Token."
        })
    }
}
