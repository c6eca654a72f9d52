//! Routes: that each has conditions that a request can meet, and a name.

use std::collections::HashSet;

use http::header::{HeaderName, HeaderValue};
use tidewire_edge::route::{HeaderMatcher, Matcher};

use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl<'c> Checks<'c> {
    /// The routes that are right; each that is not is reported.
    pub(super) fn routes(&mut self, config: &Config) -> Vec<RoutePlan> {
        let tables = self.place.key("route");
        let numbered = || config.route.iter().enumerate();
        let given = numbered()
            .filter_map(|(i, it)| Some((it.name.as_deref()?, tables.index(i).key("name"))));
        self.names("route", given);
        let names = route_names(&config.route);
        let mut routes = Vec::new();
        for ((index, route), name) in numbered().zip(names) {
            let place = tables.index(index);
            let matcher = self.matcher(route, place, config);
            let access = self.access(route, place, config);
            let cross_site = self.cross_site(route, place);
            let addresses = self.addresses(&route.into(), place);
            let limits = self.limits(route, place, config);
            if let Some(target) = self.target(route, place, config) {
                routes.push(RoutePlan {
                    name,
                    matcher,
                    access,
                    target,
                    cross_site,
                    addresses,
                    limits,
                });
            }
        }
        let has_all = routes.len() == config.route.len() && tables.is_whole();
        if has_all {
            self.reach(&routes);
            for (index, route) in routes.iter().enumerate() {
                self.carried(route, tables.index(index), config);
            }
            self.listeners_lead_somewhere(config, &routes);
            self.routes_behind_redirects(config, &routes);
        }
        routes
    }

    fn matcher(&mut self, route: &RouteConfig, place: Place<'c>, config: &Config) -> Matcher {
        let listeners = route.listen.as_ref().map(|names| {
            self.not_empty("listen", names.0.is_empty(), place);
            let place = |index| place.key("listen").index(index);
            let names = names.0.iter().enumerate();
            let known = || config.listen.iter().map(|listener| listener.name.as_str());
            names.filter_map(|(i, name)| self.find("listen", name, known(), place(i))).collect()
        });
        let hosts = route.host.as_ref().map_or_else(Vec::new, |hosts| {
            self.not_empty("host", hosts.0.is_empty(), place);
            hosts.0.clone()
        });
        let headers = route.header.iter();
        let headers = headers
            .filter_map(|(name, value)| self.header(name, value, place.key("header").key(name)));
        let headers = headers.collect();
        Matcher { listeners, hosts, path: route.path.clone(), headers, websocket: route.websocket }
    }

    fn not_empty(&mut self, key: &str, is_empty: bool, route: Place<'_>) {
        let place = route.key(key);
        if is_empty && place.is_whole() && place.is_given() {
            let finding = Diagnostic::error(format!("`{key}` is empty: the route takes nothing"));
            self.report(finding.at(place.span(), "leave it out to take all"));
        }
    }

    fn header(&mut self, name: &str, value: &str, place: Place<'_>) -> Option<HeaderMatcher> {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            let finding = Diagnostic::error(format!("`{name}` is not the name of a header"));
            self.report(finding.at(place.key_span(), "expected such as \"X-Group\""));
            return None;
        };
        if value == "*" {
            return Some(HeaderMatcher { name, value: None });
        }
        match HeaderValue::from_str(value) {
            Ok(value) => Some(HeaderMatcher { name, value: Some(value) }),
            Err(_) => {
                let finding = Diagnostic::error("no header has such a value");
                self.report(finding.at(place.span(), "expected text without control characters"));
                None
            }
        }
    }

    fn listeners_lead_somewhere(&mut self, config: &Config, routes: &[RoutePlan]) {
        let serves = |it: &&(usize, &ListenConfig)| it.1.https_redirect.is_none();
        for (index, _) in config.listen.iter().enumerate().filter(|it| serves(&it)) {
            let takes = |route: &RoutePlan| {
                route.matcher.listeners.as_ref().is_none_or(|some| some.contains(&index))
            };
            let name = self.place.key("listen").index(index).key("name");
            if name.is_given() && !routes.iter().any(takes) {
                let message = format!("no route takes requests of listener `{}`", name.shown());
                let finding = Diagnostic::warning(message);
                self.report(finding.at(name.span(), "404 answers all of them"));
            }
        }
    }
}

/// A name for each route: its own, or one made of its host and path. Each is there once.
fn route_names(routes: &[RouteConfig]) -> Vec<String> {
    let mut taken: HashSet<String> = routes.iter().filter_map(|it| it.name.clone()).collect();
    let name = |route: &RouteConfig| {
        if let Some(name) = &route.name {
            return name.clone();
        }
        let host = route.host.as_ref().and_then(|hosts| hosts.0.first());
        let made = host.map_or_else(String::new, ToString::to_string) + &route.path.to_string();
        let numbered = (2..).map(|number| format!("{made}#{number}"));
        let mut names = std::iter::once(made.clone()).chain(numbered);
        names.find(|name| taken.insert(name.clone())).expect("numbers do not end")
    };
    routes.iter().map(name).collect()
}
