//! What a listener's TLS is made of: which files, and what is chosen.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::acme::AcmeCertificate;

/// What a listener's TLS is made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The first one is for clients that name no host. At least one, unless there is `acme`.
    pub certificates: Vec<CertificateFiles>,
    /// One that comes from an authority.
    pub acme: Option<Arc<AcmeCertificate>>,
    pub unknown_sni: UnknownSni,
    pub min_version: MinVersion,
    /// In the order of preference.
    pub alpn: Vec<Alpn>,
    /// Where certificates of clients are asked for.
    pub clients: Option<ClientSources>,
}

/// A certificate with its chain, its key, and what vouches that it is not revoked.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub cert: FileSource,
    pub key: FileSource,
    pub ocsp: Option<FileSource>,
}

/// Whose certificates clients may show.
#[derive(Clone, Debug)]
pub struct ClientSources {
    pub mode: ClientCertMode,
    /// At least one.
    pub ca: Vec<FileSource>,
    pub crl: Vec<FileSource>,
}

/// A file as the configuration names it, and where it is.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// What may be shown of it.
    pub name: String,
    pub path: PathBuf,
}

/// What a client gets that names a host for which there is no certificate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSni {
    /// The first certificate.
    Default,
    /// The alert `unrecognized_name`.
    Refused,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is spoken inside of TLS, by its registered name (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Alpn {
    /// HTTP/1.1, and WebSocket.
    #[serde(rename = "http/1.1")]
    Http11,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertMode {
    /// A client without a certificate is refused.
    #[default]
    Required,
    /// A client may have none; one that it has must be right.
    Optional,
}

/// One file among the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// Of the certificate of this index.
    Cert(usize),
    Key(usize),
    Ocsp(usize),
    /// Of clients, by index.
    Ca(usize),
    Crl(usize),
}

impl Sources {
    /// All files, in the order of the configuration.
    pub fn files(&self) -> impl Iterator<Item = (Item, &FileSource)> {
        let certificates = self.certificates.iter().enumerate().flat_map(|(index, files)| {
            let ocsp = files.ocsp.iter().map(move |file| (Item::Ocsp(index), file));
            [(Item::Cert(index), &files.cert), (Item::Key(index), &files.key)]
                .into_iter()
                .chain(ocsp)
        });
        let clients = self.clients.iter().flat_map(|clients| {
            let ca = clients.ca.iter().enumerate().map(|(index, file)| (Item::Ca(index), file));
            let crl = clients.crl.iter().enumerate().map(|(index, file)| (Item::Crl(index), file));
            ca.chain(crl)
        });
        certificates.chain(clients)
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files().map(|(_, file)| file.path.as_path())
    }

    /// The file of an item.
    ///
    /// # Panics
    /// When the item is none of these sources.
    pub fn file(&self, item: Item) -> &FileSource {
        let found = self.files().find(|(known, _)| *known == item);
        found.expect("an item comes from the sources that it is asked of").1
    }
}

impl Alpn {
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Http11 => b"http/1.1",
        }
    }
}
