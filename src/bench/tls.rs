//! TLS of the generator's connections: what is offered, who is trusted, and which handshakes came
//! of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use hyper_rustls::ConfigBuilderExt;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tidewire_edge::server_tls::trust;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tickets::Tickets;

/// For `wss://` URLs.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file with the authorities to trust, instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Take any certificate
    #[arg(long)]
    insecure: bool,

    /// Name to ask for, and to expect in the certificate, if not the host of the URL
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,

    /// The one version to offer, instead of both
    #[arg(long, value_name = "VERSION")]
    tls_version: Option<Version>,

    /// Cipher to offer; may be repeated, best first
    #[arg(long = "cipher", value_name = "CIPHER")]
    ciphers: Vec<Cipher>,

    /// Group for the key exchange to offer; may be repeated, best first
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<Group>,

    /// Protocol to offer by ALPN; may be repeated. `http/1.1` as browsers do for WebSockets if not
    /// given, nothing if empty
    #[arg(long, value_name = "NAME")]
    alpn: Vec<String>,

    /// Resume the sessions of earlier connections, as a client that comes back does; without it,
    /// every handshake is a full one
    #[arg(long)]
    resume: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    Chacha20Poly1305,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Post-quantum
    X25519mlkem768,
    X25519,
    Secp256r1,
    Secp384r1,
}

/// Makes TLS of TCP connections, and counts the handshakes.
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    full: AtomicU64,
    resumed: AtomicU64,
    agreed: OnceLock<Agreed>,
}

/// What the first connection agreed on with the server.
#[derive(Clone, Debug, Serialize)]
struct Agreed {
    version: String,
    cipher: String,
    /// Unknown when the first handshake was a resumed one of TLS 1.2, which exchanges no keys.
    group: Option<String>,
    alpn: Option<String>,
}

/// The handshakes of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Handshakes {
    #[serde(flatten)]
    agreed: Agreed,
    full: u64,
    resumed: u64,
}

impl Tls {
    pub fn new(options: &TlsOptions, host: &str) -> anyhow::Result<Self> {
        let name = options.sni.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .with_context(|| format!("`{name}` is no name that a certificate could be for"))?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(options.client_config()?)),
            name,
            full: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            agreed: OnceLock::new(),
        })
    }

    pub async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.connector.connect(self.name.clone(), tcp).await?;
        let connection = stream.get_ref().1;
        match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => &self.resumed,
            _ => &self.full,
        }
        .fetch_add(1, Ordering::Relaxed);
        self.agreed.get_or_init(|| Agreed::of(connection));
        Ok(stream)
    }

    /// Nothing, if no handshake has succeeded.
    pub fn handshakes(&self) -> Option<Handshakes> {
        Some(Handshakes {
            agreed: self.agreed.get()?.clone(),
            full: self.full.load(Ordering::Relaxed),
            resumed: self.resumed.load(Ordering::Relaxed),
        })
    }
}

impl TlsOptions {
    fn client_config(&self) -> anyhow::Result<ClientConfig> {
        let versions = match self.tls_version {
            None => rustls::ALL_VERSIONS,
            Some(Version::Tls12) => &[&rustls::version::TLS12],
            Some(Version::Tls13) => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider()))
            .with_protocol_versions(versions)?;
        let builder = match &self.ca {
            _ if self.insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(trust::everybody(&Arc::new(self.provider()))),
            Some(file) => builder.with_root_certificates(authorities(file)?),
            None => builder
                .try_with_platform_verifier()
                .context("this system has no authorities to trust; name some with --ca")?,
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = match &self.alpn[..] {
            [] => vec![b"http/1.1".to_vec()],
            names => names
                .iter()
                .filter(|name| !name.is_empty())
                .map(|name| name.as_bytes().to_vec())
                .collect(),
        };
        config.resumption = match self.resume {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        Ok(config)
    }

    /// All that the library can do, or only what was asked for, in that order.
    fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if !self.ciphers.is_empty() {
            let known = std::mem::take(&mut provider.cipher_suites);
            for cipher in &self.ciphers {
                let suites = known.iter().filter(|suite| cipher.is_of(suite.suite()));
                provider.cipher_suites.extend(suites);
            }
        }
        if !self.groups.is_empty() {
            provider.kx_groups = self.groups.iter().map(|group| group.exchange()).collect();
        }
        provider
    }
}

fn authorities(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .with_context(|| format!("--ca {}: cannot be read", file.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("--ca {}", file.display()))?;
        authorities.add(certificate).with_context(|| format!("--ca {}", file.display()))?;
    }
    if authorities.is_empty() {
        bail!("--ca {}: there is no certificate in it; it should be PEM", file.display());
    }
    Ok(authorities)
}

impl Cipher {
    fn is_of(self, suite: rustls::CipherSuite) -> bool {
        let name = suite.as_str().unwrap_or_default();
        match self {
            Self::Aes128Gcm => name.contains("AES_128_GCM"),
            Self::Aes256Gcm => name.contains("AES_256_GCM"),
            Self::Chacha20Poly1305 => name.contains("CHACHA20_POLY1305"),
        }
    }
}

impl Group {
    fn exchange(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519mlkem768 => aws_lc_rs::kx_group::X25519MLKEM768,
            Self::X25519 => aws_lc_rs::kx_group::X25519,
            Self::Secp256r1 => aws_lc_rs::kx_group::SECP256R1,
            Self::Secp384r1 => aws_lc_rs::kx_group::SECP384R1,
        }
    }
}

impl Agreed {
    fn of(connection: &ClientConnection) -> Self {
        let known = "a finished handshake has agreed on it";
        let version = connection.protocol_version().expect(known);
        let suite = connection.negotiated_cipher_suite().expect(known).suite();
        let group = connection.negotiated_key_exchange_group().map(|group| group.name());
        let alpn = connection.alpn_protocol();
        Self {
            version: format!("{version:?}"),
            cipher: format!("{suite:?}"),
            group: group.map(|group: NamedGroup| format!("{group:?}")),
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }
}

impl Handshakes {
    pub fn describe(&self) -> String {
        let Agreed { version, cipher, group, .. } = &self.agreed;
        let group = group.as_ref().map(|group| format!(", {group}")).unwrap_or_default();
        let Self { full, resumed, .. } = self;
        let percent = 100.0 * *resumed as f64 / (full + resumed).max(1) as f64;
        format!(
            "{version}, {cipher}{group}; handshakes: {full} full, {resumed} resumed ({percent:.1} %)"
        )
    }
}
