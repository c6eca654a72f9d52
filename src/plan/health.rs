//! Probes: that what they ask for can be asked, and that each key is of use. States that servers
//! begin in.

use http::{HeaderName, HeaderValue, Method};
use tidewire_edge::backend::BackendConfig;
use tidewire_edge::health::{CheckConfig, ProbeKind};
use tidewire_edge::server_state::Operator;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    pub(super) fn states(&mut self, backend: &BackendConfig, servers: Place<'c>) {
        let mut listed = backend.server.iter().enumerate();
        if listed.len() > 0
            && listed.all(|(_, server)| server.state != Operator::Ready)
            && servers.is_whole()
        {
            let finding = Diagnostic::warning("no server is `ready`: none gets a new client");
            let help = "`tidewire servers set BACKEND/SERVER ready` changes that at run time";
            self.report(finding.at(servers.span(), "each has another `state`").help(help));
        }
        for (index, server) in backend.server.iter().enumerate() {
            let place = servers.index(index);
            let address = place.key("check_address");
            if server.check_address.is_some() && !server.check && address.is_given() {
                let finding = Diagnostic::warning("the server is not checked");
                let help = "set `check = true` in it";
                self.report(finding.at(address.span(), "this says where").help(help));
            }
        }
    }

    /// What a probe asks for, and how often.
    pub(super) fn probe(&mut self, check: &CheckConfig, place: Place<'_>) {
        let periods =
            [("fast_interval", check.fast_interval), ("down_interval", check.down_interval)];
        for (key, period) in periods {
            period.into_iter().for_each(|it| self.period(key, it, place.key(key)));
        }
        let is_path = match check.path.as_str() {
            "*" => check.kind == ProbeKind::Http && check.method == "OPTIONS",
            path => path.starts_with('/') && path.parse::<http::Uri>().is_ok(),
        };
        let expected = match check.path.as_str() {
            "*" => "`*` with `type = \"http\"` and `method = \"OPTIONS\"` only",
            _ => "such as \"/health\"",
        };
        self.is_a(is_path, "a path", expected, place.key("path"));
        let is_host = |it: &String| it.parse::<http::uri::Authority>().is_ok() && !it.contains('@');
        let is_right = check.host.as_ref().is_none_or(is_host);
        self.is_a(is_right, "a host", "such as \"example.com\"", place.key("host"));
        let is_method = Method::from_bytes(check.method.as_bytes()).is_ok();
        let is_right = is_method && check.method != "CONNECT";
        self.is_a(is_right, "a method", "such as \"HEAD\"", place.key("method"));
        self.probe_headers(check, place.key("headers"));
        self.probe_expects(check, place.key("expect_headers"));
        self.probe_uses(check, place);
    }

    fn probe_expects(&mut self, check: &CheckConfig, place: Place<'_>) {
        for name in check.expect_headers.keys() {
            let at = place.key(name);
            if name.parse::<HeaderName>().is_err() && at.is_given() {
                let finding = Diagnostic::error(format!("`{name}` is not the name of a header"));
                self.report(finding.at(at.key_span(), "expected such as \"X-State\""));
            }
        }
    }

    fn is_a(&mut self, is_right: bool, what: &str, expected: &str, place: Place<'_>) {
        if !is_right && place.is_given() {
            let finding = Diagnostic::error(format!("`{}` is not {what}", place.shown()));
            self.report(finding.at(place.span(), format!("expected {expected}")));
        }
    }

    fn probe_headers(&mut self, check: &CheckConfig, place: Place<'_>) {
        for (name, value) in &check.headers {
            let place = place.key(name);
            let parsed = name.parse::<HeaderName>();
            let (message, expected) = match &parsed {
                Err(_) => (format!("`{name}` is not the name of a header"), "such as \"X-Check\""),
                Ok(name) if *name == http::header::HOST => {
                    ("the Host header has a key of its own".to_owned(), "`host`")
                }
                Ok(known) if OF_THE_PROBE.contains(&known.as_str()) => {
                    (format!("`{name}` is what the probe itself says"), "another header")
                }
                Ok(_) if value.parse::<HeaderValue>().is_err() => {
                    (format!("`{name}` has no value that can be sent"), "one line of ASCII")
                }
                Ok(_) => continue,
            };
            let finding = Diagnostic::error(message);
            self.report(finding.at(place.key_span(), format!("expected {expected}")));
        }
    }

    /// Keys that this kind of probe has no use for.
    fn probe_uses(&mut self, check: &CheckConfig, place: Place<'_>) {
        let of_http = [
            "method",
            "body",
            "status",
            "drain_status",
            "expect",
            "expect_regex",
            "expect_headers",
        ];
        let of_both = ["path", "host", "headers"];
        let (kind, unused) = match check.kind {
            ProbeKind::Tcp => ("tcp", [of_both.as_slice(), &of_http].concat()),
            ProbeKind::Websocket => ("websocket", of_http.to_vec()),
            ProbeKind::Http => return,
        };
        for key in unused.iter().filter(|key| place.key(key).is_given() && place.is_whole()) {
            let finding = Diagnostic::warning(format!("a {kind} probe has no use for `{key}`"));
            let help = "set `type = \"http\"` for a probe that asks for a path";
            self.report(finding.at(place.key(key).key_span(), "not used").help(help));
        }
    }
}

/// What says where a message ends, and of the handshake.
const OF_THE_PROBE: &[&str] = &[
    "connection",
    "content-length",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
];
