//! HTTP to the authority: TLS by the system's roots or by one's own, every wait and every answer
//! bounded, and a note of when the authority wants to be asked again.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::response::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A client of one order.
#[derive(Clone)]
pub struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    retry_after: Arc<Mutex<Option<SystemTime>>>,
}

/// Why nothing can be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the authority's `ca` {}: {reason}", path.display())]
    Ca { path: PathBuf, reason: String },
    #[error("the system's certificates cannot be used: {0}")]
    System(rustls::Error),
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no answer within {} s", REQUEST_TIME.as_secs())]
    Timeout,
    #[error("{0}")]
    Http(String),
    #[error("it answers {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl Client {
    pub fn new(ca: Option<&Path>) -> Result<Self, ClientError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClientError::System)?;
        let tls = match ca {
            Some(path) => tls.with_root_certificates(roots(path)?),
            None => tls.try_with_platform_verifier().map_err(ClientError::System)?,
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(REQUEST_TIME));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        let http = HyperClient::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, retry_after: Arc::default() })
    }

    /// When the authority wants to be asked again, as it said with its last refusal.
    pub fn retry_after(&self) -> Option<SystemTime> {
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let is_signed = request.method() == Method::POST;
        let (sent, retry_after) = (self.http.request(request), Arc::clone(&self.retry_after));
        Box::pin(async move {
            let answered = async {
                let (parts, body) =
                    sent.await.map_err(|error| RequestError::Http(chain_of(&error)))?.into_parts();
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
                Ok((parts, body.map_err(RequestError::Body)?.to_bytes()))
            };
            let answered = tokio::time::timeout(REQUEST_TIME, answered).await;
            let (parts, body) = answered
                .unwrap_or(Err(RequestError::Timeout))
                .map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            if parts.status.is_client_error() || parts.status.is_server_error() {
                let said = parts.headers.get(header::RETRY_AFTER).and_then(|it| it.to_str().ok());
                *retry_after.lock().unwrap_or_else(PoisonError::into_inner) =
                    said.and_then(|text| when(text, SystemTime::now()));
                if !is_signed || !is_problem(&parts) {
                    let refused =
                        RequestError::Refused { status: parts.status, said: said_in(&body) };
                    return Err(instant_acme::Error::Other(Box::new(refused)));
                }
            }
            Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>>;

/// The certificates of a PEM file.
fn roots(path: &Path) -> Result<RootCertStore, ClientError> {
    let wrong = |reason: String| ClientError::Ca { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|it| wrong(it.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|it| wrong(it.to_string()))?;
        roots.add(certificate).map_err(|it| wrong(it.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it has no certificate".to_owned()));
    }
    Ok(roots)
}

/// Whether an answer is an error as ACME tells it: all that instant-acme understands, and where it
/// expects it. A proxy in front of an authority tells its errors otherwise.
fn is_problem(parts: &Parts) -> bool {
    let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    media_type.is_some_and(|it| it.starts_with("application/problem+json"))
}

/// What may be logged of a refusal: its detail, or its beginning.
fn said_in(body: &[u8]) -> String {
    let problem = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    let text = problem["detail"].as_str().unwrap_or(&text);
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

/// What an error says with all that caused it: hyper's own text is "client error (Connect)".
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// The time of a `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn when(text: &str, now: SystemTime) -> Option<SystemTime> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}

const SHOWN_CHARS: usize = 200;
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// A chain has some thousand; a directory less.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn check(text: &str, seconds: Option<u64>) {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let found = when(text, now).and_then(|it| it.duration_since(now).ok());
        assert_eq!(found.map(|it| it.as_secs()), seconds, "{text}");
    }

    #[test]
    fn an_authority_says_seconds_or_a_date() {
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 09 Sep 2001 01:47:40 GMT", Some(60));
        check("soon", None);
        check("-5", None);
        check("18446744073709551615", None);
    }
}
