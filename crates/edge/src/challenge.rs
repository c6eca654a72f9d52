//! ACME challenges: what an authority is shown that asks, by HTTP or in a TLS handshake, whether a
//! name is this node's.
//!
//! Only what is pending is answered. Whoever orders certificates says what that is.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Response, StatusCode};
use rustls::sign::CertifiedKey;

use crate::answer::{self, Body};

/// The challenges that are pending, for all workers to read.
#[derive(Debug, Default)]
pub struct Challenges {
    pending: ArcSwap<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Key authorizations by token.
    tokens: HashMap<String, Bytes>,
    /// By name, in lower case.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

/// A challenge, with the answer to each way of asking.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub name: String,
    pub token: String,
    pub key_authorization: String,
    /// What a handshake for `acme-tls/1` gets (RFC 8737, section 3).
    pub certificate: Arc<CertifiedKey>,
}

impl Challenges {
    /// These are pending, and no others.
    pub fn replace(&self, challenges: Vec<Challenge>) {
        let mut pending = Pending::default();
        for one in challenges {
            pending.tokens.insert(one.token, Bytes::from(one.key_authorization));
            pending.certificates.insert(one.name.to_ascii_lowercase(), one.certificate);
        }
        self.pending.store(Arc::new(pending));
    }

    /// The answer to a request that asks for a pending token (RFC 8555, section 8.3). Any other
    /// request goes its way.
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let token = path.strip_prefix(WELL_KNOWN)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let key_authorization = self.pending.load().tokens.get(token)?.clone();
        tracing::debug!(token, "an ACME challenge is answered");
        let media_type = HeaderValue::from_static("application/octet-stream");
        Some(answer::with_type(StatusCode::OK, key_authorization, media_type))
    }

    /// The certificate that a handshake for `acme-tls/1` gets; `None` for a name about which no
    /// challenge is pending.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let pending = self.pending.load();
        pending.certificates.get(&name.to_ascii_lowercase()).cloned()
    }
}

/// The one protocol that a handshake of a challenge offers (RFC 8737, section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

const WELL_KNOWN: &str = "/.well-known/acme-challenge/";
