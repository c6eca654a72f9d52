//! Whom routes take, and what servers hear of it: that names are there, that conditions can hold,
//! and that no header is set that is another's.

use std::collections::HashSet;

use http::header::HeaderName;
use tidewire_auth::config::AuthConfig;
use tidewire_auth::forward::{Forward, ForwardConfig, ForwardError};
use tidewire_auth::place as credential;
use tidewire_edge::auth::access::{Access, Satisfy};
use tidewire_edge::auth::claims::ClaimCondition;

use super::auth::AuthCheck;
use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::route::RouteConfig;
use crate::config::tree::Span;

impl<'c> Checks<'c> {
    /// Whom a route takes; what is wrong with it is reported.
    pub(super) fn access(
        &mut self,
        route: &RouteConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Option<Access> {
        let asked = route.auth.as_ref().map_or(&[][..], |names| &names.0);
        let auths = self.auths_of(asked, place.key("auth"), config);
        self.nobody_vouches(route, asked, place);
        let claims = place.key("claims");
        for (name, _) in route.claims.iter().filter(|(_, values)| values.0.is_empty()) {
            let finding = Diagnostic::error(format!("no client has a claim `{name}` like this"));
            let one = claims.key(name);
            if one.is_given() && one.is_whole() {
                self.report(finding.at(one.span(), "expected at least one value"));
            }
        }
        route.auth.as_ref()?;
        let condition = |(name, any_of): (&String, &_)| ClaimCondition {
            name: name.clone(),
            any_of: Clone::clone(any_of),
        };
        let claims = route.claims.iter().map(condition).collect();
        Some(Access { auths, satisfy: route.satisfy, claims })
    }

    fn auths_of(&mut self, asked: &[String], place: Place<'c>, config: &Config) -> Vec<usize> {
        let mut auths: Vec<usize> = Vec::new();
        for (at, name) in asked.iter().enumerate() {
            let known = config.auth.iter().map(|auth| auth.name.as_str());
            let Some(index) = self.find("auth", name, known, place.index(at)) else { continue };
            if auths.contains(&index) {
                let finding =
                    Diagnostic::error(format!("`{}` is asked twice", place.index(at).shown()));
                self.report(finding.at(place.index(at).span(), "expected it once"));
            }
            auths.push(index);
        }
        auths
    }

    /// Reports conditions about what nobody has found out.
    fn nobody_vouches(&mut self, route: &RouteConfig, asked: &[String], place: Place<'c>) {
        let auth = place.key("auth");
        if !auth.is_whole() {
            return;
        }
        let claims = place.key("claims");
        if asked.is_empty() && claims.is_given() && !route.claims.is_empty() {
            let finding = Diagnostic::error("`claims` without `auth`: nobody knows the client");
            let help = "say who vouches for its claims, such as `auth = \"users\"`";
            self.report(finding.at(claims.key_span(), "needs `auth`").help(help));
        }
        let satisfy = place.key("satisfy");
        if asked.len() < 2 && satisfy.is_given() {
            let finding = Diagnostic::warning("`satisfy` without two `auth` to choose from");
            self.report(finding.at(satisfy.key_span(), "says nothing here"));
        }
    }

    /// What a route asks for over connections that cannot carry it, or on which others can read it.
    pub(super) fn carried(&mut self, route: &RoutePlan, place: Place<'c>, config: &Config) {
        let Some(access) = &route.access else { return };
        let listeners = config.listen.iter().enumerate().filter(|(index, _)| {
            route.matcher.condition.listeners.as_ref().is_none_or(|some| some.contains(index))
        });
        let listeners: Vec<&ListenConfig> = listeners.map(|(_, listener)| listener).collect();
        for (at, auth) in access.auths.iter().filter_map(|&it| config.auth.get(it)).enumerate() {
            let asked = place.key("auth").index(at);
            if auth.client_cert.is_some() {
                self.without_certificates(&listeners, access.satisfy, asked);
            }
            if let Some(what) = in_the_clear(auth)
                && let Some(plain) = listeners.iter().find(|it| it.tls.is_none() && is_public(it))
                && asked.is_given()
            {
                let finding = Diagnostic::warning(format!("{what} may be read on the way"));
                let label = format!("listener `{}` has no TLS", self.listener_name(plain, config));
                let help = "give the listener `[listen.tls]`, or have something before it do TLS";
                self.report(finding.at(asked.span(), label).help(help));
            }
        }
    }

    fn without_certificates(
        &mut self,
        listeners: &[&ListenConfig],
        satisfy: Satisfy,
        asked: Place<'_>,
    ) {
        let asks = |listener: &&&ListenConfig| {
            listener.tls.as_ref().is_some_and(|tls| tls.client_cert.is_some())
        };
        let with = listeners.iter().filter(asks).count();
        let is_enough = match satisfy {
            Satisfy::All => with == listeners.len(),
            Satisfy::Any => with > 0,
        };
        let tables = self.place.key("listen");
        if !is_enough && asked.is_given() && tables.is_whole() {
            let finding = Diagnostic::error("no client can show a certificate here");
            let help = "set `client_cert` in the `[listen.tls]` of the route's listeners";
            self.report(finding.at(asked.span(), "needs a listener that asks for it").help(help));
        }
    }

    /// The name of a listener as it may be shown.
    fn listener_name(&self, listener: &ListenConfig, config: &Config) -> String {
        let index = config.listen.iter().position(|it| std::ptr::eq(it, listener));
        index.map_or_else(String::new, |index| {
            self.place.key("listen").index(index).key("name").shown()
        })
    }

    /// Warns of each `[[auth]]` that no route asks.
    pub(super) fn unasked(&mut self, config: &Config) {
        let asked: HashSet<&str> = config
            .route
            .iter()
            .flat_map(|route| route.auth.iter().flat_map(|names| &names.0))
            .map(String::as_str)
            .collect();
        let there: HashSet<&str> = config.auth.iter().map(|auth| auth.name.as_str()).collect();
        // A route that is wrong was perhaps to ask one of them.
        if !self.place.key("route").is_whole() || !asked.is_subset(&there) {
            return;
        }
        for (index, auth) in config.auth.iter().enumerate() {
            let name = self.place.key("auth").index(index).key("name");
            if name.is_given() && !asked.contains(auth.name.as_str()) {
                let finding = Diagnostic::warning(format!("no route asks auth `{}`", name.shown()));
                let help = "say `auth = \"...\"` in the routes that it is for";
                self.report(finding.at(name.span(), "keeps nobody out").help(help));
            }
        }
    }

    /// The headers by which servers hear of clients.
    pub(super) fn identity_headers(&mut self, auth: &AuthConfig, place: Place<'c>) {
        let headers = place.key("headers");
        for name in auth.headers.keys() {
            let place = headers.key(name);
            self.identity_header(name, name, place, place.key_span());
        }
    }

    /// `shown` is the name as it may be shown.
    fn identity_header(&mut self, name: &str, shown: &str, place: Place<'_>, span: Span) {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            return self.not_header(shown, place, span);
        };
        let plain = header.as_str().replace(['_', '.'], "-");
        let is_taken = RESERVED.contains(&plain.as_str())
            || RESERVED_BEGINNINGS.iter().any(|start| plain.starts_with(start));
        if is_taken && place.is_given() {
            let finding = Diagnostic::error(format!("`{shown}` is not for an identity"));
            let help = "take a name of its own, such as \"X-User\"";
            self.report(finding.at(span, "this header has another meaning").help(help));
        }
    }

    fn not_header(&mut self, shown: &str, place: Place<'_>, span: Span) {
        if place.is_given() {
            let finding = Diagnostic::error(format!("`{shown}` is not the name of a header"));
            self.report(finding.at(span, "expected such as \"X-User\""));
        }
    }

    /// A service that is asked who clients are. `None` comes with an error.
    pub(super) fn forward_auth(
        &mut self,
        config: &ForwardConfig,
        parent: Place<'c>,
        all: &Config,
    ) -> Option<AuthCheck> {
        let place = parent.key("forward");
        let known = all.backend.iter().map(|backend| backend.name.as_str());
        let backend = self.find("backend", &config.backend, known, place.key("backend"));
        self.period("timeout", config.timeout, place.key("timeout"));
        for (at, name) in config.response_headers.iter().enumerate() {
            let place = place.key("response_headers").index(at);
            self.identity_header(name, &place.shown(), place, place.span());
        }
        for key in ["request_headers", "cache_key"] {
            let names = match key {
                "request_headers" => Some(&config.request_headers),
                _ => config.cache_key.as_ref(),
            };
            for (at, name) in names.into_iter().flatten().enumerate() {
                self.asked_with(key, name, place.key(key).index(at));
            }
        }
        if config.cache.0.is_zero() && place.key("cache_key").is_given() {
            let finding = Diagnostic::warning("`cache_key` without `cache`: no answer is kept");
            let help = "set `cache`, such as `cache = \"10s\"`";
            self.report(finding.at(place.key("cache_key").key_span(), "not used").help(help));
        }
        let pass = parent.key("pass");
        if pass.is_given() {
            let finding = Diagnostic::warning("`pass` says nothing about what a service was shown");
            let help = "what servers do not get is in `remove`, such as `remove = []`";
            self.report(finding.at(pass.key_span(), "not used").help(help));
        }
        match Forward::new(config) {
            Ok(forward) => {
                Some(AuthCheck::Forward { forward: Box::new(forward), backend: backend? })
            }
            Err(error) => {
                self.not_forward(&error, config, place);
                None
            }
        }
    }

    fn not_forward(&mut self, error: &ForwardError, config: &ForwardConfig, place: Place<'_>) {
        let path = place.key("path");
        match error {
            ForwardError::NotPath(_) if path.is_given() => {
                let finding = Diagnostic::error(format!("`{}` is not a path", path.shown()));
                self.report(finding.at(path.span(), "expected such as \"/verify\""));
            }
            ForwardError::NotPath(_) => {}
            // Of the lists that are looked at one by one it is said already.
            ForwardError::NotHeader(name) => {
                let is = |one: &String| one == name;
                let removed = config.remove.iter().position(is).map(|at| ("remove", Some(at)));
                let subject =
                    config.subject.as_ref().filter(|it| is(it)).map(|_| ("subject", None));
                let expires =
                    config.expires.as_ref().filter(|it| is(it)).map(|_| ("expires", None));
                if let Some((key, at)) = removed.or(subject).or(expires) {
                    let place = at.map_or(place.key(key), |at| place.key(key).index(at));
                    self.not_header(&place.shown(), place, place.span());
                }
            }
        }
    }

    /// A header of the client that goes to a service, or decides which answer is meant.
    fn asked_with(&mut self, key: &str, name: &str, place: Place<'_>) {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            return self.not_header(&place.shown(), place, place.span());
        };
        let is_of_hop = OF_HOP.contains(&header.as_str())
            || key == "request_headers" && header.as_str().starts_with("x-forwarded-");
        if is_of_hop && place.is_given() {
            let finding = Diagnostic::error(format!("`{}` is not passed on", place.shown()));
            let expected = "this header is of the connection, or set by the edge";
            self.report(finding.at(place.span(), expected));
        }
    }
}

/// What of an `[[auth]]` is as good as a password to whoever reads along, or stays in logs.
fn in_the_clear(auth: &AuthConfig) -> Option<&'static str> {
    let is_query = |place: &credential::Place| matches!(place, credential::Place::Query(_));
    let jwt = auth.jwt.iter().flat_map(|jwt| &jwt.from);
    let keys = auth.api_key.iter().flat_map(|keys| &keys.from);
    if auth.basic.is_some() {
        Some("a password")
    } else if jwt.chain(keys).any(is_query) {
        Some("a credential in the query")
    } else {
        None
    }
}

/// Whether others than this machine can connect.
fn is_public(listener: &ListenConfig) -> bool {
    listener.bind.0.iter().any(|it| it.0.tcp().is_some_and(|it| !it.ip().is_loopback()))
}

/// What the question of forward auth must not have of the client's request: it is another message.
const OF_HOP: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Headers that have a meaning for the message or the connection, or are said by the edge of every
/// client: a claim in them would change what is read or who is believed.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

const RESERVED_BEGINNINGS: [&str; 4] = ["sec-", "x-forwarded-", "proxy-", "access-control-"];
