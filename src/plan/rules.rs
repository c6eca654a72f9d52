//! Rules: that each does something, and that what it does can be done.

use bytes::Bytes;
use http::StatusCode;
use tidewire_edge::redirect::RedirectConfig;
use tidewire_edge::rules::changes::is_path;
use tidewire_edge::rules::condition::Condition;
use tidewire_edge::rules::template::{Known, Piece, Template};
use tidewire_edge::rules::{Decision, Deny, Redirect, Rule};

use super::header_edits::Written;
use super::routes::named_route;
use super::targets::REDIRECTS;
use super::templates::Capturing;
use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::rule::{DECISIONS, RuleConfig, ThenConfig};
use crate::config::suggest::list;

impl<'c> Checks<'c> {
    /// The rules; what is wrong with them is reported.
    pub(super) fn rules(&mut self, config: &Config, routes: &[RoutePlan]) -> Vec<Rule> {
        let tables = self.place.key("rule");
        if !self.can_be_numbered("rule", config.rule.len(), tables) {
            return Vec::new();
        }
        let numbered = || config.rule.iter().enumerate();
        let given = numbered()
            .filter_map(|(i, it)| Some((it.name.as_deref()?, tables.index(i).key("name"))));
        self.names("rule", given);
        let rules: Vec<Rule> = numbered()
            .map(|(index, rule)| self.rule(index, rule, tables.index(index), config, routes))
            .collect();
        if tables.is_whole() {
            self.reach_of_rules(&rules);
            if routes.len() == config.route.len() {
                self.ways_of_rules(&rules, routes);
            }
        }
        rules
    }

    fn rule(
        &mut self,
        index: usize,
        rule: &RuleConfig,
        place: Place<'c>,
        config: &Config,
        routes: &[RoutePlan],
    ) -> Rule {
        let at = place.key("when");
        let when = match &rule.when {
            None => Condition::default(),
            Some(when) => {
                self.says_something(when, at, "leave it out for every request");
                self.nested(when, at, config, 0)
            }
        };
        let patterns = rule.when.iter().filter_map(|when| when.path.as_ref());
        let patterns = patterns.map(|paths| &paths.0[..]).next().unwrap_or_default();
        let path = at.key("path");
        let capturing = Capturing { patterns, path, is_whole: path.is_whole() && at.is_whole() };
        self.known_names(capturing);
        let (then, at) = (&rule.then, place.key("then"));
        self.one_decision(then, at);
        self.left_unsaid(then, at);
        let decision = self.decision(rule, capturing, at, config);
        let written = Written {
            rewrite: then.rewrite.as_ref(),
            request: Some(&then.request_header),
            response: Some(&then.response_header),
        };
        let changes = self.changes(&written, capturing, at, config);
        let is_guard = match &decision {
            Some(Decision::Deny(_)) => true,
            Some(Decision::Route(route)) => routes.get(*route).is_none_or(|route| route.is_guard),
            Some(Decision::Redirect(_)) | None => false,
        };
        let name = rule.name.clone().unwrap_or_else(|| format!("rule#{}", index + 1));
        Rule { name, when, changes, decision, is_guard }
    }

    /// Reports captures that have the name of something that every request has.
    pub(super) fn known_names(&mut self, capturing: Capturing<'_>) {
        for (index, pattern) in capturing.patterns.iter().enumerate() {
            let is_known = |name: &&str| Known::ALL.iter().any(|known| known.as_str() == *name);
            let place = capturing.path.index(index);
            if let Some(name) = pattern.names().find(is_known).filter(|_| place.is_given()) {
                let message = match place.is_from_environment() {
                    true => "a capture has a name that is taken".to_owned(),
                    false => format!("`{{{name}}}` stands for something of every request"),
                };
                let finding = Diagnostic::error(message);
                self.report(finding.at(place.span(), "expected another name for the capture"));
            }
        }
    }

    /// Reports a rule that does nothing, or several things of which each would end it.
    fn one_decision(&mut self, then: &ThenConfig, place: Place<'c>) {
        let set: Vec<&str> =
            DECISIONS.into_iter().filter(|key| place.key(key).is_given()).collect();
        if let [first, second, ..] = set.as_slice() {
            let finding = Diagnostic::error(format!("a rule both says `{first}` and `{second}`"));
            let finding = finding.at(place.key(second).key_span(), "expected one only");
            self.report(finding.also(place.key(first).key_span(), "the first one"));
        }
        let edits = [&then.request_header, &then.response_header];
        let does_nothing = set.is_empty()
            && then.rewrite.is_none()
            && edits
                .iter()
                .all(|it| it.remove.is_empty() && it.set.is_empty() && it.add.is_empty());
        if does_nothing && then.body.is_none() && place.is_given() && place.is_whole() {
            let expected = list(DECISIONS.into_iter().chain(["rewrite", "request_header"]));
            let finding = Diagnostic::error("a rule does nothing");
            let expected = format!("expected such as {}", expected.replace(" and ", " or "));
            self.report(finding.at(place.span(), expected));
        }
    }

    /// Reports what is about an answer or a server that there will not be.
    fn left_unsaid(&mut self, then: &ThenConfig, place: Place<'c>) {
        let body = place.key("body");
        if then.deny.is_none() && body.is_given() && place.is_whole() {
            let finding = Diagnostic::error("`body` without `deny`: there is no answer to say it");
            self.report(finding.at(body.key_span(), "expected beside `deny`"));
        }
        let end = ["deny", "redirect"].into_iter().find(|key| place.key(key).is_given());
        let Some(end) = end else { return };
        for key in ["rewrite", "request_header"] {
            let at = place.key(key);
            if at.is_given() {
                let finding =
                    Diagnostic::error(format!("`{key}` is for servers, and none is asked"));
                let finding = finding.at(at.key_span(), "never sent");
                self.report(finding.also(place.key(end).key_span(), "this ends it"));
            }
        }
    }

    fn decision(
        &mut self,
        rule: &RuleConfig,
        capturing: Capturing<'_>,
        place: Place<'c>,
        config: &Config,
    ) -> Option<Decision> {
        let then = &rule.then;
        if let Some(status) = then.deny {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            let body = then.body.clone().map(Bytes::from);
            return Some(Decision::Deny(Deny { status, body }));
        }
        if let Some(redirect) = &then.redirect {
            return self.redirection(redirect, capturing, place.key("redirect"));
        }
        let name = then.route.as_ref()?;
        if let Some(index) = named_route(rule, &config.route) {
            return Some(Decision::Route(index));
        }
        let known = config.route.iter().filter_map(|route| route.name.as_deref());
        self.find("route", name, known, place.key("route"));
        None
    }

    fn redirection(
        &mut self,
        redirect: &RedirectConfig,
        capturing: Capturing<'_>,
        place: Place<'c>,
    ) -> Option<Decision> {
        let status = place.key("status");
        if !REDIRECTS.contains(&redirect.status) && status.is_given() {
            let finding = Diagnostic::error("`status` is not one of a redirect");
            self.report(finding.at(status.span(), "expected 301, 302, 303, 307 or 308"));
        }
        let place = place.key("to");
        let to = self.template(&redirect.to, capturing, place)?;
        let expected = match filled(&to) {
            filled if filled.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                Some("expected no spaces and no control characters")
            }
            filled if filled.starts_with('/') => None,
            filled => match filled.split_once("://") {
                None => Some("expected a path or a URL, such as \"https://{host}{path}{query}\""),
                Some(_) if names_host(&to) => None,
                Some(_) => Some("expected a host that clients do not choose, and a `/` behind it"),
            },
        };
        if let Some(expected) = expected.filter(|_| place.is_given()) {
            let finding = Diagnostic::error(format!("`{}` is not a place to go", place.shown()));
            self.report(finding.at(place.span(), expected));
        }
        let status = StatusCode::from_u16(redirect.status).ok()?;
        Some(Decision::Redirect(Redirect { status, to }))
    }

    pub(super) fn rewrite(
        &mut self,
        text: &str,
        capturing: Capturing<'_>,
        place: Place<'c>,
    ) -> Option<Template> {
        let template = self.template(text, capturing, place)?;
        let has_query = template.pieces().contains(&Piece::Known(Known::Query));
        if (has_query || !is_path(&filled(&template))) && place.is_given() {
            let message = format!("`{}` is not a path for servers", place.shown());
            let finding = Diagnostic::error(message);
            let expected = "expected `/` and segments, without dots, `//`, `?` and `#`";
            self.report(finding.at(place.span(), expected).help("the query stays as it is"));
        }
        Some(template)
    }
}

/// The text with something in the place of each name.
fn filled(template: &Template) -> String {
    let each = template.pieces().iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Known(Known::Path) => "/x",
        Piece::Known(Known::Scheme) => "https",
        Piece::Known(_) | Piece::Capture(_) => "x",
    });
    each.collect()
}

/// Whether the host of a URL is written, or that of the request: what a capture brings would make
/// of `https://example.com{*}` a link to `example.com.evil.test`.
fn names_host(to: &Template) -> bool {
    let mut is_in_host = false;
    for piece in to.pieces() {
        let rest = match piece {
            Piece::Text(text) if !is_in_host => match text.split_once("://") {
                None => continue,
                Some((_, rest)) => rest,
            },
            Piece::Text(text) => text,
            Piece::Known(Known::Scheme) if !is_in_host => continue,
            Piece::Known(Known::Host) if is_in_host => continue,
            // It begins with a slash.
            Piece::Known(Known::Path) => return is_in_host,
            Piece::Known(Known::Query) if is_in_host => return true,
            Piece::Known(_) | Piece::Capture(_) => return false,
        };
        is_in_host = true;
        if rest.contains(['/', '?', '#']) {
            return true;
        }
    }
    is_in_host
}
