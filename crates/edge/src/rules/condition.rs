//! What a request must be: the conditions of rules and of routes, which mean the same in both.
//!
//! To add one: a field in [`Condition`], its line in [`Condition::holds`], a key in the binary's
//! `ConditionConfig` (and `RouteConfig`), its lines in `src/plan/conditions.rs` and in
//! `src/plan/covering.rs`.

use std::net::IpAddr;

use http::Method;
use http::header::{self, HeaderMap, HeaderName};
use http::uri::Uri;
use tidewire_wire::http::{cookies, query};
use tidewire_wire::ws::handshake::Offer;

use super::text_pattern::TextPattern;
use crate::host::HostPattern;
use crate::network_set::NetworkSet;
use crate::path::{PathPattern, Reading};
use crate::route::host_of;

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub listener: usize,
    /// Where the client is.
    pub client: IpAddr,
    /// Whether it came by TLS.
    pub is_tls: bool,
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub is_websocket: bool,
    /// What it offers, when it is a good handshake.
    pub offer: Option<&'a Offer>,
}

/// All that is set must hold; nothing set holds always.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// By index; `None` is every listener.
    pub listeners: Option<Vec<usize>>,
    /// One of these; empty is every host.
    pub hosts: Vec<HostPattern>,
    /// One of these; empty is every path. A route's path is not here: it captures.
    pub paths: Vec<PathPattern>,
    /// One of these; empty is every method.
    pub methods: Vec<Method>,
    /// Each of these.
    pub headers: Vec<HeaderMatcher>,
    /// Each of these parameters.
    pub query: Vec<NameMatcher>,
    /// Each of these cookies.
    pub cookies: Vec<NameMatcher>,
    /// The client is in here.
    pub addresses: Option<NetworkSet>,
    pub tls: Option<bool>,
    /// Only WebSocket handshakes, or only others; `None` is both.
    pub websocket: Option<bool>,
    /// One of these is among those that a handshake offers; empty is all, also none.
    pub subprotocols: Vec<TextPattern>,
    /// One of these holds; empty is no condition.
    pub any: Vec<Condition>,
    /// Each of these holds.
    pub all: Vec<Condition>,
    /// This does not hold.
    pub not: Option<Box<Condition>>,
}

/// A header that a request must have. One that is repeated has each of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    pub name: HeaderName,
    /// One of its values is one of these.
    pub any_of: Vec<TextPattern>,
}

/// A parameter or cookie that a request must have. One that is repeated has each of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMatcher {
    pub name: Box<str>,
    /// One of its values is one of these.
    pub any_of: Vec<TextPattern>,
}

impl Condition {
    /// Whether it holds for what is asked, with the path read like this. Nothing is allocated but
    /// for what is percent-encoded.
    pub fn holds(&self, asked: &Asked<'_>, path: Reading<'_>) -> bool {
        self.tls.is_none_or(|wanted| wanted == asked.is_tls)
            && self.websocket.is_none_or(|wanted| wanted == asked.is_websocket)
            && self.listeners.as_ref().is_none_or(|some| some.contains(&asked.listener))
            && (self.methods.is_empty() || self.methods.contains(asked.method))
            && self.addresses.as_ref().is_none_or(|some| some.contains(asked.client))
            && (self.paths.is_empty() || self.paths.iter().any(|it| it.matches(path)))
            && self.takes_host(asked)
            && self.headers.iter().all(|header| header.matches(asked.headers))
            && self.query.iter().all(|it| it.is_parameter(asked.uri.query()))
            && self.cookies.iter().all(|it| it.is_cookie(asked.headers))
            && self.takes_offer(asked.offer)
            && (self.any.is_empty() || self.any.iter().any(|one| one.holds(asked, path)))
            && self.all.iter().all(|one| one.holds(asked, path))
            && self.not.as_ref().is_none_or(|one| !one.holds(asked, path))
    }

    fn takes_host(&self, asked: &Asked<'_>) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let host = host_of(asked.uri, asked.headers);
        host.is_some_and(|host| self.hosts.iter().any(|pattern| pattern.matches(host)))
    }

    fn takes_offer(&self, offer: Option<&Offer>) -> bool {
        let offered = || offer.into_iter().flat_map(|offer| &offer.subprotocols);
        self.subprotocols.is_empty()
            || offered().any(|it| is_one_of(&self.subprotocols, it.as_bytes()))
    }
}

impl HeaderMatcher {
    fn matches(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        values.any(|value| is_one_of(&self.any_of, value.as_bytes()))
    }
}

impl NameMatcher {
    /// A value that cannot be decoded is matched as it is written, and a `+` may be a space, too:
    /// some server reads it so.
    fn is_value(&self, written: &str) -> bool {
        let is = |written: &str| match query::decode(written) {
            Some(value) => is_one_of(&self.any_of, &value),
            None => is_one_of(&self.any_of, written.as_bytes()),
        };
        is(written) || written.contains('+') && is(&written.replace('+', " "))
    }

    fn is_parameter(&self, query: Option<&str>) -> bool {
        let mut all = query.into_iter().flat_map(query::parameters);
        all.any(|parameter| parameter.is_named(&self.name) && self.is_value(parameter.value))
    }

    fn is_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter();
        let mut pairs = lines.flat_map(|line| cookies::pairs(line.as_bytes()));
        pairs.any(|(name, value)| name == self.name.as_bytes() && is_one_of(&self.any_of, value))
    }
}

fn is_one_of(patterns: &[TextPattern], value: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(value))
}

#[cfg(test)]
mod tests;
