//! TLS as clients and servers speak it in tests: whom they trust, what they show, which versions
//! they know.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certs::Issued;

/// A client's side of TLS. Resumes sessions when it is used again.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub(crate) config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts the authorities in this PEM.
    pub fn new(ca: &str) -> Self {
        Self::with(ca, None, rustls::ALL_VERSIONS, default_provider())
    }

    /// Shows a certificate when it is asked for one.
    pub fn showing(ca: &str, issued: &Issued) -> Self {
        Self::with(ca, Some(issued), rustls::ALL_VERSIONS, default_provider())
    }

    pub fn of_version(ca: &str, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(ca, None, &[version], default_provider())
    }

    /// As of long ago: can check RSA signatures only.
    pub fn rsa_only(ca: &str) -> Self {
        let mut provider = default_provider();
        let algorithms = &mut provider.signature_verification_algorithms;
        let is_rsa = |scheme: &SignatureScheme| format!("{scheme:?}").starts_with("RSA");
        let rsa: Vec<_> =
            algorithms.mapping.iter().filter(|(scheme, _)| is_rsa(scheme)).copied().collect();
        algorithms.mapping = Box::leak(rsa.into_boxed_slice());
        Self::with(ca, None, rustls::ALL_VERSIONS, provider)
    }

    /// Offers these by ALPN.
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    /// Begins a session of its own each time.
    pub fn without_resumption(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::disabled();
        self
    }

    fn with(
        ca: &str,
        issued: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots(ca));
        let config = match issued {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = issued_parts(issued);
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { config: Arc::new(config) }
    }
}

/// A server's side of TLS. Lets clients resume sessions.
#[derive(Clone, Debug)]
pub struct TlsServer {
    pub(crate) config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Shows this certificate to everybody.
    pub fn new(issued: &Issued) -> Self {
        Self::with(issued, None, rustls::ALL_VERSIONS)
    }

    /// Asks for a certificate of the authorities in this PEM.
    pub fn asking(issued: &Issued, ca: &str) -> Self {
        Self::with(issued, Some(ca), rustls::ALL_VERSIONS)
    }

    pub fn of_version(issued: &Issued, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(issued, None, &[version])
    }

    /// As [`TlsServer::asking`], with one version.
    pub fn asking_of_version(
        issued: &Issued,
        ca: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        Self::with(issued, Some(ca), &[version])
    }

    /// Speaks these by ALPN.
    pub fn speaking(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    fn with(
        issued: &Issued,
        ca: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let config = match ca {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(roots(ca));
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = issued_parts(issued);
        Self { config: Arc::new(config.with_single_cert(chain, key).unwrap()) }
    }
}

fn roots(ca: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    roots
}

fn issued_parts(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}
