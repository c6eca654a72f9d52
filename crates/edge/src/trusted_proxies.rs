//! Where the client of a request is, when it comes from a proxy that is trusted to say so.
//!
//! Only what a trusted proxy has added is believed: a list of addresses is read from its end, past
//! those of trusted proxies, to the first that is none. What stands before that is the client's own
//! word.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_wire::http::said::{self, Element, Unreadable};

use crate::client_address::ClientAddress;
use crate::origin::Transport;
use crate::peer_set::PeerSet;
use crate::written::written_as_text;

/// The proxies whose word is taken, and how they say it.
#[derive(Debug)]
pub struct TrustedProxies {
    pub from: PeerSet,
    pub header: AddressHeader,
    /// Whether they say by which scheme a client has asked.
    pub scheme: bool,
    /// Whether they say for which host.
    pub host: bool,
    pub onward: Onward,
}

/// The header that says where clients are: one only, as a client may send all others itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressHeader {
    /// To which each proxy adds the address of its client: `X-Forwarded-For`.
    ForwardedFor,
    /// The same with more (RFC 7239): `Forwarded`.
    Forwarded,
    /// One that the first proxy sets to a single address, such as `CF-Connecting-IP`.
    Single(HeaderName),
}

/// What is wrong with a written name of a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a header; write \"x-forwarded-for\", \"forwarded\" or such as \"cf-connecting-ip\""
)]
pub struct NotHeader(String);

impl FromStr for AddressHeader {
    type Err = NotHeader;

    fn from_str(text: &str) -> Result<Self, NotHeader> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| NotHeader(text.into()))?;
        Ok(if name == X_FORWARDED_FOR {
            Self::ForwardedFor
        } else if name == header::FORWARDED {
            Self::Forwarded
        } else {
            Self::Single(name)
        })
    }
}

impl fmt::Display for AddressHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardedFor => X_FORWARDED_FOR.fmt(f),
            Self::Forwarded => header::FORWARDED.fmt(f),
            Self::Single(name) => name.fmt(f),
        }
    }
}

written_as_text!(
    AddressHeader,
    "x-forwarded-for, forwarded, or a header with a single address, such as cf-connecting-ip."
);

/// What servers hear of the way that a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Onward {
    /// The client's address, and behind it those of the proxies, as each of them had added it.
    Chain,
    /// The client's address alone.
    Client,
}

/// Who asks, as far as those say who are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub client: ClientAddress,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The proxies on its way that servers are to hear of, the first one first.
    pub proxies: Box<[IpAddr]>,
    /// Whether a trusted proxy has asked.
    pub is_spoken_for: bool,
}

impl Asker {
    /// Whoever has connected.
    pub fn direct(client: ClientAddress, scheme: &'static str) -> Self {
        Self { client, scheme, proxies: Box::default(), is_spoken_for: false }
    }

    pub fn transport(&self) -> Transport {
        if self.scheme == HTTPS { Transport::Tls } else { Transport::Plain }
    }
}

/// What proxies have said of a client: where it is, and who has passed that on.
struct Chain {
    client: SocketAddr,
    /// From the client's side, without the one that has connected.
    proxies: Vec<IpAddr>,
    /// How many stand behind the client in the list.
    place: usize,
}

impl TrustedProxies {
    /// Who asks through a trusted proxy, `direct`. When nothing is said, the proxy itself does.
    pub(crate) fn asker(&self, direct: &Asker, headers: &HeaderMap) -> Result<Asker, Unreadable> {
        let mut asker = direct.clone();
        let (chain, scheme) = match &self.header {
            AddressHeader::ForwardedFor => {
                let nodes = said::from_the_right(headers, &X_FORWARDED_FOR);
                let chain = self.walk(nodes.map(|it| it.and_then(said::node)))?;
                let place = chain.as_ref().map_or(0, |chain| chain.place);
                (chain, member(headers, &X_FORWARDED_PROTO, place).map(Cow::Borrowed))
            }
            AddressHeader::Forwarded => {
                let found = self.element(headers)?;
                found.map_or((None, None), |(chain, element)| (Some(chain), element.proto))
            }
            AddressHeader::Single(name) => {
                let scheme = member(headers, &X_FORWARDED_PROTO, 0).map(Cow::Borrowed);
                (only(headers, name)?, scheme)
            }
        };
        if let Some(scheme) = scheme.and_then(|it| known_scheme(&it)).filter(|_| self.scheme) {
            asker.scheme = scheme;
        }
        let Some(Chain { client, mut proxies, .. }) = chain else { return Ok(asker) };
        let via = direct.client.ip();
        asker.client = ClientAddress::said_by(via, client);
        if self.onward == Onward::Chain {
            proxies.push(via);
            asker.proxies = proxies.into();
        }
        Ok(asker)
    }

    /// The host that a trusted proxy was asked for, if it says so.
    pub(crate) fn host(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.host {
            return None;
        }
        if self.header == AddressHeader::Forwarded {
            let (_, element) = self.element(headers).ok()??;
            return HeaderValue::from_str(&element.host?).ok();
        }
        let mut lines = headers.get_all(&X_FORWARDED_HOST).into_iter();
        lines.next().filter(|_| lines.next().is_none()).cloned()
    }

    /// The client in `Forwarded`, and what its proxy has said of it there.
    fn element<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<(Chain, Element<'h>)>, Unreadable> {
        let mut elements = said::elements(headers, &header::FORWARDED)?;
        let node = |it: &Element<'_>| said::node(it.node.as_deref().ok_or(Unreadable)?);
        let chain = self.walk(elements.iter().rev().map(node))?;
        Ok(chain.map(|chain| {
            let element = elements.swap_remove(elements.len() - 1 - chain.place);
            (chain, element)
        }))
    }

    /// Finds the client in a list that is read from its end.
    fn walk(
        &self,
        nodes: impl Iterator<Item = Result<SocketAddr, Unreadable>>,
    ) -> Result<Option<Chain>, Unreadable> {
        let mut behind = Vec::new();
        for node in nodes {
            if behind.len() == PROXIES_MAX {
                return Err(Unreadable);
            }
            let node = node?;
            behind.push(node);
            if !self.from.has_address(node.ip()) {
                break;
            }
        }
        // Among nobody but trusted ones, the farthest is the client: one of one's own machines.
        let Some(client) = behind.pop() else { return Ok(None) };
        let proxies = behind.iter().rev().map(|it| it.ip().to_canonical()).collect();
        Ok(Some(Chain { client, proxies, place: behind.len() }))
    }
}

/// The address in a header that has one only. What is set more than once was not set by one proxy.
fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Chain>, Unreadable> {
    let mut lines = headers.get_all(name).into_iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Unreadable);
    }
    let client = said::node(line.to_str().map_err(|_| Unreadable)?)?;
    Ok(Some(Chain { client, proxies: Vec::new(), place: 0 }))
}

/// What a list says of the hop at `place` from its end. Most proxies keep one value and no list.
fn member<'h>(headers: &'h HeaderMap, name: &HeaderName, place: usize) -> Option<&'h str> {
    let mut members = said::from_the_right(headers, name);
    let last = members.next()?.ok()?;
    match (members.next(), place) {
        (None, _) | (_, 0) => Some(last),
        (Some(next), 1) => next.ok(),
        (Some(_), place) => members.nth(place - 2)?.ok(),
    }
}

/// Some proxies name the scheme of a WebSocket by its own name.
fn known_scheme(text: &str) -> Option<&'static str> {
    let is = |name: &str| text.eq_ignore_ascii_case(name);
    if is(HTTPS) || is("wss") {
        Some(HTTPS)
    } else if is("http") || is("ws") {
        Some("http")
    } else {
        None
    }
}

const HTTPS: &str = "https";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Of those behind each other. No request passes as many; a longer list is a loop, or an attack.
const PROXIES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_set::PeerRange;

    fn trusted(header: AddressHeader) -> TrustedProxies {
        let from = ["10.0.0.0/8", "2001:db8:a::/48"];
        let from = from.map(|it| it.parse::<PeerRange>().unwrap()).into_iter().collect();
        TrustedProxies { from, header, scheme: true, host: true, onward: Onward::Chain }
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        lines.iter().map(pair).collect::<HeaderMap<HeaderValue>>()
    }

    /// Who asks, by 10.0.0.1: its scheme, where it is, and the proxies.
    #[track_caller]
    fn check(trusted: &TrustedProxies, lines: &[(&str, &str)], expected: &str) {
        let direct = Asker::direct(ClientAddress::direct("10.0.0.1:99".parse().unwrap()), "http");
        let found = match trusted.asker(&direct, &headers(lines)) {
            Err(Unreadable) => "-".to_owned(),
            Ok(Asker { client, scheme, proxies, .. }) => {
                let proxies: String = proxies.iter().map(|it| format!(", {it}")).collect();
                format!("{scheme} {client}{proxies}")
            }
        };
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn the_client_is_the_last_who_is_not_trusted() {
        let all = trusted(AddressHeader::ForwardedFor);
        let check = |value: &str, expected: &str| {
            check(&all, &[("x-forwarded-for", value)], expected);
        };
        check("192.0.2.1", "http 192.0.2.1, 10.0.0.1");
        check("6.6.6.6, 192.0.2.1", "http 192.0.2.1, 10.0.0.1");
        check("6.6.6.6, 192.0.2.1:80, 10.2.2.2:90", "http 192.0.2.1:80, 10.2.2.2, 10.0.0.1");
        check("192.0.2.1, 10.6.6.6, 192.0.2.2, 10.2.2.2", "http 192.0.2.2, 10.2.2.2, 10.0.0.1");
        check("2001:db8::1, [2001:db8:a::1]:80", "http 2001:db8::1, 2001:db8:a::1, 10.0.0.1");
        check("192.0.2.1, ::ffff:10.2.2.2", "http 192.0.2.1, 10.2.2.2, 10.0.0.1");
        check("10.3.3.3, 10.2.2.2", "http 10.3.3.3, 10.2.2.2, 10.0.0.1");
        // Whatever the client has claimed is not even read.
        check("garbage, \"<script>, 192.0.2.1", "http 192.0.2.1, 10.0.0.1");
        check("", "http 10.0.0.1:99");
        check(",,", "http 10.0.0.1:99");
        for odd in ["unknown", "192.0.2.1, unknown", "192.0.2.1, unknown, 10.2.2.2", "0.0.0.0", "a"]
        {
            check(odd, "-");
        }
        check(&"10.2.2.2,".repeat(33), "-");
    }

    #[test]
    fn the_lines_of_a_header_are_one_list() {
        let all = trusted(AddressHeader::ForwardedFor);
        let name = "x-forwarded-for";
        let lines = [(name, "6.6.6.6"), (name, "192.0.2.1"), (name, "10.2.2.2")];
        check(&all, &lines, "http 192.0.2.1, 10.2.2.2, 10.0.0.1");
    }

    #[test]
    fn only_the_header_that_is_configured_is_read() {
        let others = [
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("cf-connecting-ip", "6.6.6.6"),
        ];
        check(&trusted(AddressHeader::ForwardedFor), &others, "http 10.0.0.1:99");
        let all = [("x-forwarded-for", "6.6.6.6"), others[1]];
        check(&trusted(AddressHeader::Forwarded), &all, "http 10.0.0.1:99");
        let single = trusted(AddressHeader::Single(HeaderName::from_static("x-client")));
        check(&single, &all, "http 10.0.0.1:99");
    }

    #[test]
    fn a_single_address_is_single() {
        let single = trusted(AddressHeader::Single(HeaderName::from_static("cf-connecting-ip")));
        let name = "cf-connecting-ip";
        check(&single, &[(name, "192.0.2.1")], "http 192.0.2.1, 10.0.0.1");
        check(&single, &[(name, "2001:db8::1")], "http 2001:db8::1, 10.0.0.1");
        check(&single, &[(name, "192.0.2.1, 192.0.2.2")], "-");
        check(&single, &[(name, "192.0.2.1"), (name, "192.0.2.1")], "-");
        check(&single, &[(name, "")], "-");
    }

    #[test]
    fn forwarded_says_more_of_the_client_s_own_hop() {
        let all = trusted(AddressHeader::Forwarded);
        let value = "for=6.6.6.6;proto=https;host=evil, for=192.0.2.1;proto=https;host=\"a:81\", \
                     for=10.2.2.2;proto=http;host=inner";
        let lines = [("forwarded", value)];
        check(&all, &lines, "https 192.0.2.1, 10.2.2.2, 10.0.0.1");
        assert_eq!(all.host(&headers(&lines)).unwrap(), "a:81");
        check(&all, &[("forwarded", "for=\"6.6.6.6, for=192.0.2.1")], "-");
        check(&all, &[("forwarded", "for=192.0.2.1, proto=https")], "-");
        check(&all, &[("forwarded", "for=_secret")], "-");
    }

    #[test]
    fn the_scheme_is_that_of_the_client_s_own_hop() {
        let all = trusted(AddressHeader::ForwardedFor);
        let check = |chain: &str, scheme: &str, expected: &str| {
            let lines = [("x-forwarded-for", chain), ("x-forwarded-proto", scheme)];
            let direct =
                Asker::direct(ClientAddress::direct("10.0.0.1:9".parse().unwrap()), "http");
            let asker = all.asker(&direct, &headers(&lines)).unwrap();
            assert_eq!(asker.scheme, expected, "{lines:?}");
        };
        check("192.0.2.1", "https", "https");
        check("192.0.2.1", "WSS", "https");
        check("192.0.2.1", "ws", "http");
        check("192.0.2.1", "gopher", "http");
        check("192.0.2.1, 10.2.2.2", "https", "https");
        check("192.0.2.1, 10.2.2.2", "https, http", "https");
        check("192.0.2.1", "https, http", "http");
        check("192.0.2.1, 10.3.3.3, 10.2.2.2", "http, https, http, http", "https");
        check("192.0.2.1, 10.3.3.3, 10.2.2.2", "https, https", "http");
    }

    #[test]
    fn servers_hear_of_the_client_alone_if_that_is_wanted() {
        let alone =
            TrustedProxies { onward: Onward::Client, ..trusted(AddressHeader::ForwardedFor) };
        check(&alone, &[("x-forwarded-for", "192.0.2.1, 10.2.2.2")], "http 192.0.2.1");
    }
}
