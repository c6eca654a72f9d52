//! Conditions of rules and of routes: that a request can meet them.

use std::collections::BTreeMap;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use tidewire_edge::host::HostPattern;
use tidewire_edge::network::Network;
use tidewire_edge::path::PathPattern;
use tidewire_edge::rules::condition::{Condition, HeaderMatcher, NameMatcher};
use tidewire_edge::rules::text_pattern::TextPattern;

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::one_or_many::OneOrMany;
use crate::config::place::Place;
use crate::config::route::RouteConfig;
use crate::config::rule::ConditionConfig;

type Values = BTreeMap<String, OneOrMany<TextPattern>>;

/// The keys of a condition, or of a route, that say what a request must be.
pub(super) struct ConditionKeys<'c> {
    /// What has them, for messages.
    noun: &'static str,
    listen: Option<&'c OneOrMany<String>>,
    host: Option<&'c OneOrMany<HostPattern>>,
    /// Of a condition; a route's own path is none.
    path: Option<&'c OneOrMany<PathPattern>>,
    method: Option<&'c OneOrMany<String>>,
    header: &'c Values,
    query: &'c Values,
    cookie: &'c Values,
    address: Option<&'c OneOrMany<Network>>,
    tls: Option<bool>,
    websocket: Option<bool>,
    subprotocol: Option<&'c OneOrMany<TextPattern>>,
}

macro_rules! keys_of {
    ($config:ty, $noun:literal, $path:expr) => {
        impl<'c> From<&'c $config> for ConditionKeys<'c> {
            fn from(it: &'c $config) -> Self {
                let path: fn(&'c $config) -> Option<&'c OneOrMany<PathPattern>> = $path;
                Self {
                    noun: $noun,
                    listen: it.listen.as_ref(),
                    host: it.host.as_ref(),
                    path: path(it),
                    method: it.method.as_ref(),
                    header: &it.header,
                    query: &it.query,
                    cookie: &it.cookie,
                    address: it.address.as_ref(),
                    tls: it.tls,
                    websocket: it.websocket,
                    subprotocol: it.subprotocol.as_ref(),
                }
            }
        }
    };
}

keys_of!(RouteConfig, "route", |_| None);
keys_of!(ConditionConfig, "condition", |it| it.path.as_ref());

impl<'c> Checks<'c> {
    /// The condition of a rule, with those in it.
    pub(super) fn nested(
        &mut self,
        written: &ConditionConfig,
        place: Place<'c>,
        config: &Config,
        depth: usize,
    ) -> Condition {
        let mut condition = self.condition(&written.into(), place, config);
        if depth > DEPTH_MAX {
            let message = format!("conditions are nested more than {DEPTH_MAX} deep");
            let finding = Diagnostic::error(message).at(place.span(), "too deep");
            self.report(finding.help("a rule before it can decide about a part of them"));
            return condition;
        }
        for (key, list) in [("any", &written.any), ("all", &written.all)] {
            let at = place.key(key);
            self.not_empty(key, list.is_empty(), "condition", place);
            let made = list.iter().enumerate().map(|(index, one)| {
                let at = at.index(index);
                self.says_something(one, at, "it always holds");
                self.nested(one, at, config, depth + 1)
            });
            let made = made.collect();
            if key == "any" { condition.any = made } else { condition.all = made }
        }
        condition.not = written.not.as_ref().map(|not| {
            let at = place.key("not");
            self.says_something(not, at, "what always holds never does not");
            Box::new(self.nested(not, at, config, depth + 1))
        });
        condition
    }

    /// Reports a condition with nothing in it.
    pub(super) fn says_something(&mut self, one: &ConditionConfig, at: Place<'_>, label: &str) {
        if *one == ConditionConfig::default() && at.is_given() && at.is_whole() {
            let finding = Diagnostic::error("a condition is empty").at(at.span(), label);
            self.report(finding.help("say what a request must be, such as `path = \"/admin/*\"`"));
        }
    }

    /// What a route or a condition says for itself.
    pub(super) fn condition(
        &mut self,
        keys: &ConditionKeys<'_>,
        place: Place<'c>,
        config: &Config,
    ) -> Condition {
        let listeners = keys.listen.map(|names| {
            self.not_empty("listen", names.0.is_empty(), keys.noun, place);
            let place = |index| place.key("listen").index(index);
            let names = names.0.iter().enumerate();
            let known = || config.listen.iter().map(|listener| listener.name.as_str());
            names.filter_map(|(i, name)| self.find("listen", name, known(), place(i))).collect()
        });
        self.can_be_offered(keys, place);
        self.can_be_tls(keys, place, config);
        Condition {
            listeners,
            hosts: self.list("host", keys.host, keys.noun, place),
            paths: self.list("path", keys.path, keys.noun, place),
            methods: self.methods(keys, place),
            headers: self.headers(keys.header, place.key("header")),
            query: self.named("query", keys.query, place),
            cookies: self.named("cookie", keys.cookie, place),
            addresses: keys.address.map(|_| {
                self.list("address", keys.address, keys.noun, place).into_iter().collect()
            }),
            tls: keys.tls,
            websocket: keys.websocket,
            subprotocols: self.list("subprotocol", keys.subprotocol, keys.noun, place),
            ..Condition::default()
        }
    }

    fn list<T: Clone>(
        &mut self,
        key: &str,
        list: Option<&OneOrMany<T>>,
        noun: &str,
        place: Place<'c>,
    ) -> Vec<T> {
        let Some(list) = list else { return Vec::new() };
        self.not_empty(key, list.0.is_empty(), noun, place);
        list.0.clone()
    }

    fn not_empty(&mut self, key: &str, is_empty: bool, noun: &str, table: Place<'_>) {
        let place = table.key(key);
        if is_empty && place.is_whole() && place.is_given() {
            let takes = if noun == "route" { "the route takes nothing" } else { "it never holds" };
            let finding = Diagnostic::error(format!("`{key}` is empty: {takes}"));
            self.report(finding.at(place.span(), "leave it out to take all"));
        }
    }

    fn methods(&mut self, keys: &ConditionKeys<'_>, place: Place<'c>) -> Vec<Method> {
        let written = self.list("method", keys.method, keys.noun, place);
        let mut methods = Vec::with_capacity(written.len());
        for (index, name) in written.iter().enumerate() {
            let place = place.key("method").index(index);
            let shown = place.shown();
            let method = Method::from_bytes(name.as_bytes()).ok();
            let expected = match &method {
                None => Some("expected such as \"POST\"".to_owned()),
                Some(_) if *name != name.to_uppercase() => {
                    Some("expected upper case, such as \"POST\"".to_owned())
                }
                Some(method) if *method == Method::CONNECT || *method == Method::TRACE => {
                    Some("the edge serves no such request".to_owned())
                }
                Some(_) => None,
            };
            if let Some(expected) = expected.filter(|_| place.is_given()) {
                let finding = Diagnostic::error(format!("no request has the method `{shown}`"));
                self.report(finding.at(place.span(), expected));
            }
            methods.extend(method);
        }
        methods
    }

    fn headers(&mut self, headers: &Values, place: Place<'c>) -> Vec<HeaderMatcher> {
        let each = headers.iter().filter_map(|(name, values)| {
            let place = place.key(name);
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                let finding = Diagnostic::error(format!("`{name}` is not the name of a header"));
                self.report(finding.at(place.key_span(), "expected such as \"X-Group\""));
                return None;
            };
            self.values_are_some(values, place);
            for (index, value) in values.0.iter().enumerate() {
                if HeaderValue::from_str(value.text()).is_err() {
                    let finding = Diagnostic::error("no header has such a value");
                    let expected = "expected text without control characters";
                    self.report(finding.at(place.index(index).span(), expected));
                }
            }
            Some(HeaderMatcher { name, any_of: values.0.clone() })
        });
        each.collect()
    }

    fn named(&mut self, key: &str, named: &Values, place: Place<'c>) -> Vec<NameMatcher> {
        let noun = if key == "query" { "parameter" } else { "cookie" };
        let each = named.iter().map(|(name, values)| {
            let place = place.key(key).key(name);
            let is_other = |c: char| c.is_control() || c.is_whitespace() || ";&=".contains(c);
            if name.contains(is_other) || name.is_empty() {
                let finding = Diagnostic::error(format!("no {noun} has such a name"));
                self.report(
                    finding.at(place.key_span(), "no spaces, and none of `;`, `&` and `=`"),
                );
            }
            self.values_are_some(values, place);
            NameMatcher { name: name.as_str().into(), any_of: values.0.clone() }
        });
        each.collect()
    }

    fn values_are_some(&mut self, values: &OneOrMany<TextPattern>, place: Place<'_>) {
        if values.0.is_empty() && place.is_given() && place.is_whole() {
            let finding = Diagnostic::error("none of no values is ever there");
            self.report(finding.at(place.span(), "expected at least one, or \"*\" for any"));
        }
    }

    /// Subprotocols are offered in WebSocket handshakes, which are GETs.
    fn can_be_offered(&mut self, keys: &ConditionKeys<'_>, place: Place<'c>) {
        let offer = place.key("subprotocol");
        if keys.subprotocol.is_none() || !offer.is_given() {
            return;
        }
        let is_get =
            |list: &OneOrMany<String>| list.0.is_empty() || list.0.iter().any(|it| it == "GET");
        let other = if keys.websocket == Some(false) {
            ("websocket", "this takes no handshakes")
        } else if !keys.method.is_none_or(is_get) {
            ("method", "handshakes are GETs")
        } else {
            return;
        };
        let finding = Diagnostic::error("subprotocols are offered in WebSocket handshakes");
        let finding = finding.at(offer.key_span(), "never offered");
        self.report(finding.also(place.key(other.0).span(), other.1));
    }

    fn can_be_tls(&mut self, keys: &ConditionKeys<'_>, place: Place<'c>, config: &Config) {
        let tls = place.key("tls");
        // What stands before a listener may say that a client has come by TLS.
        let is_there = config.listen.iter().any(|listener| {
            listener.tls.is_some()
                || listener.trusted_proxies.is_some()
                || listener.proxy_protocol.is_some()
        });
        let listeners = self.place.key("listen");
        if keys.tls == Some(true) && !is_there && tls.is_given() && listeners.is_whole() {
            let finding = Diagnostic::error("no listener has TLS");
            let finding = finding.at(tls.span(), "never holds");
            self.report(finding.help("a listener has TLS with `[listen.tls]`"));
        }
    }
}

/// How deep conditions may stand in each other.
const DEPTH_MAX: usize = 4;
