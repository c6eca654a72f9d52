//! Routes: that each has conditions that a request can meet, and a name.

use std::collections::HashSet;

use tidewire_edge::route::Matcher;

use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::route::RouteConfig;
use crate::config::rule::RuleConfig;

impl<'c> Checks<'c> {
    /// The routes that are right; each that is not is reported.
    pub(super) fn routes(&mut self, config: &Config) -> Vec<RoutePlan> {
        let tables = self.place.key("route");
        if !self.can_be_numbered("route", config.route.len(), tables) {
            return Vec::new();
        }
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
            let pings = self.pings(route, place);
            let changes = self.changes_of_route(route, place, config);
            if let Some(target) = self.target(route, place, config) {
                routes.push(RoutePlan {
                    name,
                    matcher,
                    access,
                    target,
                    cross_site,
                    addresses,
                    limits,
                    pings,
                    changes,
                    is_guard: route.is_guard(),
                });
            }
        }
        let has_all = routes.len() == config.route.len() && tables.is_whole();
        if has_all {
            let named = config.rule.iter().filter_map(|rule| named_route(rule, &config.route));
            self.reach(&routes, &named.collect::<Vec<_>>());
            for (index, route) in routes.iter().enumerate() {
                self.carried(route, tables.index(index), config);
            }
            self.listeners_lead_somewhere(config, &routes);
            self.routes_behind_redirects(config, &routes);
        }
        routes
    }

    /// Whether each of `count` tables can have a number in the record of a connection, which is two
    /// bytes long. Reports that it cannot.
    pub(super) fn can_be_numbered(&mut self, kind: &str, count: usize, tables: Place<'c>) -> bool {
        let is_right = count <= NUMBERED_MAX;
        if !is_right {
            let finding = Diagnostic::error(format!("{count} tables of `[[{kind}]]` are too many"));
            let first = tables.index(NUMBERED_MAX).span();
            let help =
                "one `path` with a `{name}` or a `*`, or a list of hosts, is for many requests";
            self.report(finding.at(first, format!("expected at most {NUMBERED_MAX}")).help(help));
        }
        is_right
    }

    fn matcher(&mut self, route: &RouteConfig, place: Place<'c>, config: &Config) -> Matcher {
        let condition = self.condition(&route.into(), place, config);
        Matcher { path: route.path.clone(), condition }
    }

    fn listeners_lead_somewhere(&mut self, config: &Config, routes: &[RoutePlan]) {
        let serves = |it: &&(usize, &ListenConfig)| it.1.https_redirect.is_none();
        for (index, _) in config.listen.iter().enumerate().filter(|it| serves(&it)) {
            let takes = |route: &RoutePlan| {
                route.matcher.condition.listeners.as_ref().is_none_or(|some| some.contains(&index))
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

/// Most tables that are told apart by two bytes.
const NUMBERED_MAX: usize = u16::MAX as usize;

/// The route that a rule leads to, if there is such.
pub(super) fn named_route(rule: &RuleConfig, routes: &[RouteConfig]) -> Option<usize> {
    let name = rule.then.route.as_ref()?;
    routes.iter().position(|route| route.name.as_ref() == Some(name))
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
