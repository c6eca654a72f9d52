//! Targets: that each route has one, and that it is there.

use std::path::{Path, PathBuf};

use http::header::HeaderValue;
use tidewire_edge::redirect::{RedirectConfig, RespondConfig};
use tidewire_edge::static_files::StaticConfig;
use tidewire_hub::route::TopicRoute;

use super::{Checks, TargetPlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::{RouteConfig, TARGETS};
use crate::config::suggest::list;

impl<'c> Checks<'c> {
    /// What takes the requests of a route; what is wrong with it is reported.
    pub(super) fn target(
        &mut self,
        route: &RouteConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Option<TargetPlan> {
        self.one_target(place);
        if let Some(name) = &route.backend {
            let known = config.backend.iter().map(|backend| backend.name.as_str());
            return self
                .find("backend", name, known, place.key("backend"))
                .map(TargetPlan::Backend);
        }
        if let Some(topic) = &route.hub {
            return Some(self.topic(topic, route, place));
        }
        if let Some(files) = &route.static_files {
            return self.files(files, place.key("static"));
        }
        if let Some(redirect) = &route.redirect {
            return Some(self.redirect(redirect, place.key("redirect")));
        }
        route.respond.as_ref().map(|respond| self.respond(respond, place.key("respond")))
    }

    /// Reports a route that has no target, or several.
    fn one_target(&mut self, place: Place<'c>) {
        let set: Vec<&str> =
            TARGETS.into_iter().filter(|target| place.key(target).is_given()).collect();
        if let [first, second, ..] = set.as_slice() {
            let finding = Diagnostic::error(format!("a route has {} targets", set.len()));
            let finding = finding.at(place.key(second).key_span(), "expected one only");
            self.report(finding.also(place.key(first).key_span(), "the first one"));
        }
        if set.is_empty() && place.is_whole() {
            let finding = Diagnostic::error("a route has no target");
            let expected = format!("expected one of {}", list(TARGETS).replace(" and ", " or "));
            self.report(finding.at(place.span(), expected).help("such as `backend = \"nodes\"`"));
        }
    }

    fn topic(&mut self, topic: &TopicRoute, route: &RouteConfig, place: Place<'_>) -> TargetPlan {
        if self.tree.entry("hub").is_none() {
            let finding = Diagnostic::error("this route leads to the hub, but there is no `[hub]`");
            let help = "write `[hub]`; with nothing in it, the hub is this node's only";
            self.report(finding.at(place.key("hub").key_span(), "needs `[hub]`").help(help));
        }
        let captures: Vec<&str> = route.path.names().collect();
        // A path that has been refused may have the captures.
        if place.is_whole() {
            for name in topic.topic.names().filter(|name| !captures.contains(name)) {
                self.not_captured(name, &captures, place);
            }
        }
        self.claims_of_nobody(topic, route, place);
        let written = place.key("hub").key("topic");
        if let Err(error) = topic.topic(|_| Some("x"))
            && written.is_given()
        {
            let finding = Diagnostic::error("this cannot be the name of a topic");
            let why = if written.is_from_environment() { String::new() } else { error.to_string() };
            self.report(finding.at(written.span(), why));
        }
        TargetPlan::Hub(topic.clone())
    }

    /// Reports patterns with claims in them on a route that asks nobody who they are.
    fn claims_of_nobody(&mut self, topic: &TopicRoute, route: &RouteConfig, place: Place<'_>) {
        let has_auth = route.auth.as_ref().is_some_and(|names| !names.0.is_empty());
        if has_auth || !place.is_whole() {
            return;
        }
        let lists = [("subscribe", &topic.subscribe), ("publish", &topic.publish)];
        for (key, patterns) in lists {
            for (index, pattern) in patterns.iter().flatten().enumerate() {
                let Some(claim) = pattern.claims().next() else { continue };
                let at = place.key("hub").key(key).index(index);
                let message = match at.is_from_environment() {
                    true => "a pattern has a claim, and the route has no `auth`".to_owned(),
                    false => format!("`{{{claim}}}` is a claim, and the route has no `auth`"),
                };
                let finding = Diagnostic::error(message).at(at.span(), "matches nothing");
                self.report(finding.help("say who vouches for it, such as `auth = \"users\"`"));
            }
        }
    }

    fn not_captured(&mut self, name: &str, captures: &[&str], route: Place<'_>) {
        let (topic, path) = (route.key("hub").key("topic"), route.key("path"));
        let message = match topic.is_from_environment() {
            true => format!("`{}` has a name that the path does not capture", topic.shown()),
            false => format!("the path does not capture `{{{name}}}`"),
        };
        let finding = Diagnostic::error(message).at(topic.span(), "used here");
        self.report(if !path.is_given() {
            finding.help("the route has no `path`, such as \"/ws/{topic}\"")
        } else if path.is_from_environment() {
            finding.also(path.span(), "this does not")
        } else if captures.is_empty() {
            finding.also(path.span(), "this captures nothing")
        } else {
            finding.also(path.span(), format!("this captures {}", list(captures)))
        });
    }

    fn files(&mut self, files: &StaticConfig, place: Place<'_>) -> Option<TargetPlan> {
        match (&files.dir, files.builtin) {
            (None, Some(page)) => Some(TargetPlan::Page(page)),
            (Some(dir), None) => self.dir(self.dir.join(dir), place.key("dir")),
            (Some(_), Some(_)) => {
                let finding = Diagnostic::error("`static` has both `dir` and `builtin`");
                let finding =
                    finding.at(place.key("builtin").key_span(), "expected one of the two");
                self.report(finding.also(place.key("dir").key_span(), "the other"));
                None
            }
            (None, None) => {
                if place.is_whole() {
                    let finding = Diagnostic::error("`static` has no `dir`");
                    self.report(
                        finding.at(place.span(), "expected `dir`, such as `dir = \"public\"`"),
                    );
                }
                None
            }
        }
    }

    fn dir(&mut self, dir: PathBuf, place: Place<'_>) -> Option<TargetPlan> {
        let fault = match dir.metadata() {
            Ok(found) if found.is_dir() => return Some(TargetPlan::Dir(dir)),
            Ok(_) => format!("`{}` is not a directory", place.shown()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("there is no directory `{}`", place.shown())
            }
            Err(error) => format!("cannot look into `{}`: {error}", place.shown()),
        };
        let label = if place.is_from_environment() || dir.is_absolute() {
            "expected a directory that is there".to_owned()
        } else {
            format!("looked for in {}", shown_dir(self.dir))
        };
        self.report(Diagnostic::error(fault).at(place.span(), label));
        None
    }

    fn redirect(&mut self, redirect: &RedirectConfig, place: Place<'_>) -> TargetPlan {
        if !REDIRECTS.contains(&redirect.status) {
            let finding = Diagnostic::error("`status` is not one of a redirect");
            let status = place.key("status");
            self.report(finding.at(status.span(), "expected 301, 302, 303, 307 or 308"));
        }
        let to = place.key("to");
        let mut filled = redirect.to.clone();
        for name in ["{host}", "{path}", "{query}"] {
            filled = filled.replace(name, if name == "{path}" { "/x" } else { "x" });
        }
        let fault = if filled.contains(['{', '}']) {
            Some("expected no names in braces but `{host}`, `{path}` and `{query}`")
        } else if !(filled.starts_with('/') || filled.contains("://")) {
            Some("expected a path or a URL, such as \"https://{host}{path}{query}\"")
        } else if HeaderValue::from_str(&filled).is_err() || filled.contains(' ') {
            Some("expected no spaces and no control characters")
        } else {
            None
        };
        if let Some(expected) = fault.filter(|_| to.is_given()) {
            let finding = Diagnostic::error(format!("`{}` is not a place to go", to.shown()));
            self.report(finding.at(to.span(), expected));
        }
        TargetPlan::Redirect(redirect.clone())
    }

    fn respond(&mut self, respond: &RespondConfig, place: Place<'_>) -> TargetPlan {
        let body = place.key("body");
        if matches!(respond.status, 204 | 304) && !respond.body.is_empty() && body.is_given() {
            let finding = Diagnostic::error("an answer of this status has no body");
            self.report(finding.at(body.span(), "never sent"));
        }
        TargetPlan::Respond(respond.clone())
    }
}

pub(super) const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

pub(super) fn shown_dir(dir: &Path) -> String {
    match dir.to_str() {
        Some("") => "the working directory".to_owned(),
        _ => format!("`{}`", dir.display()),
    }
}
