//! What of a request decides which server it gets, and its hash.
//!
//! The hash is the same in every process and every release, on every machine: edges beside each
//! other, and one before and after an update, choose the same server. It is FNV-1a (64 bits) of the
//! bytes, mixed by the finisher of MurmurHash3. Whoever can choose a key chooses a server with any
//! hash; so it need not be secret, but short.

use std::fmt;
use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, Uri};
use tidewire_wire::http::{cookies, query};

/// What requests have in common that are to get the same server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The client's address.
    Source,
    /// The path.
    Uri,
    /// A header.
    Header(HeaderName),
    /// A parameter of the query.
    Query(Box<str>),
    Cookie(Box<str>),
}

impl Key {
    /// The hash of it in a request; `None` when the request does not have it, or has it empty.
    pub fn of(&self, client: IpAddr, uri: &Uri, headers: &HeaderMap) -> Option<u64> {
        match self {
            Self::Source => Some(of_address(client)),
            Self::Uri => Some(hash(uri.path().as_bytes())),
            Self::Header(name) => some(headers.get(name)?.as_bytes()),
            Self::Query(name) => parameter(uri, name).and_then(|value| some(&value)),
            Self::Cookie(name) => some(cookie(headers, name)?),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Uri => f.write_str("uri"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// The first parameter of the query that has this name, decoded; as it is when it cannot be.
pub fn parameter(uri: &Uri, name: &str) -> Option<Vec<u8>> {
    let mut parameters = query::parameters(uri.query()?);
    let found = parameters.find(|one| one.is_named(name))?;
    Some(found.decoded().map_or_else(|| found.value.into(), Into::into))
}

/// The first cookie of this name.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines.flat_map(|line| cookies::pairs(line.as_bytes()));
    pairs.find(|(named, _)| *named == name.as_bytes()).map(|(_, value)| value)
}

/// The hash of some bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Spreads a number over all of its bits, one to one.
pub fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn some(value: &[u8]) -> Option<u64> {
    (!value.is_empty()).then(|| hash(value))
}

/// An IPv6 client has 64 bits of addresses to itself, and changes them every day.
fn of_address(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::balance::algorithm::Algorithm;

    /// The hash of what `balance` names in a request.
    fn of(balance: &str, client: &str, uri: &str, head: &[(&str, &str)]) -> Option<u64> {
        let Ok(Algorithm::Hash(key)) = balance.parse() else { panic!("{balance} has a key") };
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        key.of(client.parse().unwrap(), &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_request_has_the_key_where_its_algorithm_says() {
        let room = Some(hash(b"7"));
        let check = |balance, uri, head: &[(&str, &str)], expected| {
            assert_eq!(of(balance, "192.0.2.1", uri, head), expected, "{balance} {uri} {head:?}");
        };
        check("header:X-Room", "/", &[("x-room", "7")], room);
        check("header:X-Room", "/", &[("x-room", "7"), ("x-room", "8")], room);
        check("header:X-Room", "/?x-room=7", &[], None);
        check("header:X-Room", "/", &[("x-room", "")], None);
        check("query:room", "/?a=1&room=7&room=8", &[], room);
        check("query:room", "/?r%6fom=%37", &[], room);
        check("query:room", "/?room=", &[], None);
        check("query:room", "/?room", &[], None);
        check("query:room", "/", &[("room", "7")], None);
        check("cookie:user", "/", &[("cookie", "a=1; user=7")], room);
        check("cookie:user", "/", &[("cookie", "a=1"), ("cookie", "user=7; user=8")], room);
        check("cookie:user", "/", &[("cookie", "users=7; user=")], None);
        check("uri", "/a/b?c", &[], Some(hash(b"/a/b")));
        check("uri", "/a/b?d", &[], Some(hash(b"/a/b")));
        check("uri", "http://other.test/a/b", &[], Some(hash(b"/a/b")));
    }

    #[test]
    fn a_client_s_address_is_one_however_it_is_written() {
        let source = |client| of("source", client, "/", &[]);
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }

    #[test]
    fn hashes_are_those_of_all_releases() {
        // Another number moves the clients of everybody who updates.
        let hashes = ["", "a", "room-42"].map(|text| hash(text.as_bytes()));
        assert_eq!(hashes, HASHES);
    }

    const HASHES: [u64; 3] =
        [17_280_346_270_528_514_342, 9_413_272_369_427_828_315, 4_997_348_295_329_278_121];
}
