//! Heads of requests: that each part of one can be as large as it may be.

use tidewire_edge::head_limits::{HEAD_MOST, HttpConfig, REQUEST_LINE_MOST};
use tidewire_runtime::units::Size;
use tidewire_wire::http::framing::HeadLimits;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// How large heads may be on a listener; what is wrong with it is reported.
    pub(super) fn heads(&mut self, http: &HttpConfig, place: Place<'c>) -> HeadLimits {
        let head = place.key("max_head");
        for (key, size, most) in [
            ("max_request_line", http.max_request_line, REQUEST_LINE_MOST),
            ("max_head", http.max_head, HEAD_MOST),
            ("max_header", http.max_header, HEAD_MOST),
        ] {
            let place = place.key(key);
            if !place.is_given() {
                continue;
            }
            if size < LEAST || size > most {
                let finding = Diagnostic::error(format!("`{key}` is out of its bounds"));
                let expected = format!("expected {LEAST:?} to {most:?}");
                self.report(finding.at(place.span(), expected));
            } else if size > http.max_head {
                let finding = Diagnostic::error(format!("`{key}` is more than a whole head"));
                let finding = finding.at(place.span(), "expected at most `max_head`");
                self.report(match head.is_given() {
                    true => finding.also(head.span(), "the whole head"),
                    false => {
                        finding.help(format!("set `max_head`, too: it is {:?}", http.max_head))
                    }
                });
            }
        }
        http.limits()
    }
}

/// No browser gets by with less.
const LEAST: Size = Size(256);
