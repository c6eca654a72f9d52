//! Host names in routes: `example.com`, or `*.example.com` for every name below it.

use crate::written::written_as_text;
use std::fmt;
use std::str::FromStr;

/// A host name that a route asks for, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: String,
    is_wildcard: bool,
}

/// What is wrong with a written host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    #[error("a host is empty; write a name such as \"example.com\" or \"*.example.com\"")]
    Empty,
    #[error("host `{0}` names a port; a route matches the name, the port is the listener's")]
    HasPort(String),
    #[error("host `{0}` is not a host name; write \"example.com\" or \"*.example.com\"")]
    NotName(String),
}

impl HostPattern {
    /// Whether `host` (of a Host header, with or without its port) is this or below this.
    pub fn matches(&self, host: &str) -> bool {
        let host = without_port(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        if !self.is_wildcard {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(split) = host.len().checked_sub(self.name.len()) else { return false };
        split > 1
            && host.is_char_boundary(split)
            && host[split..].eq_ignore_ascii_case(&self.name)
            && host.as_bytes()[split - 1] == b'.'
    }
}

/// The host of `name:port` or `[v6]:port`.
pub fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text.is_empty() {
            return Err(HostPatternError::Empty);
        }
        let (name, is_wildcard) = match text.strip_prefix("*.") {
            Some(below) => (below, true),
            None => (text, false),
        };
        if without_port(name) != name {
            return Err(HostPatternError::HasPort(text.to_owned()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_v6 = name.starts_with('[') && name.ends_with(']');
        if name.is_empty() || !(is_v6 || name.chars().all(is_name)) {
            return Err(HostPatternError::NotName(text.to_owned()));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        Ok(Self { name, is_wildcard })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_wildcard { "*." } else { "" }, self.name)
    }
}

written_as_text!(HostPattern, "A host name, or `*.` and a name for every host below it.");

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, host: &str, expected: bool) {
        let pattern: HostPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(host), expected, "{pattern} against {host}");
    }

    #[test]
    fn a_host_matches_whatever_its_case_port_or_final_dot() {
        check("example.com", "example.com", true);
        check("Example.com", "EXAMPLE.com:8080", true);
        check("example.com", "example.com.", true);
        check("example.com", "www.example.com", false);
        check("example.com", "example.com.evil.org", false);
        check("[::1]", "[::1]:80", true);
    }

    #[test]
    fn a_wildcard_matches_below_the_name_and_not_the_name() {
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "a.b.example.com:443", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*.example.com", "badexample.com", false);
        check("*.example.com", "é.example.com", true);
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        for text in ["", "*.", "a b", "example.com:80", "http://example.com", "*"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }
}
