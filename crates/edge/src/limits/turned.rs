//! Whoever does not get through a door: why, and what they are told.

use std::fmt;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::quota::Whose;
use super::tally::{Exceeded, What};
use crate::answer::{self, Body};

/// A limit that clients can meet: a key of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub whose: Whose,
    pub what: What,
}

/// Why a client does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Its address is not for here.
    Denied,
    /// There are too many, or they come too often.
    Limited { limit: Limit, retry: Duration },
}

impl Limit {
    /// All of them, in the order of [`Limit::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |whose| What::ALL.into_iter().map(move |what| Self { whose, what });
        [Whose::Address, Whose::Identity, Whose::Total].into_iter().flat_map(of)
    }

    pub const COUNT: usize = 3 * What::ALL.len();

    pub fn index(self) -> usize {
        self.whose as usize * What::ALL.len() + self.what as usize
    }

    /// Its key, which is its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match (self.whose, self.what) {
            (Whose::Address, What::Connections) => "per_address.connections",
            (Whose::Address, What::Handshakes) => "per_address.handshakes",
            (Whose::Address, What::Rate) => "per_address.rate",
            (Whose::Address, What::Requests) => "per_address.requests",
            (Whose::Identity, What::Connections) => "per_identity.connections",
            (Whose::Identity, What::Handshakes) => "per_identity.handshakes",
            (Whose::Identity, What::Rate) => "per_identity.rate",
            (Whose::Identity, What::Requests) => "per_identity.requests",
            (Whose::Total, What::Connections) => "total.connections",
            (Whose::Total, What::Handshakes) => "total.handshakes",
            (Whose::Total, What::Rate) => "total.rate",
            (Whose::Total, What::Requests) => "total.requests",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::Connections => "too many connections",
            What::Handshakes => "too many handshakes at a time",
            What::Rate => "handshakes come too fast",
            What::Requests => "requests come too fast",
        })?;
        f.write_str(match self.whose {
            Whose::Address => " from your address",
            Whose::Identity => " of yours",
            Whose::Total => "",
        })
    }
}

impl Turned {
    /// `luck` is random: those who were refused together do not come back together.
    pub(super) fn limited(whose: Whose, exceeded: Exceeded, luck: f32) -> Self {
        let limit = Limit { whose, what: exceeded.what };
        // When a place gets free, nobody knows.
        let retry = exceeded.after.unwrap_or(PLACE_AFTER);
        let spread = match whose {
            Whose::Total => retry.max(SPREAD_MIN).mul_f32(luck),
            Whose::Address | Whose::Identity => Duration::ZERO,
        };
        Self::Limited { limit, retry: retry.saturating_add(spread) }
    }

    /// What is wrong, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Limited { limit, .. } => limit.as_str(),
        }
    }

    /// The answer to a request.
    pub fn response(self) -> Response<Body> {
        let Self::Limited { limit, .. } = self else {
            return answer::text(StatusCode::FORBIDDEN, "not for your address");
        };
        let mut response = answer::text(StatusCode::TOO_MANY_REQUESTS, limit);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after()));
        response
    }

    /// In how many seconds it may be otherwise (RFC 9110, section 10.2.3).
    pub fn retry_after(self) -> u64 {
        match self {
            Self::Denied => 0,
            Self::Limited { retry, .. } => retry.as_nanos().div_ceil(1_000_000_000).max(1) as u64,
        }
    }
}

/// When to look again whether somebody has left.
const PLACE_AFTER: Duration = Duration::from_secs(5);

/// All clients of a site come back within no less.
const SPREAD_MIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_own_place_and_name() {
        let all: Vec<Limit> = Limit::all().collect();
        assert_eq!(all.len(), Limit::COUNT);
        for (index, limit) in all.iter().enumerate() {
            assert_eq!(limit.index(), index, "{}", limit.as_str());
        }
        let mut names: Vec<&str> = all.iter().map(|limit| limit.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), Limit::COUNT);
    }

    fn check(whose: Whose, after: Option<u64>, luck: f32, expected: u64) {
        let after = after.map(Duration::from_millis);
        let turned = Turned::limited(whose, Exceeded { what: What::Rate, after }, luck);
        assert_eq!(turned.retry_after(), expected, "{whose:?} {after:?} {luck}");
    }

    #[test]
    fn seconds_are_rounded_up_and_those_of_everybody_are_spread() {
        check(Whose::Address, Some(0), 0.9, 1);
        check(Whose::Address, Some(1000), 0.9, 1);
        check(Whose::Address, Some(1001), 0.9, 2);
        check(Whose::Identity, None, 0.9, 5);
        check(Whose::Total, Some(100), 0.0, 1);
        check(Whose::Total, Some(100), 1.0, 6);
        check(Whose::Total, Some(60_000), 1.0, 120);
    }
}
