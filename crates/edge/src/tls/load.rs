//! From the files to what TLS needs, with all that is wrong found at once.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::acme::WithAcme;
use super::chain::{self, Leaf};
use super::clients;
use super::date::Date;
use super::fault::{Fault, Finding, Weight};
use super::ocsp::{self, Staple};
use super::pem;
use super::resolver::ByName;
use super::sources::{CertificateFiles, Item, MinVersion, Sources};
use crate::challenge;

/// What the files of a listener say.
pub struct Loaded {
    pub certificates: Vec<Certificate>,
    resolver: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// A certificate that is served.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub leaf: Leaf,
    /// What goes with it, if anything.
    pub staple: Option<Staple>,
}

/// Reads the files. `None` when there is an error among the findings.
pub fn load(sources: &Sources, now: Date) -> (Option<Loaded>, Vec<Finding>) {
    let mut findings = Vec::new();
    let provider = Arc::new(default_provider());
    let mut served = Vec::new();
    for (index, files) in sources.certificates.iter().enumerate() {
        served.extend(certificate(index, files, &provider, now, &mut findings));
    }
    let clients = sources.clients.as_ref();
    let clients = clients.map(|clients| clients::load(clients, &provider, now, &mut findings));
    let is_wrong = findings.iter().any(|finding| finding.fault.weight() == Weight::Error);
    let named: Vec<_> = served
        .iter()
        .map(|(key, certificate)| (Arc::clone(key), certificate.leaf.names.clone()))
        .collect();
    let resolver = resolver(&named, sources);
    let (Some(resolver), None | Some(Some(_)), false) = (resolver, &clients, is_wrong) else {
        return (None, findings);
    };
    let certificates = served.into_iter().map(|(_, certificate)| certificate).collect();
    let clients = clients.flatten();
    (Some(Loaded { certificates, resolver, clients, provider }), findings)
}

/// `None` when there is nothing to serve.
fn resolver(
    named: &[(Arc<CertifiedKey>, Vec<String>)],
    sources: &Sources,
) -> Option<Arc<dyn ResolvesServerCert>> {
    let unknown = sources.unknown_sni;
    let files = ByName::new(named, unknown).map(Arc::new);
    match &sources.acme {
        Some(acme) => Some(Arc::new(WithAcme { acme: Arc::clone(acme), files, unknown })),
        None => files.map(|files| files as _),
    }
}

fn certificate(
    index: usize,
    files: &CertificateFiles,
    provider: &CryptoProvider,
    now: Date,
    findings: &mut Vec<Finding>,
) -> Option<(Arc<CertifiedKey>, Certificate)> {
    let mut find = |item, fault| findings.push(Finding { item, fault });
    let (cert_item, key_item) = (Item::Cert(index), Item::Key(index));
    let read = pem::read(&files.cert.path).and_then(|bytes| pem::certificates(&bytes));
    let chain = read.map_err(|fault| find(cert_item, fault)).ok();
    let read = pem::read(&files.key.path).and_then(|bytes| pem::key(&bytes));
    let key = read
        .and_then(|key| provider.key_provider.load_private_key(key).map_err(|_| Fault::UnfitKey));
    let key = key.map_err(|fault| find(key_item, fault)).ok();
    if key.is_some() && pem::is_world_readable(&files.key.path) {
        find(key_item, Fault::WorldReadable);
    }
    let chain = chain?;
    let public_key = key.as_ref().and_then(|key| key.public_key());
    let mut warnings = Vec::new();
    let leaf = match chain::check(&chain, public_key.as_deref(), now, &mut warnings) {
        Ok(leaf) => leaf,
        Err(fault @ Fault::KeyMismatch) => {
            find(key_item, fault);
            return None;
        }
        Err(fault) => {
            find(cert_item, fault);
            return None;
        }
    };
    warnings.into_iter().for_each(|fault| find(cert_item, fault));
    let mut certified = CertifiedKey::new(chain, key?);
    let mut staple = None;
    if let Some(file) = &files.ocsp {
        let checked =
            pem::read(&file.path).and_then(|bytes| Ok((ocsp::check(&bytes, &leaf.serial)?, bytes)));
        match checked {
            Ok((Staple { next_update: Some(next) }, _)) if next < now => {
                find(Item::Ocsp(index), Fault::OcspExpired(next));
            }
            Ok((good, bytes)) => {
                certified.ocsp = Some(bytes);
                staple = Some(good);
            }
            Err(fault) => find(Item::Ocsp(index), fault),
        }
    }
    Some((Arc::new(certified), Certificate { leaf, staple }))
}

impl Loaded {
    /// For the runtime, which settles what sessions are resumed by.
    pub fn server_config(&self, sources: &Sources) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match sources.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let verifier = match &self.clients {
            Some(clients) => Arc::clone(clients),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.resolver));
        config.ignore_client_order = true;
        config.alpn_protocols = sources.alpn.iter().map(|it| it.name().to_vec()).collect();
        if sources.acme.is_some() {
            config.alpn_protocols.push(challenge::ALPN.to_vec());
        }
        Ok(config)
    }
}
