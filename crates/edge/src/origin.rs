//! Origins: of whose pages a request may come (RFC 6454).
//!
//! A browser lets the page of any site open a WebSocket to any other, and sends along the cookies
//! that it has for that other: cross-site WebSocket hijacking. No preflight and no same-origin
//! policy stands before it; the `Origin` of the handshake is all that tells the sites apart, and
//! whoever answers 101 has to look at it. So a handshake that has one must come from the site's own
//! pages, or from those that its route lists. What is no browser has no `Origin`, or any that it
//! likes: this is no protection from programs.

use std::net::Ipv6Addr;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Body};
use crate::origin_pattern::OriginPattern;

/// Whose pages may open WebSockets here, as their browsers name them in `Origin`; with `cors`, also
/// who may read what plain HTTP answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OriginConfig {
    /// Sites that may, besides this one: `https://app.example.com`, `https://*.example.com` for all
    /// names below it (not itself), `http://localhost:*` for any port. `["*"]` is everybody, with
    /// the cookies of their visitors.
    pub allow: Vec<OriginPattern>,
    /// Whether the pages of the same scheme, host and port as the request may. Behind a proxy that
    /// speaks TLS, a page of `https` may open what comes in as plain text.
    pub same: bool,
    /// Whether pages may that have no site: `Origin: null` of sandboxed frames, and pages from a
    /// file. Anybody can make such a page.
    pub null: bool,
    /// Whether WebSocket handshakes without `Origin` are taken: those of programs, as browsers
    /// always send one.
    pub absent: bool,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), same: true, null: false, absent: true }
    }
}

/// How the request has reached this listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As plain text, here; there may be TLS up to a proxy in front.
    Plain,
    Tls,
}

/// What a request says about the page that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'h> {
    Nothing,
    /// A page without a site: `null`, or `file://` as Chromium has it.
    Null,
    Page(Origin<'h>),
    /// Not one origin. No browser sends this.
    Unreadable,
    /// More than one header.
    Repeated,
}

/// The site of a page: scheme, host and port.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'h> {
    pub(crate) scheme: &'h str,
    pub(crate) host: Host<'h>,
    /// Never that of the scheme, which needs not be written.
    pub(crate) port: Option<u16>,
}

/// A host, as far as it matters for comparing two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host<'h> {
    /// Any case. A final dot is part of it, as it is for browsers.
    Name(&'h str),
    V6(Ipv6Addr),
}

/// Whose page asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not said.
    Absent,
    Same,
    Allowed,
    Refused(Refused),
}

/// Why a page may not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Absent,
    Null,
    /// Of a site that is neither this one nor listed.
    Foreign,
    Unreadable,
    Repeated,
}

impl OriginConfig {
    /// Whose page sends a request with these `headers` to `host` (with its port).
    pub fn judge(&self, headers: &HeaderMap, host: Option<&str>, transport: Transport) -> Verdict {
        let allows_all = self.allow.contains(&OriginPattern::Any);
        match Said::by(headers) {
            Said::Nothing => Verdict::Absent,
            Said::Repeated => Verdict::Refused(Refused::Repeated),
            Said::Unreadable => Verdict::Refused(Refused::Unreadable),
            Said::Null if self.null || allows_all => Verdict::Allowed,
            Said::Null => Verdict::Refused(Refused::Null),
            Said::Page(page) => {
                if self.same && host.is_some_and(|host| page.is_of(host, transport)) {
                    Verdict::Same
                } else if allows_all || self.allow.iter().any(|pattern| pattern.takes(&page)) {
                    Verdict::Allowed
                } else {
                    Verdict::Refused(Refused::Foreign)
                }
            }
        }
    }

    /// Whether a WebSocket may be opened by whoever sends this handshake.
    pub fn check_handshake(
        &self,
        headers: &HeaderMap,
        host: Option<&str>,
        transport: Transport,
    ) -> Result<(), Refused> {
        match self.judge(headers, host, transport) {
            Verdict::Absent if !self.absent => Err(Refused::Absent),
            Verdict::Absent | Verdict::Same | Verdict::Allowed => Ok(()),
            Verdict::Refused(refused) => Err(refused),
        }
    }
}

impl Refused {
    /// The answer to a handshake: who was refused, and which key decides it.
    pub fn answer(self, headers: &HeaderMap) -> Response<Body> {
        let shown = shown(headers);
        let detail = match self {
            Self::Foreign => format!(
                "a page of {shown} may not open a WebSocket here; the route's `origin.allow` lists \
                 the sites that may"
            ),
            Self::Null => "a page without a site (Origin: null, or of a file) may not open a \
                WebSocket here; the route's `origin.null` decides"
                .to_owned(),
            Self::Absent => "a handshake without Origin is not taken here; the route's \
                `origin.absent` decides"
                .to_owned(),
            Self::Unreadable => format!("{shown} is not one origin, such as https://example.com"),
            Self::Repeated => "more than one Origin".to_owned(),
        };
        answer::text(StatusCode::FORBIDDEN, detail)
    }

    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "origin_absent",
            Self::Null => "origin_null",
            Self::Foreign => "origin_foreign",
            Self::Unreadable => "origin_unreadable",
            Self::Repeated => "origin_repeated",
        }
    }
}

/// The origin that a request names, as it may be shown: printable, quoted, and not longer than
/// somebody reads.
pub fn shown(headers: &HeaderMap) -> String {
    let said = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    let cut = &said[..said.len().min(SHOWN_MAX)];
    let more = if cut.len() < said.len() { "..." } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}

const SHOWN_MAX: usize = 100;

impl<'h> Said<'h> {
    pub fn by(headers: &'h HeaderMap) -> Self {
        let mut lines = headers.get_all(header::ORIGIN).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Nothing,
            (Some(_), Some(_)) => Self::Repeated,
            (Some(line), None) => match line.to_str() {
                Ok("null" | "file://") => Self::Null,
                Ok(text) => Origin::parse(text).map_or(Self::Unreadable, Self::Page),
                Err(_) => Self::Unreadable,
            },
        }
    }
}

impl<'h> Origin<'h> {
    /// Reads one origin and nothing else: no path, no user, no list.
    pub fn parse(text: &'h str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        let (host, port) = split_authority(authority)?;
        let port = port.filter(|&port| default_port(scheme) != Some(port));
        Some(Self { scheme, host, port })
    }

    /// Whether a page of this origin is one of the site that a request for `host` reaches.
    ///
    /// A listener without TLS does not know whether there was TLS up to a proxy in front of it, so
    /// it takes `https` too: one host and port speaks only one of the two. On a listener with TLS,
    /// a page of `http` is another site: whoever can change plain text could have made it.
    fn is_of(&self, host: &str, transport: Transport) -> bool {
        let Some(default) = default_port(self.scheme) else { return false };
        if transport == Transport::Tls && self.scheme.eq_ignore_ascii_case("http") {
            return false;
        }
        let Some((host, port)) = split_authority(host) else { return false };
        host == self.host && port.unwrap_or(default) == self.port.unwrap_or(default)
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host == other.host
            && self.port == other.port
    }
}

impl Eq for Origin<'_> {}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::V6(one), Self::V6(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

/// RFC 3986, section 3.1.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// The port of a scheme that has pages.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

/// Host and port of `name:port` or `[v6]:port`; no user, no path.
pub(crate) fn split_authority(text: &str) -> Option<(Host<'_>, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let host = Host::V6(address.parse().ok()?);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(read_port(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(read_port(port)?)),
        None => (text, None),
    };
    is_name(name).then_some((Host::Name(name), port))
}

/// A host name or an IPv4 address: labels of letters, digits, `-` and `_`. Other scripts come in
/// punycode. A browser has percent-escapes decoded and full-width letters made narrow.
fn is_name(text: &str) -> bool {
    let without_dot = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    without_dot.split('.').all(is_label)
}

/// Without leading zeros, as browsers write it.
fn read_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(allow: &[&str]) -> OriginConfig {
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        OriginConfig { allow, ..OriginConfig::default() }
    }

    fn check(config: &OriginConfig, origin: &[&str], host: &str, tls: bool, expected: Verdict) {
        let mut headers = HeaderMap::new();
        for origin in origin {
            headers.append(header::ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        let transport = if tls { Transport::Tls } else { Transport::Plain };
        let verdict = config.judge(&headers, Some(host), transport);
        assert_eq!(verdict, expected, "{origin:?} for {host}, {transport:?}");
    }

    const FOREIGN: Verdict = Verdict::Refused(Refused::Foreign);
    const UNREADABLE: Verdict = Verdict::Refused(Refused::Unreadable);

    #[test]
    fn a_page_is_of_the_site_when_scheme_host_and_port_are_those_of_the_request() {
        let own = config(&[]);
        let plain = |origin, host, expected| check(&own, &[origin], host, false, expected);
        let tls = |origin, host, expected| check(&own, &[origin], host, true, expected);
        plain("http://a.test", "a.test", Verdict::Same);
        plain("http://a.test", "a.test:80", Verdict::Same);
        plain("http://a.test:80", "a.test", Verdict::Same);
        plain("HTTP://A.Test", "a.tEST", Verdict::Same);
        plain("http://a.test:8080", "a.test:8080", Verdict::Same);
        plain("http://[::1]:8080", "[0:0::1]:8080", Verdict::Same);
        plain("http://127.0.0.1:1", "127.0.0.1:1", Verdict::Same);
        plain("http://a.test.", "a.test.", Verdict::Same);
        plain("http://a.test", "a.test.", FOREIGN);
        plain("http://a.test.", "a.test", FOREIGN);
        plain("http://a.test:8080", "a.test", FOREIGN);
        plain("http://a.test", "a.test:443", FOREIGN);
        plain("http://a.test", "b.test", FOREIGN);
        plain("http://127.0.0.1", "localhost", FOREIGN);
        // There may be a proxy in front that speaks TLS.
        plain("https://a.test", "a.test", Verdict::Same);
        plain("https://a.test", "a.test:443", Verdict::Same);
        plain("https://a.test", "a.test:80", FOREIGN);
        plain("https://a.test:8443", "a.test:8443", Verdict::Same);
        tls("https://a.test", "a.test", Verdict::Same);
        tls("https://a.test:443", "a.test", Verdict::Same);
        tls("https://a.test:8443", "a.test:8443", Verdict::Same);
        tls("http://a.test", "a.test", FOREIGN);
        tls("http://a.test:443", "a.test", FOREIGN);
        tls("http://a.test", "a.test:80", FOREIGN);
        tls("wss://a.test", "a.test", FOREIGN);
        tls("https://a.test", "a.test:444", FOREIGN);
    }

    #[test]
    fn what_is_not_one_origin_is_never_anybody_s() {
        for allow in [&[][..], &["*"]] {
            let config = config(allow);
            for origin in [
                "",
                " ",
                "a.test",
                "a.test:80",
                "//a.test",
                "http:",
                "http:/",
                "http://",
                "http:a.test",
                "http:/a.test",
                "http:///a.test",
                "http://:80",
                "http://a.test:",
                "http://a.test:0",
                "http://a.test:080",
                "http://a.test:65536",
                "http://a.test:+80",
                "http://a.test:80:80",
                "http://a.test/",
                "http://a.test/x",
                "http://a.test?x",
                "http://a.test#x",
                "http://user@a.test",
                "http://a.test@evil.test",
                "http://a.test\\@evil.test",
                "http://a.test http://a.test",
                "http://a.test, http://a.test",
                "http://a.test,http://b.test",
                "NULL",
                "Null",
                "null, http://a.test",
                "http://a..test",
                "http://.a.test",
                "http://a.test..",
                "http://[::1",
                "http://::1",
                "http://[::1]x",
                "http://[a.test]",
                "http://[::1%25lo]",
                "http://a%2etest",
                "http://b\u{fc}cher.test",
                "http://*.test",
                "1http://a.test",
                "ht tp://a.test",
                "://a.test",
                "http://a.test\t",
                "file:///etc/passwd",
            ] {
                check(&config, &[origin], "a.test", false, UNREADABLE);
            }
            let repeated = Verdict::Refused(Refused::Repeated);
            check(&config, &["http://a.test", "http://a.test"], "a.test", false, repeated);
        }
    }

    #[test]
    fn pages_without_a_site_are_decided_by_their_own_key() {
        for origin in ["null", "file://"] {
            let refused = Verdict::Refused(Refused::Null);
            check(&config(&["http://a.test"]), &[origin], "a.test", false, refused);
            let null = OriginConfig { null: true, ..OriginConfig::default() };
            check(&null, &[origin], "a.test", false, Verdict::Allowed);
            check(&config(&["*"]), &[origin], "a.test", false, Verdict::Allowed);
        }
    }

    #[test]
    fn without_same_the_site_itself_must_be_listed() {
        let config = OriginConfig { same: false, ..config(&["https://a.test"]) };
        check(&config, &["http://a.test"], "a.test", false, FOREIGN);
        check(&config, &["https://a.test"], "a.test", false, Verdict::Allowed);
    }

    #[test]
    fn absence_is_a_program_unless_it_is_refused() {
        let check = |absent, expected| {
            let config = OriginConfig { absent, ..OriginConfig::default() };
            let found = config.check_handshake(&HeaderMap::new(), None, Transport::Plain);
            assert_eq!(found, expected);
        };
        check(true, Ok(()));
        check(false, Err(Refused::Absent));
    }

    #[test]
    fn an_origin_is_shown_cut_and_printable() {
        let mut headers = HeaderMap::new();
        let long = [b"\xff<\"".as_slice(), &[b'x'; 200]].concat();
        headers.insert(header::ORIGIN, HeaderValue::from_bytes(&long).unwrap());
        let shown = shown(&headers);
        assert!(shown.starts_with("\"\\xff<\\\"xxx") && shown.ends_with("...\""), "{shown}");
        assert!(shown.len() < 120);
    }
}
