//! `[acme]`: certificates from an authority that issues them by itself, such as Let's Encrypt.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

use super::challenge::ChallengeKind;

/// Where certificates come from for the names in `listen.tls.acme`: an authority that speaks ACME
/// (RFC 8555). Without it, there are none but those in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeConfig {
    /// Whether you agree to the authority's terms of service. It must be `true`: nothing is ordered
    /// without.
    pub agree_to_terms: bool,
    /// Where the authority may write to, such as when a certificate is about to end.
    pub email: Option<String>,
    /// The authority's directory. Let's Encrypt's for tries, which limits less and is trusted by
    /// nobody, is `https://acme-staging-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// How the authority is shown that a name is ours.
    pub challenge: ChallengeKind,
    /// The directory in which the account, keys and certificates are kept. Nodes that share it
    /// share what is in it: one of them orders, all of them answer challenges.
    pub storage: PathBuf,
    /// A PEM file with the certificates that the authority's own is checked by; those of the system
    /// when it is not set.
    pub ca: Option<PathBuf>,
    /// What binds the new account to one that you have with the authority, if it asks for it.
    pub eab: Option<EabConfig>,
    /// How long before its end a certificate is renewed; a third of its lifetime, if that is less.
    pub renew_before: Period,
    /// How long to wait after an order that failed; twice as long after each further one, up to a
    /// day. What the authority says itself goes before.
    pub retry: Period,
    /// How long an order may take altogether.
    pub timeout: Period,
}

/// External account binding (RFC 8555, section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EabConfig {
    /// The key's identifier, as the authority has given it.
    pub key_id: String,
    /// A file with the key, in base64url, as the authority has given it.
    pub key_file: PathBuf,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            agree_to_terms: false,
            email: None,
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            challenge: ChallengeKind::default(),
            storage: PathBuf::from("/var/lib/tidewire/acme"),
            ca: None,
            eab: None,
            renew_before: Period::from_secs(30 * 86_400),
            retry: Period::from_secs(60),
            timeout: Period::from_secs(300),
        }
    }
}
