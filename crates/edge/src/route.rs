//! Where a request goes: the first route that matches, and that takes the client.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::uri::Uri;

use crate::auth::access::Access;
use crate::backend::Backend;
use crate::cross_site::CrossSite;
use crate::limits::Limits;
use crate::path::{self, Captures, PathPattern, Reading};
use crate::pings::Pings;
use crate::redirect::{RedirectConfig, RespondConfig};
use crate::rules::changes::Changes;
use crate::rules::condition::{Asked, Condition};
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
    pub pings: Pings,
    /// What is changed of the requests that it takes, and of their answers.
    pub changes: Changes,
    /// Whether it holds somebody up, who must not pass by with another spelling of its path that a
    /// server takes for the same.
    pub is_guard: bool,
}

/// What a request must be for a route to take it: the path as the pattern has it, and the
/// condition, which has no path of its own.
#[derive(Debug)]
pub struct Matcher {
    pub path: PathPattern,
    pub condition: Condition,
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

/// Those of `routes` that match the request, in their order: index, route, and what its pattern
/// captured. The first takes it, unless it asks who the client is. `only` is the one that a rule has
/// chosen.
pub fn matching<'r>(
    routes: &'r [Route],
    asked: &Asked<'_>,
    only: Option<usize>,
) -> impl Iterator<Item = (usize, &'r Route, Captures)> {
    let lenient = path::lenient(asked.uri.path());
    routes.iter().enumerate().filter_map(move |(index, route)| {
        let as_written = Reading::Written(asked.uri.path());
        if only.is_some_and(|only| only != index)
            || !route.matcher.condition.holds(asked, as_written)
        {
            return None;
        }
        let path = &route.matcher.path;
        let captures = path.captures(asked.uri.path()).or_else(|| {
            let mut readings = lenient.iter().filter(|_| route.is_guard);
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

#[cfg(test)]
mod tests {
    use http::Method;
    use http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::limits::LimitsConfig;
    use crate::rules::condition::HeaderMatcher;

    fn route(name: &str, path: &str, edit: impl FnOnce(&mut Condition)) -> Route {
        let mut matcher = Matcher { path: path.parse().unwrap(), condition: Condition::default() };
        edit(&mut matcher.condition);
        let target = Target::Endpoint(0);
        let cross_site = CrossSite::default();
        let limits = Limits::resolve(&LimitsConfig::default(), &LimitsConfig::default());
        Route {
            name: name.into(),
            matcher,
            access: None,
            target,
            cross_site,
            limits,
            pings: Pings::default(),
            changes: Changes::default(),
            is_guard: false,
        }
    }

    fn check(uri: &str, host: &str, is_websocket: bool, listener: usize, expected: &str) {
        let routes = [
            route("sockets", "/ws/{topic}", |matcher| matcher.websocket = Some(true)),
            route("inner", "/*", |matcher| matcher.listeners = Some(vec![1])),
            route("chat", "/*", |matcher| matcher.hosts = vec!["*.chat.test".parse().unwrap()]),
            route("beta", "/*", |matcher| {
                let any_of = vec!["b".parse().unwrap()];
                let name = HeaderName::from_static("x-group");
                matcher.headers = vec![HeaderMatcher { name, any_of }];
            }),
            route("home", "/", |_| {}),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if host == "b" {
            headers.append("x-group", HeaderValue::from_static("b"));
        }
        let uri = uri.parse().unwrap();
        let asked = Asked {
            listener,
            client: "::1".parse().unwrap(),
            is_tls: false,
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            is_websocket,
            offer: None,
        };
        let found =
            matching(&routes, &asked, None).next().map_or("none", |(_, route, _)| &route.name);
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
