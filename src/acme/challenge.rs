//! A challenge: what an authority asks to see before it believes that a name is ours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the authority is shown that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChallengeKind {
    /// In a TLS handshake on port 443 (RFC 8737). Needs no other port.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By plain HTTP on port 80 (RFC 8555, section 8.3): for nodes behind something that ends TLS.
    #[serde(rename = "http-01")]
    Http01,
}

impl std::fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

/// A challenge that is to be answered.
#[cfg(feature = "acme")]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The name that is asked about.
    pub name: String,
    pub token: String,
    /// The token with the account key's thumbprint: for whoever asks, so not a secret.
    pub key_authorization: String,
}

#[cfg(feature = "acme")]
impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("name", &self.name).finish_non_exhaustive()
    }
}
