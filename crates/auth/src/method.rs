//! What a method of authentication looks at, and what it says.
//!
//! To add one: a file beside `jwt`, a variant of [`Method`], a key of `config::AuthConfig`.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::api_key::ApiKeys;
use crate::basic::Basic;
use crate::client_cert::ClientCert;
use crate::config::AuthConfig;
use crate::identity::Identity;
use crate::jwt::Jwt;
use crate::kept_file::LOOK_PERIOD;
use crate::key_set::{KeySource, KeysReport, SourceFault};
use crate::remote;

/// A way to find out who a client is. Shared by all workers.
#[derive(Debug)]
pub enum Method {
    Jwt(Box<Jwt>),
    ApiKey(ApiKeys),
    Basic(Basic),
    ClientCert(ClientCert),
}

/// Why there is no method: the key that is wrong, by the way to it from the `[[auth]]`, and what is
/// wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodFault {
    pub key: &'static [&'static str],
    /// What is wrong, and `; ` what would be right.
    pub message: String,
}

impl Method {
    /// The method of an `[[auth]]` that has exactly one. Relative paths start from `dir`.
    ///
    /// # Errors
    /// When a key or a file is not what it should be. `None` when there is no method at all, or it
    /// is none of those here.
    pub fn new(config: &AuthConfig, dir: &Path) -> Result<Option<Self>, MethodFault> {
        let (name, pass) = (&*config.name, config.pass);
        if let Some(jwt) = &config.jwt {
            let keys = KeySource::new(name, jwt, dir)
                .map_err(|SourceFault { key, message }| MethodFault { key, message })?;
            return Ok(Some(Self::Jwt(Box::new(Jwt::new(name, jwt, pass, keys)))));
        }
        if let Some(keys) = &config.api_key {
            return ApiKeys::new(name, keys, pass, dir).map(|it| Some(Self::ApiKey(it)));
        }
        if let Some(basic) = &config.basic {
            return Basic::new(name, basic, pass, dir).map(|it| Some(Self::Basic(it)));
        }
        let certificate = config.client_cert.as_ref();
        Ok(certificate.map(|it| Self::ClientCert(ClientCert::new(name, it))))
    }

    /// Who the client is. `now` is in seconds since 1970.
    pub async fn authenticate(
        &self,
        presented: &Presented<'_>,
        now: u64,
    ) -> Result<Accepted, Denied> {
        match self {
            Self::Jwt(jwt) => jwt.authenticate(presented, now).await,
            Self::ApiKey(keys) => keys.authenticate(presented),
            Self::Basic(basic) => basic.authenticate(presented, now).await,
            Self::ClientCert(certificate) => certificate.authenticate(presented, now),
        }
    }

    /// All that a client shows where this method looks, be it right or not, unless servers get it
    /// as it is.
    pub fn occupied(&self, presented: &Presented<'_>) -> Vec<Found> {
        match self {
            Self::Jwt(jwt) => jwt.occupied(presented),
            Self::ApiKey(keys) => keys.occupied(presented),
            Self::Basic(basic) => basic.occupied(presented),
            Self::ClientCert(_) => Vec::new(),
        }
    }

    /// Whom a token speaks of that a client shows later, to renew the one of its handshake.
    pub fn authenticate_token(&self, token: &str, now: u64) -> Result<Identity, Denied> {
        match self {
            Self::Jwt(jwt) => jwt.authenticate_token(token, now),
            Self::ApiKey(_) | Self::Basic(_) | Self::ClientCert(_) => {
                Err(Denied::Invalid("only tokens can be renewed".into()))
            }
        }
    }

    /// Keeps what changes outside current, as long as the method is there: files that are read
    /// again, key sets that are fetched.
    pub fn keep(self: &Arc<Self>, control: &Handle) -> Option<JoinHandle<()>> {
        let this = Arc::downgrade(self);
        match &**self {
            Self::Jwt(jwt) if jwt.keys().remote().is_some() => {
                Some(control.spawn(remote::keep(this)))
            }
            Self::Jwt(jwt) if !jwt.keys().is_kept() => None,
            Self::ApiKey(keys) if !keys.is_kept() => None,
            Self::ClientCert(_) => None,
            Self::Jwt(_) | Self::ApiKey(_) | Self::Basic(_) => Some(control.spawn(reread(this))),
        }
    }

    /// The keys of those that have tokens.
    pub fn keys(&self) -> Option<&KeySource> {
        match self {
            Self::Jwt(jwt) => Some(jwt.keys()),
            Self::ApiKey(_) | Self::Basic(_) | Self::ClientCert(_) => None,
        }
    }

    /// What an operator can see of its keys; `None` of those that have none.
    pub fn report(&self) -> Option<KeysReport> {
        let counted = |auth: &str, keys| KeysReport { auth: auth.into(), keys, fetches: None };
        match self {
            Self::Jwt(jwt) => Some(jwt.keys().report()),
            Self::ApiKey(keys) => Some(counted(keys.auth(), keys.len())),
            Self::Basic(basic) => Some(counted(basic.auth(), basic.len())),
            Self::ClientCert(_) => None,
        }
    }

    /// The value of `WWW-Authenticate`: what a client without a credential should send.
    pub fn challenge(&self) -> HeaderValue {
        match self {
            Self::Jwt(jwt) => challenge("Bearer", jwt.auth(), ""),
            Self::Basic(basic) => challenge("Basic", basic.auth(), ", charset=\"UTF-8\""),
            // RFC 9110, section 15.5.2 wants a challenge with every 401; no scheme is registered
            // for these.
            Self::ApiKey(keys) => challenge("ApiKey", keys.auth(), ""),
            Self::ClientCert(it) => challenge("ClientCertificate", it.auth(), ""),
        }
    }

    /// As [`Method::challenge`], with what was wrong with the credential that there was (RFC 6750,
    /// section 3.1).
    pub fn challenge_after(&self, denied: &Denied) -> HeaderValue {
        match (self, denied) {
            (Self::Jwt(jwt), Denied::Invalid(why)) => {
                let more = format!(", error=\"invalid_token\", error_description=\"{why}\"");
                challenge("Bearer", jwt.auth(), &more)
            }
            (Self::Jwt(jwt), Denied::Forbidden(_)) => {
                challenge("Bearer", jwt.auth(), ", error=\"insufficient_scope\"")
            }
            _ => self.challenge(),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwt(jwt) => jwt.fmt(f),
            Self::ApiKey(keys) => {
                let places: Vec<_> = keys.places().iter().map(ToString::to_string).collect();
                write!(f, "api_key in {}", places.join(", "))
            }
            Self::Basic(_) => f.write_str("basic"),
            Self::ClientCert(_) => f.write_str("client_cert"),
        }
    }
}

/// Looks at the files of a method again and again, as long as it is there.
async fn reread(method: Weak<Method>) {
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        match method.upgrade().as_deref() {
            Some(Method::Jwt(jwt)) => jwt.keys().reread(),
            Some(Method::ApiKey(keys)) => keys.reread(),
            Some(Method::Basic(basic)) => basic.reread(),
            Some(Method::ClientCert(_)) | None => return,
        }
    }
}

/// The realm is the name of the `[[auth]]`, which has no quotes.
fn challenge(scheme: &str, realm: &str, more: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{scheme} realm=\"{realm}\"{more}"))
        .unwrap_or(HeaderValue::from_static("Bearer"))
}

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
