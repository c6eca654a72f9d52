//! TLS of a listener.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_edge::hsts::HstsConfig;
use tidewire_edge::tls::sources::{Alpn, ClientCertMode, MinVersion};
use tidewire_runtime::units::Period;

use super::one_or_many::OneOrMany;

/// TLS 1.2 and 1.3, with the library's safe ciphers in our order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates with their keys, in PEM. A client gets the one for the name that it asks for:
    /// an exact name before a wildcard, and the first one for a name that none has. Several may be
    /// for the same names, such as one with an ECDSA and one with an RSA key.
    #[serde(default)]
    pub certificate: Vec<CertificateConfig>,
    /// Names for which a certificate is ordered, one for all of them, as `[acme]` says.
    #[serde(default)]
    pub acme: Vec<String>,
    /// Refuse clients that ask for a name that no certificate has, or for none, instead of giving
    /// them the first one.
    #[serde(default)]
    pub strict_sni: bool,
    /// The oldest version that is spoken.
    #[serde(default)]
    pub min_version: MinVersion,
    /// What may be spoken inside (ALPN), the preferred one first.
    #[serde(default = "alpn")]
    pub alpn: Vec<Alpn>,
    /// Ask clients for a certificate.
    pub client_cert: Option<ClientCertConfig>,
    /// Have browsers remember to come by TLS only (`Strict-Transport-Security`), with every answer
    /// here.
    pub hsts: Option<HstsConfig>,
    /// How often the files are looked at. Files that have changed are read; when they are right,
    /// new connections get what is in them, and open ones are left alone. `0s` is never. SIGHUP
    /// has them read at once.
    #[serde(default = "reload")]
    pub reload: Period,
}

/// A certificate, its key, and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The certificate, followed by those of its issuers in order.
    pub cert: PathBuf,
    /// Its key, not encrypted: PKCS#8, PKCS#1 or SEC 1.
    pub key: PathBuf,
    /// An OCSP response about it, in DER, which clients get with it.
    pub ocsp: Option<PathBuf>,
}

/// Which certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertConfig {
    /// Whether a client must have one.
    #[serde(default)]
    pub mode: ClientCertMode,
    /// Files of the authorities whose certificates are taken, in PEM.
    pub ca: OneOrMany<PathBuf>,
    /// Files of what these authorities have revoked, in PEM or DER. With any, each authority in a
    /// client's chain needs a list, and one that is not out of date.
    #[serde(default = "none")]
    pub crl: OneOrMany<PathBuf>,
}

fn none() -> OneOrMany<PathBuf> {
    OneOrMany(Vec::new())
}

fn alpn() -> Vec<Alpn> {
    vec![Alpn::Http11]
}

fn reload() -> Period {
    Period::from_secs(10)
}
