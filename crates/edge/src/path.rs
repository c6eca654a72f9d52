//! Path patterns in routes: `/`, `/ws/*`, `/ws/{topic}`, `/rooms/{room}/{seat}`.

use std::fmt;
use std::str::FromStr;

use crate::written::written_as_text;
use tidewire_wire::http::query;

/// A pattern for the path of a request.
///
/// A segment is literal or a capture (`{name}`, one whole segment that is not empty); a final `*`
/// takes the rest, be it empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether the pattern ends in `*`.
    is_prefix: bool,
}

/// What a pattern took out of a path: the names of its captures with their values, decoded.
pub type Captures = Vec<(String, String)>;

/// What is wrong with a written path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    #[error("path `{0}` must begin with `/`")]
    NoSlash(String),
    #[error("path `{0}` has a `*` before its end; only the last character may be one")]
    StarInside(String),
    #[error(
        "path `{0}` has a `{{` or `}}` inside a segment; a capture is a whole segment, such as `/{{topic}}`"
    )]
    BraceInside(String),
    #[error("path `{0}` captures `{1}` twice")]
    Twice(String, String),
    #[error("path `{0}` holds a `?` or `#`; a path pattern matches the path only")]
    NotPath(String),
}

/// A path, and how its segments stand for what servers see.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'p> {
    /// As it is in the request, percent-encoded.
    Written(&'p str),
    /// Decoded already, see [`lenient`].
    Decoded(&'p str),
}

impl PathPattern {
    /// The captures, when `path` (without its query) matches. A capture that is not valid UTF-8
    /// once decoded does not match.
    pub fn captures(&self, path: &str) -> Option<Captures> {
        self.take(Reading::Written(path), decode)
    }

    /// The captures, when `path` matches as it stands: it is decoded already.
    pub fn captures_decoded(&self, path: &str) -> Option<Captures> {
        self.take(Reading::Decoded(path), |segment| Some(segment.to_owned()))
    }

    /// Whether `path` matches.
    pub fn matches(&self, path: Reading<'_>) -> bool {
        let is_text = |segment: &str| !segment.contains('%') || decode(segment).is_some();
        let is_decoded = matches!(path, Reading::Decoded(_));
        self.walk(path, |_, segment| is_decoded || is_text(segment)).is_some()
    }

    /// What a path that matches has written where the pattern captures `name`, or for `*` what the
    /// star takes.
    pub fn written<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let mut found = None;
        let rest = self.walk(Reading::Written(path), |capture, segment| {
            if capture == name {
                found = Some(segment);
            }
            true
        })?;
        if name == "*" && self.is_prefix { Some(rest) } else { found }
    }

    fn take(&self, path: Reading<'_>, read: impl Fn(&str) -> Option<String>) -> Option<Captures> {
        let mut captures = Captures::new();
        self.walk(path, |name, segment| {
            let read = read(segment);
            let is_read = read.is_some();
            captures.extend(read.map(|read| (name.to_owned(), read)));
            is_read
        })?;
        Some(captures)
    }

    /// Shows `capture` what is captured, until it says no. Returns what is left for the star when
    /// the path matches.
    fn walk<'p>(
        &self,
        path: Reading<'p>,
        mut capture: impl FnMut(&str, &'p str) -> bool,
    ) -> Option<&'p str> {
        let (Reading::Written(text) | Reading::Decoded(text)) = path;
        let mut rest = text.strip_prefix('/')?;
        for (index, segment) in self.segments.iter().enumerate() {
            let is_last = index + 1 == self.segments.len() && !self.is_prefix;
            let (head, tail) = match rest.split_once('/') {
                Some(_) if is_last => return None,
                Some(split) => split,
                None if is_last => (rest, ""),
                None => return None,
            };
            match segment {
                Segment::Literal(literal) if path.is_same(literal, head) => {}
                Segment::Capture(name) if !head.is_empty() && capture(name, head) => {}
                _ => return None,
            }
            rest = tail;
        }
        Some(rest)
    }

    /// Whether it ends in a star.
    pub fn has_star(&self) -> bool {
        self.is_prefix
    }

    /// The names of its captures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }
}

/// The path as servers may read it that take as much as possible for the same: decoded once or
/// twice, `%2F` and `\` for a slash, without parameters of segments (`;x`), empty segments, and
/// those of dots, cut off at what ends a path once it is decoded. None when the path has nothing of
/// that.
///
/// WSGI servers decode `%2F`, those of Java cut at `;`, many take `//` for `/`; a proxy in between
/// decodes a first time, C ends at `%00`.
pub fn lenient(path: &str) -> Vec<String> {
    if !path.contains(['%', '\\', ';']) && !path.contains("//") {
        return Vec::new();
    }
    let mut readings = Vec::new();
    let mut read = |text: &str| {
        for reading in [text, before_end(text)].into_iter().flat_map(resolved) {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    };
    // Parameters are cut off before what is decoded, or behind it.
    let without_parameters: Vec<&str> = path.split('/').map(before_parameters).collect();
    for text in [&*without_parameters.join("/"), path] {
        let once = query::decode_lossy(text);
        read(&once);
        read(&query::decode_lossy(&once));
    }
    readings
}

/// A decoded path without empty segments, parameters and dots. Whether a slash is left where the
/// last segment was nothing else (`/admin/;x`, `/admin/.`) is read in both ways.
fn resolved(decoded: &str) -> impl Iterator<Item = String> {
    let decoded = decoded.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let mut is_last_kept = false;
    for segment in decoded.split('/').map(before_parameters) {
        is_last_kept = !matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let path = format!("/{}", kept.join("/"));
    let with_slash = (!is_last_kept && !kept.is_empty()).then(|| format!("{path}/"));
    let without = (kept.is_empty() || !decoded.ends_with('/')).then_some(path);
    without.into_iter().chain(with_slash)
}

fn before_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

fn before_end(decoded: &str) -> &str {
    decoded.split(['?', '#', '\0']).next().unwrap_or_default()
}

impl Reading<'_> {
    fn is_same(self, literal: &str, segment: &str) -> bool {
        match self {
            Self::Written(_) => is_same(literal, segment),
            Self::Decoded(_) => {
                literal == segment || decode(literal).is_some_and(|literal| literal == segment)
            }
        }
    }
}

/// Whether two segments are the same to a server that decodes them. A route for `/admin` that asks
/// who the client is must not be passed by as `/%61dmin`.
fn is_same(literal: &str, segment: &str) -> bool {
    literal == segment
        || (literal.contains('%') || segment.contains('%'))
            && decode(segment).is_some_and(|decoded| decode(literal) == Some(decoded))
}

/// Undoes percent-encoding; `None` when an escape is broken or the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let own = || text.to_owned();
        if text.contains(['?', '#']) {
            return Err(PathPatternError::NotPath(own()));
        }
        let Some(body) = text.strip_prefix('/') else {
            return Err(PathPatternError::NoSlash(own()));
        };
        let (body, is_prefix) = match body.strip_suffix('*') {
            Some(before) if before.is_empty() || before.ends_with('/') => (before, true),
            Some(_) => return Err(PathPatternError::StarInside(own())),
            None => (body, false),
        };
        if body.contains('*') {
            return Err(PathPatternError::StarInside(own()));
        }
        let body = if is_prefix { body.strip_suffix('/') } else { Some(body) };
        let mut pattern = Self { text: own(), segments: Vec::new(), is_prefix };
        for part in body.into_iter().flat_map(|body| body.split('/')) {
            pattern.push(part)?;
        }
        Ok(pattern)
    }
}

impl PathPattern {
    fn push(&mut self, part: &str) -> Result<(), PathPatternError> {
        let capture = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let inner = capture.unwrap_or(part);
        if inner.contains(['{', '}']) || capture.is_some_and(str::is_empty) {
            return Err(PathPatternError::BraceInside(self.text.clone()));
        }
        if capture.is_some_and(|name| self.names().any(|known| known == name)) {
            return Err(PathPatternError::Twice(self.text.clone(), inner.to_owned()));
        }
        let inner = inner.to_owned();
        self.segments.push(match capture {
            Some(_) => Segment::Capture(inner),
            None => Segment::Literal(inner),
        });
        Ok(())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

written_as_text!(
    PathPattern,
    pattern = "^/",
    "A path: literal segments, `{name}` for one segment, a final `*` for the rest."
);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Capture(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: Option<&[(&str, &str)]>) {
        let captures = pattern.parse::<PathPattern>().unwrap().captures(path);
        let expected = expected.map(|pairs| {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
        });
        assert_eq!(captures, expected, "{pattern} against {path}");
    }

    #[test]
    fn another_spelling_is_read_as_lenient_servers_do() {
        let check = |path: &str, expected: &[&str]| {
            assert_eq!(lenient(path), expected, "{path}");
        };
        check("/admin/x", &[]);
        check("//admin/x", &["/admin/x"]);
        check("/admin//", &["/admin/"]);
        check("/admin%2fx", &["/admin/x"]);
        check("/admin\\x", &["/admin/x"]);
        check("/%5cadmin/x", &["/admin/x"]);
        check("/admin;a=b/x;c", &["/admin/x"]);
        check("/admin;a=%2f..%2fb", &["/admin", "/b"]);
        check("/;%2fadmin%2fx", &["/", "/admin/x"]);
        check("//admin/%3bx", &["/admin", "/admin/"]);
        check("/admin%2f.", &["/admin", "/admin/"]);
        check("/x/..;/admin", &["/admin"]);
        check("/x/..%2fadmin", &["/admin"]);
        check("/a%ff%zz", &["/a\u{fffd}%zz"]);
        check("/%2561", &["/%61", "/a"]);
        check("/x/%252e%252e/admin", &["/x/%2e%2e/admin", "/admin"]);
        // Neither reading may hide the other: some server decodes once.
        check("//admin/%252e%252e/x", &["/admin/%2e%2e/x", "/x"]);
        check("/%2%66admin", &["/%2fadmin", "/admin"]);
        check("/admin%00.html", &["/admin\0.html", "/admin"]);
        check("/admin%3f/x", &["/admin?/x", "/admin"]);
        check("/admin%2523/x", &["/admin%23/x", "/admin#/x", "/admin"]);
        check("//", &["/"]);
    }

    #[test]
    fn a_path_matches_segment_by_segment() {
        check("/", "/", Some(&[]));
        check("/", "/a", None);
        check("/ws", "/ws", Some(&[]));
        check("/ws", "/ws/", None);
        check("/ws", "/wsx", None);
        check("/ws/{topic}", "/ws/echo", Some(&[("topic", "echo")]));
        check("/ws/{topic}", "/ws/", None);
        check("/ws/{topic}", "/ws/a/b", None);
        check("/admin/*", "/%61dm%69n/x", Some(&[]));
        check("/a%20b", "/a%20b", Some(&[]));
        check("/%ff", "/%ff", Some(&[]));
        check("/a", "/%2561", None);
        check("/a", "/%41", None);
        check("/{a}/x/{b}", "/1/x/2", Some(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn a_star_takes_the_rest() {
        check("/*", "/", Some(&[]));
        check("/*", "/a/b", Some(&[]));
        check("/ws/*", "/ws/", Some(&[]));
        check("/ws/*", "/ws/a/b", Some(&[]));
        check("/ws/*", "/ws", None);
        check("/{app}/*", "/chat/x/y", Some(&[("app", "chat")]));
    }

    #[test]
    fn captures_are_decoded_and_stay_inside_their_segment() {
        check("/ws/{topic}", "/ws/a%20b%2Fc", Some(&[("topic", "a b/c")]));
        check("/ws/{topic}", "/ws/%ff", None);
        check("/ws/{topic}", "/ws/%4", None);
        check("/ws/{topic}", "/ws/%zz", None);
    }

    #[test]
    fn what_cannot_match_is_refused() {
        for text in ["", "ws", "/a*", "/*/b", "/a{b}", "/{}", "/{a}/{a}", "/a?b", "/a#b", "/{a"] {
            assert!(text.parse::<PathPattern>().is_err(), "{text:?}");
        }
    }
}
