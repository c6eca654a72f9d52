//! Routes that never match, because an earlier one takes all that they would.

use tidewire_edge::auth::access::Access;
use tidewire_edge::host::HostPattern;
use tidewire_edge::path::PathPattern;
use tidewire_edge::route::{HeaderMatcher, Matcher};

use super::{Checks, RoutePlan};
use crate::config::diagnostic::Diagnostic;

impl Checks<'_> {
    /// Warns of each route that no request reaches. The routes are all that the text has.
    pub(super) fn reach(&mut self, routes: &[RoutePlan]) {
        let scopes: Vec<Scope<'_>> = routes.iter().map(Scope::of).collect();
        for (index, scope) in scopes.iter().enumerate() {
            // An open route is passed over for those whom one before it has refused: they may come
            // to a later one that asks.
            let covers = |&first: &usize| {
                let is_passed_over = scopes[first].access.is_none()
                    && scope.access.is_some()
                    && scopes[..first].iter().any(Scope::can_refuse);
                scopes[first].covers(scope) && !is_passed_over
            };
            let Some(first) = (0..index).find(covers) else { continue };
            let place = |index| {
                let route = self.place.key("route").index(index);
                let path = route.key("path");
                if path.is_given() { path } else { route }
            };
            let finding = Diagnostic::warning("this route takes no request: an earlier one does");
            let finding = finding
                .at(place(index).span(), "never reached")
                .also(place(first).span(), "takes all of them");
            let is_kept = scopes[first].can_refuse() && scope.access.is_none();
            self.report(finding.help(if is_kept {
                "whom a route with `auth` refuses is for none without; `auth = []` takes everybody"
            } else {
                "the first route that matches is taken: put it above"
            }));
        }
    }
}

/// The requests that a route takes if no other does.
struct Scope<'r> {
    matcher: &'r Matcher,
    access: Option<&'r Access>,
    path: Segments,
}

impl<'r> Scope<'r> {
    fn of(route: &'r RoutePlan) -> Self {
        let access = route.access.as_ref();
        Self { matcher: &route.matcher, access, path: Segments::of(&route.matcher.path) }
    }

    /// Whether there are clients that it does not take.
    fn can_refuse(&self) -> bool {
        self.access.is_some_and(|access| !access.auths.is_empty())
    }

    /// Whether `other` gets no client of a request that both match.
    fn lets_in(&self, other: &Self) -> bool {
        match (self.access.filter(|_| self.can_refuse()), other.access) {
            (None, _) | (Some(_), None) => true,
            (Some(this), Some(that)) => {
                this.auths == that.auths
                    && (this.satisfy == that.satisfy || this.auths.len() < 2)
                    && this.claims.iter().all(|claim| that.claims.contains(claim))
            }
        }
    }

    /// Whether all that `other` takes is in this one.
    fn covers(&self, other: &Self) -> bool {
        let (this, that) = (self.matcher, other.matcher);
        let listeners = match (&this.listeners, &that.listeners) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(these), Some(those)) => those.iter().all(|index| these.contains(index)),
        };
        let has_host = |host: &HostPattern| this.hosts.iter().any(|it| covers_host(it, host));
        let has_header = |wanted: &HeaderMatcher| that.headers.iter().any(|it| implies(it, wanted));
        listeners
            && self.lets_in(other)
            && self.path.covers(&other.path)
            && (this.websocket.is_none() || this.websocket == that.websocket)
            && this.headers.iter().all(has_header)
            && (this.hosts.is_empty() || !that.hosts.is_empty() && that.hosts.iter().all(has_host))
    }
}

/// Whether each request with the header `has` meets `wanted`.
fn implies(has: &HeaderMatcher, wanted: &HeaderMatcher) -> bool {
    has.name == wanted.name && (wanted.value.is_none() || wanted.value == has.value)
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
