//! What is written about TLS towards servers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tls::sources::MinVersion;
use crate::written::written_as_text;

/// TLS towards the servers of a backend. An empty table has it, with the authorities that the
/// system believes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsConfig {
    /// A file of authorities, in PEM: a server's certificate must be of one of them, and those that
    /// the system believes count for nothing. Without it, they are what counts.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that a server's certificate must have, when the server
    /// has no `server_name` of its own. By default, the host of its address, or the name that it
    /// was found by.
    pub server_name: Option<CertificateName>,
    /// Our certificate, for servers that ask for one, followed by those of its issuers.
    pub cert: Option<PathBuf>,
    /// The key of our certificate, not encrypted.
    pub key: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Believe every certificate: whoever is on the way can read and change everything. For trying
    /// things out.
    pub insecure: bool,
}

/// A name that a certificate can have: of a host, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName(pub ServerName<'static>);

/// What is wrong with a written name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name that a certificate can have; write such as \"nodes.internal\"")]
pub struct CertificateNameError(String);

impl ServerTlsConfig {
    /// Whether each server has to say which name its certificate has.
    pub fn needs_server_names(&self) -> bool {
        self.server_name.is_none() && !self.insecure
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca, &self.cert, &self.key].into_iter().flatten().map(PathBuf::as_path)
    }
}

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, CertificateNameError> {
        let name = ServerName::try_from(text.to_owned());
        name.map(Self).map_err(|_| CertificateNameError(text.to_owned()))
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

written_as_text!(CertificateName, "The name of a host, such as nodes.internal, or an address.");
