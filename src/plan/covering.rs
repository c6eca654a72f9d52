//! Whether one condition holds wherever another does: what comes behind it is never asked then.

use tidewire_edge::host::HostPattern;
use tidewire_edge::path::PathPattern;
use tidewire_edge::rules::condition::{Condition, HeaderMatcher, NameMatcher};
use tidewire_edge::rules::text_pattern::TextPattern;

/// Whether `this` holds for every request for which `that` does. May say no where it is so.
pub(super) fn covers(this: &Condition, that: &Condition) -> bool {
    let has_header = |wanted: &HeaderMatcher| {
        let implies =
            |has: &HeaderMatcher| has.name == wanted.name && are_all(&wanted.any_of, &has.any_of);
        that.headers.iter().any(implies)
    };
    let is_offered = &this.subprotocols;
    is_listed(
        this.listeners.as_deref().unwrap_or_default(),
        that.listeners.as_deref().unwrap_or_default(),
    ) && is_listed(&this.methods, &that.methods)
        && (this.websocket.is_none() || this.websocket == is_websocket(that))
        && (this.tls.is_none() || this.tls == that.tls)
        && (this.addresses.is_none() || this.addresses == that.addresses)
        && is_each(&that.hosts, &this.hosts, covers_host)
        && is_each(&that.paths, &this.paths, covers_path)
        && is_each(&that.subprotocols, is_offered, TextPattern::covers)
        && this.headers.iter().all(has_header)
        && are_named(&this.query, &that.query)
        && are_named(&this.cookies, &that.cookies)
        && (this.any.is_empty() || this.any == that.any)
        && this.all.iter().all(|one| covers(one, that) || that.all.contains(one))
        && (this.not.is_none() || this.not == that.not)
}

/// What is offered is offered in a handshake.
fn is_websocket(condition: &Condition) -> Option<bool> {
    condition.websocket.or((!condition.subprotocols.is_empty()).then_some(true))
}

/// Whether a list, of which one must be, has all of another; an empty one is no condition.
fn is_listed<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    is_each(narrow, wide, T::eq)
}

fn is_each<T>(narrow: &[T], wide: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let is_covered = |one: &T| wide.iter().any(|wide| covers(wide, one));
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(is_covered)
}

fn are_all(wide: &[TextPattern], narrow: &[TextPattern]) -> bool {
    narrow.iter().all(|one| wide.iter().any(|wide| wide.covers(one)))
}

fn are_named(wide: &[NameMatcher], narrow: &[NameMatcher]) -> bool {
    wide.iter().all(|wanted| {
        let implies =
            |has: &NameMatcher| has.name == wanted.name && are_all(&wanted.any_of, &has.any_of);
        narrow.iter().any(implies)
    })
}

pub(super) fn covers_path(wide: &PathPattern, narrow: &PathPattern) -> bool {
    Segments::of(wide).covers(&Segments::of(narrow))
}

/// Whether some path may match both. May say yes where none does.
pub(super) fn paths_meet(this: &PathPattern, that: &PathPattern) -> bool {
    Segments::of(this).meets(&Segments::of(that))
}

/// Whether some host may be one of both. None at all stand for every host.
pub(super) fn hosts_meet(these: &[HostPattern], those: &[HostPattern]) -> bool {
    let meet = |this, that| covers_host(this, that) || covers_host(that, this);
    these.is_empty()
        || those.is_empty()
        || these.iter().any(|this| those.iter().any(|that| meet(this, that)))
}

fn covers_host(earlier: &HostPattern, later: &HostPattern) -> bool {
    let (wide, host) = (earlier.to_string(), later.to_string());
    match host.strip_prefix("*.") {
        // What is below a name below `x` is below `x`.
        Some(name) => earlier == later || wide.starts_with("*.") && earlier.matches(name),
        None => earlier.matches(&host),
    }
}

/// A path pattern in pieces.
struct Segments {
    parts: Vec<String>,
    is_prefix: bool,
}

impl Segments {
    fn of(pattern: &PathPattern) -> Self {
        let text = pattern.to_string();
        let body = text.strip_prefix('/').unwrap_or(&text);
        let is_prefix = body.ends_with('*');
        let mut parts: Vec<String> = body.split('/').map(str::to_owned).collect();
        if is_prefix {
            parts.pop();
        }
        Self { parts, is_prefix }
    }

    /// Whether every path that `other` matches is matched by this.
    fn covers(&self, other: &Self) -> bool {
        let is_long_enough = match (self.is_prefix, other.is_prefix) {
            (true, true) => other.parts.len() >= self.parts.len(),
            (true, false) => other.parts.len() > self.parts.len(),
            (false, true) => false,
            (false, false) => other.parts.len() == self.parts.len(),
        };
        let covers = |(this, other): (&String, &String)| {
            this == other || is_capture(this) && !other.is_empty() && is_decodable(other)
        };
        is_long_enough && self.parts.iter().zip(&other.parts).all(covers)
    }

    /// Whether some path may be matched by both.
    fn meets(&self, other: &Self) -> bool {
        let is_as_long = match (self.is_prefix, other.is_prefix) {
            (true, true) => true,
            (true, false) => other.parts.len() > self.parts.len(),
            (false, true) => self.parts.len() > other.parts.len(),
            (false, false) => other.parts.len() == self.parts.len(),
        };
        // What is encoded may be the same as what is not.
        let is_open = |part: &str| is_capture(part) || part.contains('%');
        let meets = |(this, other): (&String, &String)| {
            this == other
                || is_open(this) && !other.is_empty()
                || is_open(other) && !this.is_empty()
        };
        is_as_long && self.parts.iter().zip(&other.parts).all(meets)
    }
}

fn is_capture(part: &str) -> bool {
    part.starts_with('{')
}

/// A capture does not match what is not text once decoded.
fn is_decodable(part: &str) -> bool {
    is_capture(part) || tidewire_edge::path::decode(part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pattern: &str) -> Segments {
        Segments::of(&pattern.parse().unwrap())
    }

    fn check(earlier: &str, later: &str, expected: bool) {
        let covers = segments(earlier).covers(&segments(later));
        assert_eq!(covers, expected, "{earlier} covers {later}");
    }

    #[test]
    fn paths_meet_where_one_can_be_of_both() {
        for (this, that, expected) in [
            ("/*", "/x", true),
            ("/x/*", "/*", true),
            ("/x", "/x", true),
            ("/x", "/y", false),
            ("/x", "/%78", true),
            ("/x/{a}", "/{b}/y", true),
            ("/x/{a}", "/y/{a}", false),
            ("/x/{a}", "/x/", false),
            ("/x/{a}", "/x", false),
            ("/x/*", "/x", false),
            ("/x/*", "/x/", true),
            ("/x/*", "/x/y/*", true),
            ("/x/z/*", "/x/y/*", false),
        ] {
            let (a, b) = (segments(this), segments(that));
            assert_eq!((a.meets(&b), b.meets(&a)), (expected, expected), "{this} and {that}");
        }
    }

    #[test]
    fn a_path_covers_what_it_matches_and_no_more() {
        check("/*", "/", true);
        check("/*", "/ws/{topic}", true);
        check("/*", "/*", true);
        check("/ws/*", "/ws/", true);
        check("/ws/*", "/ws", false);
        check("/ws/*", "/ws/{topic}", true);
        check("/ws/*", "/*", false);
        check("/ws/{topic}", "/ws/echo", true);
        check("/ws/{topic}", "/ws/", false);
        check("/ws/{topic}", "/ws/%ff", false);
        check("/ws/echo", "/ws/{topic}", false);
        check("/{a}/{b}", "/{c}/x", true);
        check("/{a}", "/{a}/b", false);
        check("/{a}/*", "/{a}/b", true);
        check("/", "/*", false);
    }

    fn check_host(earlier: &str, later: &str, expected: bool) {
        let covers = covers_host(&earlier.parse().unwrap(), &later.parse().unwrap());
        assert_eq!(covers, expected, "{earlier} covers {later}");
    }

    #[test]
    fn a_host_covers_what_it_matches_and_no_more() {
        check_host("example.com", "EXAMPLE.com", true);
        check_host("*.example.com", "a.example.com", true);
        check_host("*.example.com", "*.a.example.com", true);
        check_host("*.example.com", "*.example.com", true);
        check_host("*.example.com", "example.com", false);
        check_host("a.example.com", "*.example.com", false);
        check_host("example.com", "*.example.com", false);
    }
}
