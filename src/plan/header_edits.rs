//! What is changed of headers: that it is none of those that are not for rules.

use http::header::{HeaderName, HeaderValue};
use tidewire_edge::rules::changes::HeaderEdits;
use tidewire_edge::rules::template::Template;

use super::Checks;
use super::templates::Capturing;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::rule::HeaderEditsConfig;
use crate::config::tree::Span;

/// Whose headers are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl<'c> Checks<'c> {
    /// The changes at `place`; what is wrong with them is reported.
    pub(super) fn header_edits(
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
