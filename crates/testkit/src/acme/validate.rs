//! Finds out whose a name is: by HTTP (RFC 8555, section 8.3) or in a TLS handshake (RFC 8737).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::state::Problem;
use crate::port::loopback;

/// A TLS connection to a node.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

pub fn http(name: &str, token: &str, expected: &str, port: u16) -> Result<(), Problem> {
    let got = fetch(name, token, port)
        .map_err(|error| Problem::new(400, "connection", error.to_string()))?;
    let (head, body) = got.split_once("\r\n\r\n").unwrap_or((&got, ""));
    if !head.starts_with("HTTP/1.1 200 ") || body.trim_end() != expected {
        let line = head.lines().next().unwrap_or_default();
        let detail = format!("{name} answers {line:?} and {body:?}, not the key authorization");
        return Err(Problem::new(403, "unauthorized", detail));
    }
    Ok(())
}

fn fetch(name: &str, token: &str, port: u16) -> io::Result<String> {
    let mut stream = connect(port)?;
    write!(
        stream,
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )?;
    let mut got = String::new();
    stream.read_to_string(&mut got)?;
    Ok(got)
}

pub fn tls_alpn(name: &str, expected: &str, port: u16) -> Result<(), Problem> {
    let wrong = |detail: String| Problem::new(403, "unauthorized", detail);
    let (connection, shown) = knock(name, port)?;
    if connection.conn.alpn_protocol() != Some(b"acme-tls/1") {
        return Err(wrong(format!("{name} speaks {:?}", connection.conn.alpn_protocol())));
    }
    check(&shown, name, expected).map_err(wrong)
}

/// A connection after a handshake as an authority makes it, and the certificate that was shown.
pub fn knock(name: &str, port: u16) -> Result<(Connection, CertificateDer<'static>), Problem> {
    let wrong = |detail: String| Problem::new(403, "unauthorized", detail);
    let seen = Arc::new(Seen::new());
    let mut tls = ClientConfig::builder_with_provider(Arc::clone(&seen.provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Seen>::clone(&seen))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let host = ServerName::try_from(name.to_owned()).map_err(|it| wrong(it.to_string()))?;
    let mut tls = ClientConnection::new(Arc::new(tls), host).map_err(|it| wrong(it.to_string()))?;
    let mut stream = connect(port).map_err(|it| Problem::new(400, "connection", it.to_string()))?;
    while tls.is_handshaking() {
        let done = tls.complete_io(&mut stream);
        done.map_err(|it| Problem::new(400, "tls", it.to_string()))?;
    }
    let shown = seen.shown.lock().expect("nobody panics with it").take();
    let shown = shown.ok_or_else(|| wrong("no certificate was shown".to_owned()))?;
    Ok((StreamOwned::new(tls, stream), shown))
}

/// RFC 8737, section 3: the name and nothing else, and the hash in a critical extension.
fn check(shown: &CertificateDer<'_>, name: &str, expected: &str) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(shown).map_err(|it| it.to_string())?;
    let names = certificate.subject_alternative_name().map_err(|it| it.to_string())?;
    let names = names.map_or(&[][..], |it| &it.value.general_names);
    if !matches!(names, [GeneralName::DNSName(only)] if only.eq_ignore_ascii_case(name)) {
        return Err(format!("the certificate is for {names:?}"));
    }
    let mut extensions = certificate.extensions().iter();
    let extension = extensions.find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let extension = extension.ok_or("the certificate has no acmeIdentifier")?;
    let hash = digest(&SHA256, expected.as_bytes());
    // An OCTET STRING of 32 bytes.
    if !extension.critical || extension.value != [&[4, 32], hash.as_ref()].concat() {
        return Err("the acmeIdentifier is not critical, or another one".to_owned());
    }
    Ok(())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&loopback(port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Keeps the certificate that is shown: it signs itself. That the key is its own is verified.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl Seen {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { provider, shown: Mutex::default() }
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().expect("nobody panics with it") = Some(shown.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// rustls' own functions refuse every certificate with a critical extension that they do not know,
/// as they should.
fn verify(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let wrong = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
    let (_, certificate) = X509Certificate::from_der(shown)
        .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
    let key = &certificate.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
    key.verify(message, signed.signature()).map_err(wrong)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// Less than a test waits.
const PATIENCE: Duration = Duration::from_secs(5);
