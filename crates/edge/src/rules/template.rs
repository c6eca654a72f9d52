//! Texts with parts of a request in them: `/v2/{*}`, `{client.address}`, `https://{host}{path}`.
//!
//! Captures stand for what is written in the request, percent-encoding and all: what was no line
//! break, slash or second parameter there becomes none here.

use std::fmt::Write;

use super::condition::Asked;
use crate::path::PathPattern;
use crate::route::host_of;

/// A text, and where in it something of a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(Box<str>),
    Known(Known),
    /// What the path captures under this name; `*` is what the star at its end takes.
    Capture(Box<str>),
}

/// What is known of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    ClientAddress,
    Host,
    Method,
    Path,
    /// With its `?`; nothing when there is none.
    Query,
    Scheme,
}

/// What is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a `{{` has no `}}`")]
    Open,
    #[error("a `}}` has no `{{`")]
    Close,
    #[error("there is nothing between `{{` and `}}`")]
    Empty,
}

impl Known {
    pub const ALL: [Self; 6] =
        [Self::ClientAddress, Self::Host, Self::Method, Self::Path, Self::Query, Self::Scheme];

    /// Its name between braces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientAddress => "client.address",
            Self::Host => "host",
            Self::Method => "method",
            Self::Path => "path",
            Self::Query => "query",
            Self::Scheme => "scheme",
        }
    }

    fn write(self, asked: &Asked<'_>, text: &mut String) {
        match self {
            // Of a Unix socket; servers hear the same in `X-Forwarded-For`.
            Self::ClientAddress if asked.client.is_unspecified() => text.push_str("unknown"),
            Self::ClientAddress => {
                let _ = write!(text, "{}", asked.client);
            }
            Self::Host => text.push_str(host_of(asked.uri, asked.headers).unwrap_or_default()),
            Self::Method => text.push_str(asked.method.as_str()),
            Self::Path => text.push_str(asked.uri.path()),
            Self::Query => {
                let query = asked.uri.query().into_iter();
                query.for_each(|query| text.extend(["?", query]));
            }
            Self::Scheme => text.push_str(if asked.is_tls { "https" } else { "http" }),
        }
    }
}

impl Template {
    /// Reads a text in which `{name}` stands for something, `{{` for `{` and `}}` for `}`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some(inner) = from.strip_prefix('{') else { return Err(TemplateError::Close) };
            let Some((name, after)) = inner.split_once('}') else {
                return Err(TemplateError::Open);
            };
            if name.is_empty() {
                return Err(TemplateError::Empty);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            let known = Known::ALL.into_iter().find(|known| known.as_str() == name);
            pieces.push(known.map_or_else(|| Piece::Capture(name.into()), Piece::Known));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Ok(Self { pieces })
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The names that a path has to capture.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(&**name),
            Piece::Text(_) | Piece::Known(_) => None,
        })
    }

    /// The text for a request whose path one of `patterns` matches, the first that does. `None` when
    /// that captures nothing of a name: only another reading of the path matches.
    pub fn fill(&self, asked: &Asked<'_>, patterns: &[PathPattern]) -> Option<String> {
        let path = asked.uri.path();
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Known(known) => known.write(asked, &mut filled),
                Piece::Capture(name) => {
                    let captured = patterns.iter().find_map(|pattern| pattern.written(path, name));
                    filled.push_str(captured?);
                }
            }
        }
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    const NOTHING: &str = "no capture";

    fn check(template: &str, uri: &str, expected: &str) {
        let (mut headers, uri) = (HeaderMap::new(), uri.parse().unwrap());
        headers.insert("host", "a.test".parse().unwrap());
        let asked = Asked {
            listener: 0,
            client: "192.0.2.1".parse().unwrap(),
            is_tls: true,
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            is_websocket: false,
            offer: None,
        };
        let patterns = ["/api/{room}".parse().unwrap(), "/api/{room}/*".parse().unwrap()];
        let template = Template::parse(template).unwrap();
        let expected = (expected != NOTHING).then(|| expected.to_owned());
        assert_eq!(template.fill(&asked, &patterns), expected);
    }

    #[test]
    fn a_template_is_filled_with_what_was_written() {
        check("x", "/", "x");
        check(
            "{client.address} {host} {method} {path}{query} {scheme}",
            "/a?b=%0d",
            "192.0.2.1 a.test GET /a?b=%0d https",
        );
        check("/{*}", "/api/r/a/b", "/a/b");
        check("/{room}/{*}", "/api/a%20b%2F/%0d%0a", "/a%20b%2F/%0d%0a");
        check("{room}", "/api/r", "r");
        check("{*}", "/api/r/", "");
        check("{*}", "/api/r", NOTHING);
        check("{room}", "//api/r", NOTHING);
        check("{{\"a\": {{}}}}", "/", "{\"a\": {}}");
    }

    #[test]
    fn braces_come_in_pairs() {
        for (text, expected) in [
            ("{", TemplateError::Open),
            ("a{b", TemplateError::Open),
            ("a}", TemplateError::Close),
            ("{}", TemplateError::Empty),
            ("{{}", TemplateError::Close),
        ] {
            assert_eq!(Template::parse(text), Err(expected), "{text}");
        }
    }
}
