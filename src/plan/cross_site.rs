//! Origin and CORS: that what a route says about pages of other sites can be meant.

use http::Method;
use http::header::HeaderName;
use tidewire_edge::cors::{Cors, CorsConfig};
use tidewire_edge::cross_site::CrossSite;
use tidewire_edge::origin_pattern::OriginPattern;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl<'c> Checks<'c> {
    /// What a route has for pages of other sites; what is wrong with it is reported.
    pub(super) fn cross_site(&mut self, route: &RouteConfig, place: Place<'c>) -> CrossSite {
        self.origin(route, place);
        let cors = route.cors.as_ref();
        let cors = cors.and_then(|cors| self.cors(cors, route, place));
        CrossSite { origin: route.origin.clone(), cors }
    }

    fn origin(&mut self, route: &RouteConfig, place: Place<'c>) {
        let origin = place.key("origin");
        if !origin.is_given() {
            return;
        }
        let allow = origin.key("allow");
        for (index, pattern) in route.origin.allow.iter().enumerate() {
            let place = allow.index(index);
            if *pattern == OriginPattern::Any && route.origin.allow.len() > 1 {
                let finding =
                    Diagnostic::warning("`*` allows everybody, so the others are of no use");
                self.report(finding.at(place.span(), "leave this out, or leave only this"));
            }
            if let Some(name) = pattern.wide() {
                let below = match place.is_from_environment() {
                    true => "a top-level domain".to_owned(),
                    false => format!("`.{name}`"),
                };
                let shown = place.shown();
                let message = format!("`{shown}` allows every site there is below {below}");
                let expected = "expected a domain of your own, such as \"https://*.example.com\"";
                self.report(Diagnostic::warning(message).at(place.span(), expected));
            }
        }
        let takes_no_websocket =
            route.websocket == Some(false) || (route.backend.is_none() && route.hub.is_none());
        if takes_no_websocket
            && route.cors.is_none()
            && place.key("cors").is_whole()
            && place.is_whole()
        {
            let finding =
                Diagnostic::warning("`origin` has no effect: this route opens no WebSockets");
            let help = "`cors = {}` has the edge answer the CORS of plain HTTP, for the same sites";
            self.report(finding.at(origin.key_span(), "never asked").help(help));
        }
        let nobody = !route.origin.same && !route.origin.null && !route.origin.absent;
        if nobody && route.origin.allow.is_empty() && origin.is_whole() {
            let finding = Diagnostic::error("`origin` refuses everybody");
            let expected = "expected `same`, `absent`, or a site in `allow`";
            self.report(finding.at(origin.span(), expected));
        }
    }

    fn cors(
        &mut self,
        cors: &CorsConfig,
        route: &RouteConfig,
        route_place: Place<'c>,
    ) -> Option<Cors> {
        let place = route_place.key("cors");
        let origin = route_place.key("origin");
        if route.websocket == Some(true) && place.is_given() {
            let finding = Diagnostic::error("a route of WebSockets only has no use for `cors`");
            let finding = finding.at(place.key_span(), "CORS is for plain HTTP");
            self.report(
                finding.also(route_place.key("websocket").span(), "so it takes no plain HTTP"),
            );
        }
        if route.origin.allow.is_empty()
            && !route.origin.null
            && origin.is_whole()
            && place.is_given()
        {
            let finding = Diagnostic::error("`cors` allows nobody: `origin.allow` lists no site");
            let help = "add `origin = { allow = [\"https://app.example.com\"] }` to the route";
            self.report(finding.at(place.key_span(), "for whom?").help(help));
        }
        let credentials = place.key("credentials");
        if cors.credentials && credentials.is_given() {
            let any = route.origin.allow.iter().position(|it| *it == OriginPattern::Any);
            if let Some(index) = any {
                let finding = Diagnostic::error(
                    "credentials are not for everybody: any page could act as its visitor",
                );
                let finding = finding.at(credentials.span(), "not together with `*`");
                self.report(
                    finding.also(origin.key("allow").index(index).span(), "list the sites instead"),
                );
            }
            if route.origin.null {
                let finding = Diagnostic::error(
                    "credentials are not for pages without a site, which anybody can make",
                );
                let finding = finding.at(credentials.span(), "not together with `null`");
                self.report(finding.also(origin.key("null").span(), "allowed here"));
            }
            if let Some(index) = cors.expose.iter().position(|name| name == "*") {
                let finding = Diagnostic::error("`*` is no wildcard where credentials are allowed");
                let finding = finding
                    .at(place.key("expose").index(index).span(), "expected the names of headers");
                self.report(finding.also(credentials.span(), "allowed here"));
            }
        }
        if cors.methods.is_empty() && place.key("methods").is_given() {
            let finding = Diagnostic::error("`methods` is empty: nothing can be asked");
            self.report(
                finding.at(place.key("methods").span(), "expected such as [\"GET\", \"POST\"]"),
            );
        }
        self.cors_names(cors, place)
    }

    /// The names of methods and headers, once each of them can be one.
    fn cors_names(&mut self, cors: &CorsConfig, place: Place<'c>) -> Option<Cors> {
        for (index, method) in cors.methods.iter().enumerate() {
            let place = place.key("methods").index(index);
            let upper = method.to_uppercase();
            if place.is_given() && Method::from_bytes(method.as_bytes()).is_err() {
                let finding = Diagnostic::error(format!("`{}` is not a method", place.shown()));
                self.report(finding.at(place.span(), "expected such as \"PUT\""));
            } else if place.is_given() && *method != upper {
                let message = format!("`{}` is not how browsers write a method", place.shown());
                let finding = Diagnostic::error(message);
                let expected = match place.is_from_environment() {
                    true => "expected upper case".to_owned(),
                    false => format!("expected \"{upper}\""),
                };
                self.report(finding.at(place.span(), expected));
            }
        }
        for (key, names) in [("headers", &cors.headers), ("expose", &cors.expose)] {
            for (index, name) in names.iter().enumerate() {
                let place = place.key(key).index(index);
                if name == "*" && names.len() > 1 {
                    let message = "`*` stands for any, so the others are of no use";
                    let finding = Diagnostic::warning(message);
                    self.report(finding.at(place.span(), "leave this out, or leave only this"));
                } else if name != "*" && HeaderName::from_bytes(name.as_bytes()).is_err() {
                    let message = format!("`{}` is not the name of a header", place.shown());
                    self.report(
                        Diagnostic::error(message).at(place.span(), "expected such as \"X-Total\""),
                    );
                }
            }
        }
        Cors::new(cors).ok()
    }
}
