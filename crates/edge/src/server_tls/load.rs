//! From the files to a configuration of a TLS client.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tidewire_runtime::tls::client::TlsClient;

use super::config::ServerTlsConfig;
use super::nobody;
use super::trust;
use crate::tls::chain;
use crate::tls::date::Date;
use crate::tls::fault::Fault;
use crate::tls::pem;
use crate::tls::sources::MinVersion;

/// What is wrong with TLS towards servers.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsFault {
    /// A file, and what is wrong with it.
    #[error("`{}` {fault}", item.key())]
    File { item: Item, fault: Fault },
    #[error("the authorities that the system believes cannot be read: {0}")]
    System(rustls::Error),
    #[error("{0}")]
    Internal(rustls::Error),
}

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    Ca,
    Cert,
    Key,
}

impl Item {
    /// The key that it is the value of.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Cert => "cert",
            Self::Key => "key",
        }
    }
}

/// What the files say.
#[derive(Debug)]
pub struct Loaded {
    pub client: TlsClient,
    /// What is no error and yet to be said.
    pub doubts: Vec<ServerTlsFault>,
}

/// Reads the files of `config`.
pub(super) fn load(
    config: &ServerTlsConfig,
    dir: &Path,
    now: Date,
) -> Result<Loaded, ServerTlsFault> {
    let provider = Arc::new(default_provider());
    let versions: &[_] = match config.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let verifier = verifier(config, dir, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(ServerTlsFault::Internal)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut doubts = Vec::new();
    let mut tls = match own(config, dir, &provider, now, &mut doubts)? {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { client: TlsClient::new(tls, nobody()), doubts })
}

fn verifier(
    config: &ServerTlsConfig,
    dir: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ServerTlsFault> {
    if config.insecure {
        return Ok(trust::everybody(provider));
    }
    let Some(ca) = &config.ca else {
        return trust::system(provider).map_err(ServerTlsFault::System);
    };
    let fault = |fault| ServerTlsFault::File { item: Item::Ca, fault };
    let mut roots = RootCertStore::empty();
    let certificates = pem::read(&dir.join(ca)).and_then(|bytes| pem::certificates(&bytes));
    for (position, der) in certificates.map_err(fault)?.into_iter().enumerate() {
        roots.add(der).map_err(|_| fault(Fault::BadCertificate(position)))?;
    }
    trust::these(roots, provider).map_err(ServerTlsFault::Internal)
}

/// What we show to servers that ask.
fn own(
    config: &ServerTlsConfig,
    dir: &Path,
    provider: &CryptoProvider,
    now: Date,
    doubts: &mut Vec<ServerTlsFault>,
) -> Result<Option<CertifiedKey>, ServerTlsFault> {
    let (Some(cert), Some(key_file)) = (&config.cert, &config.key) else { return Ok(None) };
    let of_cert = |fault| ServerTlsFault::File { item: Item::Cert, fault };
    let of_key = |fault| ServerTlsFault::File { item: Item::Key, fault };
    let key_file = dir.join(key_file);
    let chain = pem::read(&dir.join(cert)).and_then(|bytes| pem::certificates(&bytes));
    let chain = chain.map_err(of_cert)?;
    let read = pem::read(&key_file).and_then(|bytes| pem::key(&bytes));
    let loaded = provider.key_provider.load_private_key(read.map_err(of_key)?);
    let key = loaded.map_err(|_| of_key(Fault::UnfitKey))?;
    let mut warnings = Vec::new();
    let checked = chain::check(&chain, key.public_key().as_deref(), now, &mut warnings);
    checked.map_err(|fault| match fault {
        Fault::KeyMismatch => of_key(fault),
        _ => of_cert(fault),
    })?;
    doubts.extend(warnings.into_iter().map(of_cert));
    if pem::is_world_readable(&key_file) {
        doubts.push(of_key(Fault::WorldReadable));
    }
    Ok(Some(CertifiedKey::new(chain, key)))
}
