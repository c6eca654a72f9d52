//! Where a request goes: the first route that matches, and that takes the client.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;

use crate::auth::access::Access;
use crate::backend::Backend;
use crate::cross_site::CrossSite;
use crate::host::HostPattern;
use crate::limits::Limits;
use crate::origin::Transport;
use crate::path::{self, Captures, PathPattern};
use crate::redirect::{RedirectConfig, RespondConfig};
use crate::static_files::StaticFiles;

/// A rule that says which requests go to which target.
#[derive(Debug)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: String,
    pub matcher: Matcher,
    /// Whom it takes; `None` is everybody whom no earlier route has refused.
    pub access: Option<Access>,
    pub target: Target,
    pub cross_site: CrossSite,
    pub limits: Limits,
}

/// What a request must be for a route to take it. All that is set must hold.
#[derive(Debug)]
pub struct Matcher {
    /// By index; `None` is every listener.
    pub listeners: Option<Vec<usize>>,
    /// One of these; empty is every host.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    pub headers: Vec<HeaderMatcher>,
    /// Only WebSocket handshakes, or only others; `None` is both.
    pub websocket: Option<bool>,
}

/// A header that a request must have.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    pub name: HeaderName,
    /// Its exact value; `None` is any.
    pub value: Option<HeaderValue>,
}

/// What takes the requests of a route.
#[derive(Debug)]
pub enum Target {
    Backend(Arc<Backend>),
    /// The endpoint of this index on each worker.
    Endpoint(usize),
    Static(StaticFiles),
    Redirect(RedirectConfig),
    Respond(RespondConfig),
}

impl Target {
    /// Whether a handshake can become a WebSocket here; elsewhere it is a request like any other.
    pub fn takes_websockets(&self) -> bool {
        matches!(self, Self::Backend(_) | Self::Endpoint(_))
    }
}

/// What routes ask about a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub listener: usize,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub is_websocket: bool,
    /// Where the client is, as far as those say who are believed, and by which scheme it asks.
    pub client: IpAddr,
    pub transport: Transport,
}

/// Those of `routes` that match the request, in their order: index, route, and what its pattern
/// captured. The first takes it, unless it asks who the client is.
pub fn matching<'r>(
    routes: &'r [Route],
    asked: &Asked<'_>,
) -> impl Iterator<Item = (usize, &'r Route, Captures)> {
    let lenient = path::lenient(asked.uri.path());
    routes.iter().enumerate().filter_map(move |(index, route)| {
        if !route.matcher.fits(asked) {
            return None;
        }
        let path = &route.matcher.path;
        let captures = path.captures(asked.uri.path()).or_else(|| {
            // Whoever is asked who they are must not pass by with another spelling that a server
            // takes for the same path.
            let mut readings = lenient.iter().filter(|_| route.asks());
            readings.find_map(|reading| path.captures_decoded(reading))
        });
        captures.map(|captures| (index, route, captures))
    })
}

/// The host that a request is for: of its target in absolute form, or of its Host header
/// (RFC 9112, section 3.2.2).
pub fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST)?.to_str().ok(),
    }
}

impl Route {
    /// Whether it asks who the client is.
    fn asks(&self) -> bool {
        self.access.as_ref().is_some_and(|access| !access.auths.is_empty())
    }
}

impl Matcher {
    /// Whether all but the path is as it must be.
    fn fits(&self, asked: &Asked<'_>) -> bool {
        self.websocket.is_none_or(|wanted| wanted == asked.is_websocket)
            && self.listeners.as_ref().is_none_or(|some| some.contains(&asked.listener))
            && self.takes_host(asked)
            && self.headers.iter().all(|header| header.matches(asked.headers))
    }

    fn takes_host(&self, asked: &Asked<'_>) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let host = host_of(asked.uri, asked.headers);
        host.is_some_and(|host| self.hosts.iter().any(|pattern| pattern.matches(host)))
    }
}

impl HeaderMatcher {
    fn matches(&self, headers: &HeaderMap) -> bool {
        match &self.value {
            None => headers.contains_key(&self.name),
            Some(value) => headers.get_all(&self.name).iter().any(|there| there == value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LimitsConfig;

    fn route(name: &str, path: &str, edit: impl FnOnce(&mut Matcher)) -> Route {
        let mut matcher = Matcher {
            listeners: None,
            hosts: Vec::new(),
            path: path.parse().unwrap(),
            headers: Vec::new(),
            websocket: None,
        };
        edit(&mut matcher);
        let target = Target::Endpoint(0);
        let cross_site = CrossSite::default();
        let limits = Limits::resolve(&LimitsConfig::default(), &LimitsConfig::default());
        Route { name: name.into(), matcher, access: None, target, cross_site, limits }
    }

    fn check(uri: &str, host: &str, is_websocket: bool, listener: usize, expected: &str) {
        let routes = [
            route("sockets", "/ws/{topic}", |matcher| matcher.websocket = Some(true)),
            route("inner", "/*", |matcher| matcher.listeners = Some(vec![1])),
            route("chat", "/*", |matcher| matcher.hosts = vec!["*.chat.test".parse().unwrap()]),
            route("beta", "/*", |matcher| {
                let value = Some(HeaderValue::from_static("b"));
                let name = HeaderName::from_static("x-group");
                matcher.headers = vec![HeaderMatcher { name, value }];
            }),
            route("home", "/", |_| {}),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if host == "b" {
            headers.append("x-group", HeaderValue::from_static("b"));
        }
        let uri = uri.parse().unwrap();
        let client = "192.0.2.1".parse().unwrap();
        let transport = Transport::Plain;
        let asked =
            Asked { listener, uri: &uri, headers: &headers, is_websocket, client, transport };
        let found = matching(&routes, &asked).next().map_or("none", |(_, route, _)| &route.name);
        assert_eq!(found, expected, "{uri} for {host}");
    }

    #[test]
    fn the_first_route_that_matches_takes_the_request() {
        check("/ws/a", "x", true, 0, "sockets");
        check("/ws/a", "x", false, 0, "none");
        check("/ws/a", "x", false, 1, "inner");
        check("/q", "eu.chat.test:80", false, 0, "chat");
        check("/q", "b", false, 0, "beta");
        check("/", "x", false, 0, "home");
        check("/?q", "x", false, 0, "home");
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        check("http://eu.chat.test/q", "other", false, 0, "chat");
    }
}
