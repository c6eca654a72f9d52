//! What is changed of headers: that it is none of those that are not for rules.

use http::header::{HeaderName, HeaderValue};
use tidewire_edge::rules::changes::{Changes, HeaderEdits};
use tidewire_edge::rules::template::Template;

use super::Checks;
use super::templates::Capturing;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::RouteConfig;
use crate::config::rule::HeaderEditsConfig;
use crate::config::tree::Span;

/// Whose headers are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// What is written about changes, of a rule or a route.
pub(super) struct Written<'w> {
    pub rewrite: Option<&'w String>,
    pub request: Option<&'w HeaderEditsConfig>,
    pub response: Option<&'w HeaderEditsConfig>,
}

impl<'c> Checks<'c> {
    /// What a route changes; what is wrong with it is reported.
    pub(super) fn changes_of_route(
        &mut self,
        route: &RouteConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Changes {
        if route.backend.is_none() && place.is_whole() {
            for key in ["rewrite", "request_header"] {
                let at = place.key(key);
                if at.is_given() {
                    let finding = Diagnostic::error(format!("`{key}` is for servers"));
                    let help = "a route leads to servers with `backend`";
                    let label = "this route leads to none";
                    self.report(finding.at(at.key_span(), label).help(help));
                }
            }
        }
        let written = Written {
            rewrite: route.rewrite.as_ref(),
            request: route.request_header.as_ref(),
            response: route.response_header.as_ref(),
        };
        let path = place.key("path");
        let patterns = std::slice::from_ref(&route.path);
        let capturing = Capturing { patterns, path, is_whole: place.is_whole() };
        let changes = self.changes(&written, capturing, place, config);
        if !changes.is_nothing() {
            self.known_names(capturing);
        }
        changes
    }

    /// The changes that are written in the table at `place`.
    pub(super) fn changes(
        &mut self,
        written: &Written<'_>,
        capturing: Capturing<'_>,
        place: Place<'c>,
        config: &Config,
    ) -> Changes {
        let rewrite = written.rewrite;
        let rewrite = rewrite.and_then(|text| self.rewrite(text, capturing, place.key("rewrite")));
        let mut edits = |edits: Option<&HeaderEditsConfig>, side, key| {
            let place = place.key(key);
            let made = edits.map(|it| self.header_edits(it, side, capturing, place, config));
            made.unwrap_or_default()
        };
        let request = edits(written.request, Side::Request, "request_header");
        let response = edits(written.response, Side::Response, "response_header");
        Changes { rewrite, request, response }
    }

    /// The changes at `place`; what is wrong with them is reported.
    fn header_edits(
        &mut self,
        edits: &HeaderEditsConfig,
        side: Side,
        capturing: Capturing<'_>,
        place: Place<'c>,
        config: &Config,
    ) -> HeaderEdits {
        let mut made = HeaderEdits::default();
        for (index, name) in edits.remove.iter().enumerate() {
            let at = place.key("remove").index(index);
            made.remove.extend(self.edited(name, &at.shown(), side, at, at.span(), config));
        }
        let lists = [("set", &edits.set, &mut made.set), ("add", &edits.add, &mut made.add)];
        for (key, written, list) in lists {
            for (name, value) in written {
                let at = place.key(key).key(name);
                let name = self.edited(name, name, side, at, at.key_span(), config);
                list.extend(name.zip(self.header_value(value, capturing, at)));
            }
        }
        made
    }

    fn header_value(
        &mut self,
        value: &str,
        capturing: Capturing<'_>,
        place: Place<'c>,
    ) -> Option<Template> {
        // Of a tab, too, servers make what they like.
        if (HeaderValue::from_str(value).is_err() || value.contains('\t')) && place.is_given() {
            let finding = Diagnostic::error("no header has such a value");
            self.report(finding.at(place.span(), "expected text without control characters"));
            return None;
        }
        self.template(value, capturing, place)
    }

    /// A header that is changed. `None` comes with an error.
    fn edited(
        &mut self,
        name: &str,
        shown: &str,
        side: Side,
        place: Place<'_>,
        span: Span,
        config: &Config,
    ) -> Option<HeaderName> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let is_plain = |it: &HeaderName| {
            it.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let Some(header) = header.filter(is_plain) else {
            if place.is_given() {
                let finding = Diagnostic::error(format!("`{shown}` is not a name for a header"));
                let help = "servers take `X_User` and `X-User` for the same";
                let expected = "expected letters, digits and `-`, such as \"X-Group\"";
                self.report(finding.at(span, expected).help(help));
            }
            return None;
        };
        if let Some(whose) = whose(header.as_str(), side, config)
            && place.is_given()
        {
            let finding = Diagnostic::error(format!("`{shown}` is not for rules"));
            self.report(finding.at(span, whose));
            return None;
        }
        Some(header)
    }
}

/// Who says a header that no rule may change.
fn whose(name: &str, side: Side, config: &Config) -> Option<&'static str> {
    let is_of_message = OF_MESSAGE.contains(&name) || name.starts_with("sec-websocket-");
    if is_of_message {
        return Some("it says how a message or a connection goes on");
    }
    if side == Side::Response {
        return None;
    }
    if name == "host" || name == "forwarded" || name.starts_with("x-forwarded-") {
        return Some("the edge says it to servers, and they believe it");
    }
    let services = config.auth.iter().filter_map(|auth| auth.forward.as_ref());
    let mut identity = config
        .auth
        .iter()
        .flat_map(|auth| auth.headers.keys())
        .chain(services.flat_map(|service| &service.response_headers));
    let is_same = |known: &String| known.to_lowercase().replace(['_', '.'], "-") == name;
    identity.any(is_same).then_some("an `[[auth]]` says with it who the client is")
}

/// With them, what one side takes for the end of a message would not be what the other does.
const OF_MESSAGE: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "date",
];
