//! Origins as a configuration lists them: `https://app.example.com`, `https://*.example.com`,
//! `http://localhost:*`, `*`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::host::HostPattern;
use crate::origin::{Host, Origin, default_port, is_scheme, split_authority};
use crate::written::written_as_text;

/// Whose pages are meant by an entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginPattern {
    /// `*`.
    Any,
    Site(SitePattern),
}

/// Scheme, host and port, in the form in which they are compared: lower case, no default port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SitePattern {
    scheme: String,
    host: HostForm,
    port: PortForm,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HostForm {
    Name(String),
    /// Every name below this one.
    Below(String),
    V6(Ipv6Addr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PortForm {
    Any,
    /// `None` is that of the scheme.
    Only(Option<u16>),
}

/// What is wrong with a written origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginPatternError {
    #[error("an origin is empty; write a site such as \"https://example.com\"")]
    Empty,
    #[error("origin `{0}` is not a site; set `null = true` if pages without a site may")]
    Null(String),
    #[error("origin `{0}` is several; write a list with a string for each")]
    Several(String),
    #[error("origin `{0}` has no scheme; write \"{1}://{0}\"")]
    NoScheme(String, &'static str),
    #[error("origin `{0}` is of a WebSocket; write that of the page, \"{1}\"")]
    WebSocket(String, String),
    #[error("origin `{0}` has a user; write scheme, host and port, such as \"https://{1}\"")]
    User(String, String),
    #[error("origin `{0}` has a path; an origin is scheme, host and port, so write \"{1}\"")]
    Path(String, String),
    #[error("origin `{0}` has a `*` inside a name; write \"{1}\" for all names below a domain")]
    StarInside(String, String),
    #[error("origin `{0}` takes every host; write a domain, such as \"https://*.example.com\"")]
    StarAlone(String),
    #[error(
        "origin `{0}` has letters beyond ASCII; write its punycode, such as \"https://xn--...\""
    )]
    NotAscii(String),
    #[error("origin `{0}` has an address that no browser writes so; write it as \"192.0.2.1\"")]
    NotAddress(String),
    #[error("origin `{0}` is not an origin; write such as \"https://example.com\" or \"*\"")]
    NotOrigin(String),
}

impl OriginPattern {
    /// Whether a page of this origin is meant.
    pub fn takes(&self, page: &Origin<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Site(site) => site.takes(page),
        }
    }

    /// The name below which it takes all, if it is so wide that it may be a mistake: a label
    /// alone, such as `com`, under which anybody can have a site.
    pub fn wide(&self) -> Option<&str> {
        match self {
            Self::Site(SitePattern { host: HostForm::Below(name), .. }) => {
                let is_own = ["localhost", "test", "internal", "local", "lan", "home", "example"]
                    .contains(&name.as_str());
                (!name.contains('.') && !is_own).then_some(name)
            }
            _ => None,
        }
    }
}

impl SitePattern {
    fn takes(&self, page: &Origin<'_>) -> bool {
        let is_host = match (&self.host, page.host) {
            (HostForm::Name(name), Host::Name(host)) => host.eq_ignore_ascii_case(name),
            (HostForm::Below(name), Host::Name(host)) => is_below(host, name),
            (HostForm::V6(address), Host::V6(host)) => *address == host,
            _ => false,
        };
        let is_port = match self.port {
            PortForm::Any => true,
            PortForm::Only(port) => port == page.port,
        };
        is_host && is_port && page.scheme.eq_ignore_ascii_case(&self.scheme)
    }
}

/// Whether `host` has whole labels before `name`.
fn is_below(host: &str, name: &str) -> bool {
    let Some(split) = host.len().checked_sub(name.len()) else { return false };
    split > 1
        && host.as_bytes()[split - 1] == b'.'
        && host.as_bytes()[split..].eq_ignore_ascii_case(name.as_bytes())
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<Self, OriginPatternError> {
        let own = || text.to_owned();
        match text {
            "" => return Err(OriginPatternError::Empty),
            "*" => return Ok(Self::Any),
            "null" | "file://" => return Err(OriginPatternError::Null(own())),
            _ if text.contains([' ', ',']) => return Err(OriginPatternError::Several(own())),
            _ if !text.is_ascii() => return Err(OriginPatternError::NotAscii(own())),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let host = text.trim_end_matches('/');
            let is_host = host.parse::<HostPattern>().is_ok() || split_authority(host).is_some();
            let is_local = ["localhost", "127.", "[::1]"].iter().any(|it| host.starts_with(it));
            let scheme = if is_local { "http" } else { "https" };
            return Err(match is_host {
                true => OriginPatternError::NoScheme(host.to_owned(), scheme),
                false => OriginPatternError::NotOrigin(own()),
            });
        };
        if !is_scheme(scheme) {
            return Err(OriginPatternError::NotOrigin(own()));
        }
        let scheme = scheme.to_ascii_lowercase();
        if let "ws" | "wss" = scheme.as_str() {
            let page = format!("{}://{rest}", if scheme == "ws" { "http" } else { "https" });
            return Err(OriginPatternError::WebSocket(own(), page));
        }
        if let Some((authority, _)) = rest.split_once(['/', '?', '#']) {
            let right = format!("{scheme}://{authority}");
            return Err(match right.parse::<Self>() {
                Ok(_) => OriginPatternError::Path(own(), right),
                Err(_) => OriginPatternError::NotOrigin(own()),
            });
        }
        if let Some((_, host)) = rest.rsplit_once('@') {
            return Err(OriginPatternError::User(own(), host.to_owned()));
        }
        site(text, scheme, rest).map(Self::Site)
    }
}

/// The site of `scheme` and `rest`: host, and port or `*`.
fn site(text: &str, scheme: String, rest: &str) -> Result<SitePattern, OriginPatternError> {
    let own = || text.to_owned();
    let (rest, any_port) = match rest.strip_suffix(":*") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (name, is_below) = match rest.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    if name == "*" || name.starts_with("*:") {
        return Err(OriginPatternError::StarAlone(own()));
    }
    if name.contains('*') {
        let below = name.rsplit('*').next().unwrap_or_default().trim_start_matches(['.', '-']);
        let below = if below.contains('.') { below } else { "example.com" };
        return Err(OriginPatternError::StarInside(own(), format!("{scheme}://*.{below}")));
    }
    let (host, port) = split_authority(name).ok_or_else(|| OriginPatternError::NotOrigin(own()))?;
    let host = match host {
        Host::V6(address) if !is_below => HostForm::V6(address),
        Host::V6(_) => return Err(OriginPatternError::NotOrigin(own())),
        Host::Name(name) => {
            let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            // Browsers take such a name for an address, and write it in another way.
            let is_number =
                last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
            if is_number && (is_below || name.parse::<Ipv4Addr>().is_err()) {
                return Err(OriginPatternError::NotAddress(own()));
            }
            let name = name.to_ascii_lowercase();
            if is_below { HostForm::Below(name) } else { HostForm::Name(name) }
        }
    };
    let port = match any_port {
        true if port.is_some() => return Err(OriginPatternError::NotOrigin(own())),
        true => PortForm::Any,
        false => PortForm::Only(port.filter(|&port| default_port(&scheme) != Some(port))),
    };
    Ok(SitePattern { scheme, host, port })
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Site(site) = self else { return f.write_str("*") };
        write!(f, "{}://", site.scheme)?;
        match &site.host {
            HostForm::Name(name) => f.write_str(name)?,
            HostForm::Below(name) => write!(f, "*.{name}")?,
            HostForm::V6(address) => write!(f, "[{address}]")?,
        }
        match site.port {
            PortForm::Any => f.write_str(":*"),
            PortForm::Only(Some(port)) => write!(f, ":{port}"),
            PortForm::Only(None) => Ok(()),
        }
    }
}

written_as_text!(
    OriginPattern,
    pattern = "^(\\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@ ,]+)$",
    "Scheme, host and port of pages, such as https://example.com, or `*`."
);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, origin: &str, expected: bool) {
        let parsed: OriginPattern = pattern.parse().unwrap_or_else(|it| panic!("{it}"));
        let page = Origin::parse(origin).unwrap_or_else(|| panic!("{origin} is an origin"));
        assert_eq!(parsed.takes(&page), expected, "{pattern} against {origin}");
    }

    #[test]
    fn a_site_is_scheme_host_and_port_and_nothing_that_looks_like_it() {
        let site = "https://good.example";
        check(site, "https://good.example", true);
        check(site, "https://good.example:443", true);
        check(site, "HTTPS://GOOD.Example", true);
        for origin in [
            "http://good.example",
            "https://good.example:444",
            "https://good.example:80",
            "http://good.example:443",
            "https://good.example.",
            "https://good.example.evil.com",
            "https://evilgood.example",
            "https://evil.good.example",
            "https://good-example",
            "https://goodexample",
            "https://good.exampl",
            "https://xn--good-example",
            "wss://good.example",
            "chrome-extension://good.example",
            "https://127.0.0.1",
            "https://[::1]",
        ] {
            check(site, origin, false);
        }
        check("HTTPS://Good.Example:443", "https://good.example", true);
        check("http://good.example:8080", "http://good.example:8080", true);
        check("http://good.example:8080", "http://good.example", false);
        check("https://xn--bcher-kva.example", "https://xn--BCHER-kva.example", true);
        check("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]", true);
        check("http://[::1]", "http://[::2]", false);
        check("http://127.0.0.1", "http://127.0.0.1", true);
        check("capacitor://localhost", "capacitor://localhost", true);
        check("capacitor://localhost", "capacitor://localhost:443", false);
        check("chrome-extension://abcdef", "chrome-extension://abcdef", true);
        check("chrome-extension://abcdef", "chrome-extension://abcdeg", false);
    }

    #[test]
    fn a_wildcard_stands_for_whole_labels_and_a_port_for_any() {
        let below = "https://*.good.example";
        check(below, "https://a.good.example", true);
        check(below, "https://a.b.good.example", true);
        check(below, "https://A.GOOD.example:443", true);
        check(below, "https://good.example", false);
        check(below, "https://evilgood.example", false);
        check(below, "https://a.good.example.evil.com", false);
        check(below, "https://a.good.example.", false);
        check(below, "https://a.good.example:8443", false);
        check(below, "http://a.good.example", false);
        check("https://*.good.example:8443", "https://a.good.example:8443", true);
        check("http://localhost:*", "http://localhost", true);
        check("http://localhost:*", "http://localhost:5173", true);
        check("http://localhost:*", "https://localhost:5173", false);
        check("http://localhost:*", "http://localhost.evil.com:5173", false);
        check("https://*.good.example:*", "https://a.good.example:1", true);
        check("http://[::1]:*", "http://[::1]:8080", true);
        check("*", "http://anybody.example:1", true);
    }

    #[test]
    fn what_is_written_comes_out_in_one_form() {
        for (text, form) in [
            ("https://Example.com:443", "https://example.com"),
            ("http://[0:0::1]:*", "http://[::1]:*"),
            ("https://*.Example.com:8443", "https://*.example.com:8443"),
            ("*", "*"),
        ] {
            assert_eq!(text.parse::<OriginPattern>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn what_is_not_an_origin_is_told_apart() {
        for (text, said) in [
            ("", "is empty"),
            ("null", "set `null = true`"),
            ("file://", "set `null = true`"),
            ("example.com", "write \"https://example.com\""),
            ("example.com/", "write \"https://example.com\""),
            ("*.example.com", "write \"https://*.example.com\""),
            ("localhost:3000", "write \"http://localhost:3000\""),
            ("https://example.com/", "write \"https://example.com\""),
            ("https://example.com/app?x", "write \"https://example.com\""),
            ("wss://example.com", "write that of the page, \"https://example.com\""),
            ("ws://localhost:*", "write that of the page, \"http://localhost:*\""),
            ("https://me@example.com", "such as \"https://example.com\""),
            ("https://*", "takes every host"),
            ("https://*:8443", "takes every host"),
            ("https://*example.com", "write \"https://*.example.com\""),
            ("https://app-*.example.com", "write \"https://*.example.com\""),
            ("https://a.*.example.com", "write \"https://*.example.com\""),
            ("https://example.*", "for all names below a domain"),
            ("https://a.example https://b.example", "is several"),
            ("https://a.example,https://b.example", "is several"),
            ("https://b\u{fc}cher.example", "punycode"),
            ("http://127.1", "no browser writes so"),
            ("http://0x7f000001", "no browser writes so"),
            ("https://*.1.2.3.4", "no browser writes so"),
            ("https:example.com", "is not an origin"),
            ("^https://.*$", "is not an origin"),
            ("https://", "is not an origin"),
            ("https://a.example:0", "is not an origin"),
            ("https://a.example:99999", "is not an origin"),
            ("https://*.[::1]", "is not an origin"),
            ("**", "is not an origin"),
        ] {
            match text.parse::<OriginPattern>() {
                Ok(pattern) => panic!("{text:?} is {pattern}"),
                Err(error) => assert!(error.to_string().contains(said), "{text:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_wildcard_under_which_anybody_can_have_a_site_is_seen() {
        let wide = |text: &str| text.parse::<OriginPattern>().unwrap().wide().map(str::to_owned);
        assert_eq!(wide("https://*.com"), Some("com".to_owned()));
        for text in ["https://*.example.com", "http://*.localhost:*", "https://com", "*"] {
            assert_eq!(wide(text), None, "{text}");
        }
    }
}
