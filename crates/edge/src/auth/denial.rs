//! Why a client may not go on, and what it is told.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::answer::{self, Body};

/// Why no route takes a client: what its credentials lack.
#[derive(Clone, Debug)]
pub struct Denial {
    pub kind: DenialKind,
    detail: Cow<'static, str>,
    /// For `WWW-Authenticate`.
    challenges: Vec<HeaderValue>,
    /// The answer of a service that was asked, in place of our own.
    answer: Option<Box<ServiceAnswer>>,
}

/// What a service says to a client that it refuses.
#[derive(Clone, Debug)]
pub struct ServiceAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What is wrong, in the order of what is said when several things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenialKind {
    /// There is no credential.
    Missing,
    /// There is one, and it is wrong or not valid any more.
    Invalid,
    /// It was right once.
    Revoked,
    /// It is right, and not enough.
    Forbidden,
    /// It cannot be told now: perhaps the client may.
    Unavailable,
}

impl DenialKind {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Revoked => "revoked",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid | Self::Revoked => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Denial {
    pub fn new(kind: DenialKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), challenges: Vec::new(), answer: None }
    }

    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenges.push(challenge);
        self
    }

    pub fn with_answer(mut self, answer: ServiceAnswer) -> Self {
        self.answer = Some(Box::new(answer));
        self
    }

    /// The client may not, for another reason, either. What weighs more is said; all that would
    /// help is named.
    pub fn or(self, other: Self) -> Self {
        let (mut said, unsaid) = if other.kind > self.kind { (other, self) } else { (self, other) };
        for challenge in unsaid.challenges {
            if !said.challenges.contains(&challenge) {
                said.challenges.push(challenge);
            }
        }
        if said.answer.is_none() && said.kind.status() == unsaid.kind.status() {
            said.answer = unsaid.answer;
        }
        said
    }

    pub fn response(self) -> Response<Body> {
        let status = self.kind.status();
        let mut response = match self.answer {
            Some(answer) => {
                let mut response = Response::new(Body::own(answer.body));
                *response.status_mut() = answer.status;
                *response.headers_mut() = answer.headers;
                response
            }
            None => answer::text(status, self.detail),
        };
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            for challenge in self.challenges {
                headers.append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // It is about this client, and only now.
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// In seconds: long enough that it helps, and short enough that nobody gives up.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(kind: DenialKind) -> Denial {
        let challenge = HeaderValue::from_static(kind.as_str());
        Denial::new(kind, kind.as_str()).with_challenge(challenge)
    }

    #[test]
    fn of_several_reasons_the_one_that_weighs_most_is_said() {
        use DenialKind::{Forbidden, Invalid, Missing, Unavailable};
        let check = |one: DenialKind, other: DenialKind, status: u16, challenges: &[&str]| {
            for (one, other) in [(one, other), (other, one)] {
                let response = denial(one).or(denial(other)).response();
                let named = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
                let mut found: Vec<&str> = named.map(|it| it.to_str().unwrap()).collect();
                found.sort_unstable();
                assert_eq!((response.status().as_u16(), found), (status, challenges.to_vec()));
            }
        };
        check(Missing, Missing, 401, &["missing"]);
        check(Missing, Invalid, 401, &["invalid", "missing"]);
        check(Missing, Forbidden, 403, &[]);
        check(Invalid, Unavailable, 503, &[]);
        check(Forbidden, Unavailable, 503, &[]);
    }

    #[test]
    fn the_answer_of_a_service_is_passed_on_where_it_decides() {
        let answer = |status| ServiceAnswer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"log in"),
        };
        let found = denial(DenialKind::Invalid).with_answer(answer(StatusCode::FOUND));
        let both = denial(DenialKind::Missing).or(found.clone());
        assert_eq!(both.response().status(), StatusCode::FOUND);
        let both = denial(DenialKind::Unavailable).or(found);
        assert_eq!(both.response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
