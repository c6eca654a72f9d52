//! What a method of authentication looks at, and what it says.

use http::HeaderMap;
use http::header::HeaderName;

use crate::identity::Identity;

/// What a request shows of its client.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    pub headers: &'a HeaderMap,
    /// Of the request's target, without the `?`.
    pub query: Option<&'a str>,
    /// The subprotocols that a WebSocket client offers, in its order.
    pub subprotocols: &'a [&'a str],
    /// The client's certificate of the TLS handshake, in DER, verified already.
    pub certificate: Option<&'a [u8]>,
}

/// Where a credential was found: it goes from there before a server sees the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// As the value of this header, whole.
    Header(HeaderName),
    /// In the cookie of this name.
    Cookie(Box<str>),
    /// In the query parameter of this name.
    Query(Box<str>),
    /// Among the offered subprotocols.
    Subprotocol {
        /// Indexes of the offers that are not subprotocols: the token, and a marker before it.
        offers: std::ops::Range<usize>,
        /// What the 101 names when nothing else is chosen: a browser ends a WebSocket whose offers
        /// are all passed over.
        answer: Box<str>,
    },
    /// In the TLS handshake: there is nothing to take out.
    Certificate,
}

/// A client that a method vouches for.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub identity: Identity,
    pub found: Found,
    /// Whether servers get the credential as the client sent it.
    pub is_passed_on: bool,
}

/// Why a method does not vouch for a client. The texts reach the client: they have no secret, and
/// do not tell what it could try next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no credential of this kind: 401.
    #[error("{0}")]
    Missing(&'static str),
    /// It is wrong, or not valid any more: 401.
    #[error("{0}")]
    Invalid(String),
    /// It is right, and not enough: 403.
    #[error("{0}")]
    Forbidden(String),
    /// Whether it is right cannot be told now: 503.
    #[error("{0}")]
    Unavailable(&'static str),
}
