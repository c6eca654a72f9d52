//! A key set that is fetched: by the control plane, never by a worker.
//!
//! ```text
//!   worker: unknown `kid` ──ask──> keep ──fetch──> the issuer
//!     (waits, not for long)          │ every `refresh`, or as its Cache-Control says
//!                                    └─> current: kept while the issuer is down, until `stale`
//! ```
//!
//! Whoever sends tokens with made-up `kid`s causes a fetch every `min_refresh`, and no more.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::JwtConfig;
use crate::jwks::{self, JwkFault, Origin, SetFault};
use crate::jwt::algorithm::Algorithm;
use crate::key_set::{KeySet, SourceFault, fault};
use crate::method::Method;

/// A key set at a URL.
#[derive(Debug)]
pub struct Remote {
    url: Uri,
    /// The URL without what could be a secret: its query.
    shown: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    refresh: Duration,
    min_refresh: Duration,
    stale: Duration,
    timeout: Duration,
    /// Woken when a worker wants a fetch now.
    asked: Arc<Notify>,
    progress: Mutex<Progress>,
    /// Counts fetches that have ended.
    ended: watch::Sender<u64>,
    ok: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Progress {
    is_fetching: bool,
    /// When the last fetch began.
    begun: Option<Instant>,
    succeeded: Option<Instant>,
    /// Since the last success.
    failures: u32,
    /// What the last answer said of its age.
    max_age: Option<Duration>,
}

/// What fetches have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchReport {
    pub ok: u64,
    pub failed: u64,
    /// Since the last one that was good.
    pub age: Option<Duration>,
}

/// What a fetch brings.
#[derive(Debug)]
pub struct Fetched {
    keys: KeySet,
    passed: Vec<(String, JwkFault)>,
    max_age: Option<Duration>,
}

/// Why a fetch brings nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    #[error("{}", chain(.0))]
    Request(hyper_util::client::legacy::Error),
    #[error("no answer in {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("the answer is a redirect ({0}), which is not followed; name its target in `jwks`")]
    Redirect(StatusCode),
    #[error("the answer is {0}; expected 200")]
    Status(StatusCode),
    #[error("the answer broke off, or is longer than {} KiB", BODY_BYTES_MAX >> 10)]
    Body,
    #[error("{fault}{}", kind.as_ref().map_or_else(String::new, |it| format!(" ({it})")))]
    Set { fault: SetFault, kind: Option<String> },
}

impl Remote {
    pub fn new(url: &str, config: &JwtConfig, dir: &Path) -> Result<Self, SourceFault> {
        let wrong = |why: &str| fault(&["jwt", "jwks"], why);
        let url: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        let expected = "the URL cannot be used; expected `https://` or `http://` and a host";
        if !matches!(url.scheme_str(), Some("https" | "http")) || url.host().is_none() {
            return Err(wrong(expected));
        }
        if url.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(wrong("the URL has a user; expected one without credentials"));
        }
        let shown = url.to_string();
        let shown = shown.split(['?', '#']).next().unwrap_or_default().to_owned();
        let connector = connector(&url, config, dir)?;
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self {
            url,
            shown,
            client,
            refresh: config.refresh.0,
            min_refresh: config.min_refresh.0,
            stale: config.stale.0,
            timeout: config.timeout.0,
            asked: Arc::default(),
            progress: Mutex::default(),
            ended: watch::Sender::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Asks for a fetch, and waits for its end. False when there was one just now, or none ends in
    /// time.
    pub async fn ask(&self) -> bool {
        let mut ended = self.ended.subscribe();
        let is_fetching = self.progress().is_fetching;
        if !is_fetching && self.is_recent() {
            return false;
        }
        if !is_fetching {
            self.asked.notify_one();
        }
        timeout(self.timeout, ended.changed()).await.is_ok()
    }

    /// Gets the document, within the timeout.
    pub async fn fetch(&self, allowed: &[Algorithm]) -> Result<Fetched, FetchFault> {
        {
            let mut progress = self.progress();
            progress.is_fetching = true;
            progress.begun = Some(Instant::now());
        }
        match timeout(self.timeout, self.get(allowed)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchFault::Timeout(self.timeout)),
        }
    }

    async fn get(&self, allowed: &[Algorithm]) -> Result<Fetched, FetchFault> {
        let request = Request::get(self.url.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("tidewire/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .expect("its parts are right");
        let answer = self.client.request(request).await.map_err(FetchFault::Request)?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchFault::Redirect(status)),
            status => return Err(FetchFault::Status(status)),
        }
        let (head, body) = Response::into_parts(answer);
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|_| FetchFault::Body)?.to_bytes();
        let (keys, passed) = jwks::parse(&body, allowed, Origin::Network).map_err(|fault| {
            let kind = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
            FetchFault::Set { fault, kind: kind.map(str::to_owned) }
        })?;
        Ok(Fetched { keys, passed, max_age: max_age(&head.headers) })
    }

    /// Takes note of what a fetch came to, and tells those who wait.
    pub fn finished(
        &self,
        auth: &str,
        fetched: Result<Fetched, FetchFault>,
        current: &ArcSwapOption<KeySet>,
    ) {
        let url = &*self.shown;
        match fetched {
            Ok(Fetched { keys, passed, max_age }) => {
                for (key, why) in passed {
                    debug!(auth, url, "{key} is passed over: {why}");
                }
                let count = keys.keys.len();
                let is_first = current.swap(Some(Arc::new(keys))).is_none();
                self.ok.fetch_add(1, Ordering::Relaxed);
                let mut progress = self.progress();
                if is_first || progress.failures > 0 {
                    info!(auth, url, keys = count, "key set fetched");
                }
                progress.succeeded = Some(Instant::now());
                progress.failures = 0;
                progress.max_age = max_age;
                progress.is_fetching = false;
            }
            Err(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut progress = self.progress();
                progress.failures = progress.failures.saturating_add(1);
                progress.is_fetching = false;
                let age = progress.succeeded.map(|at| at.elapsed());
                match age {
                    Some(age) if age < self.stale => {
                        let left = (self.stale - age).as_secs();
                        warn!(
                            auth,
                            url, "key set not fetched: {why}; the old is good for {left} s"
                        );
                    }
                    _ => {
                        current.store(None);
                        warn!(auth, url, "key set not fetched: {why}; tokens cannot be checked");
                    }
                }
            }
        }
        self.ended.send_modify(|count| *count += 1);
    }

    /// Whether the last fetch began so lately that none may follow only because a token asks for
    /// one.
    fn is_recent(&self) -> bool {
        self.progress().begun.is_some_and(|at| at.elapsed() < self.min_refresh)
    }

    /// The time to the next fetch.
    fn pause(&self) -> Duration {
        let progress = self.progress();
        let most = self.refresh.max(self.min_refresh);
        if progress.failures == 0 {
            return progress.max_age.unwrap_or(most).clamp(self.min_refresh, most);
        }
        let doubled = |first: Duration| first * 2u32.saturating_pow(progress.failures.min(16) - 1);
        match progress.succeeded {
            // Nobody gets in: soon.
            None => doubled(FIRST_PAUSE).min(self.min_refresh.max(FIRST_PAUSE)),
            // The last before it is too old may find the issuer back.
            Some(at) => {
                let left = self.stale.saturating_sub(at.elapsed()).max(FIRST_PAUSE);
                doubled(self.min_refresh.max(FIRST_PAUSE)).min(most).min(left)
            }
        }
    }

    pub fn report(&self) -> FetchReport {
        FetchReport {
            ok: self.ok.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            age: self.progress().succeeded.map(|at| at.elapsed()),
        }
    }

    /// The URL as it may be shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the keys of a method again and again, as long as it is there.
pub async fn keep(method: Weak<Method>) {
    loop {
        let Some((pause, asked)) = fetch_once(&method).await else { return };
        let wanted = async {
            loop {
                asked.notified().await;
                // Whoever asked before the fetch that has just been has got it.
                let is_recent = |method: Arc<Method>| Some(method.keys()?.remote()?.is_recent());
                if method.upgrade().and_then(is_recent) != Some(true) {
                    return;
                }
            }
        };
        let _ = timeout(pause, wanted).await;
    }
}

async fn fetch_once(method: &Weak<Method>) -> Option<(Duration, Arc<Notify>)> {
    let method = method.upgrade()?;
    let keys = method.keys()?;
    // What went wrong has been logged.
    let _ = keys.fetch().await;
    let remote = keys.remote()?;
    Some((remote.pause(), Arc::clone(&remote.asked)))
}

fn connector(
    url: &Uri,
    config: &JwtConfig,
    dir: &Path,
) -> Result<HttpsConnector<HttpConnector>, SourceFault> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = match &config.ca {
        Some(path) => {
            let wrong = |why: String| fault(&["jwt", "ca"], why);
            let mut roots = RootCertStore::empty();
            let found = CertificateDer::pem_file_iter(dir.join(path));
            for certificate in found.map_err(|why| wrong(format!("it cannot be read; {why}")))? {
                let certificate = certificate.map_err(|why| wrong(why.to_string()))?;
                roots.add(certificate).map_err(|why| wrong(why.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("it has no certificate; expected PEM".into()));
            }
            let tls = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(|why| wrong(why.to_string()))?;
            builder.with_tls_config(tls.with_root_certificates(roots).with_no_client_auth())
        }
        None if url.scheme_str() == Some("https") => {
            builder.with_provider_and_platform_verifier(provider).map_err(|why| {
                let why = format!("the system trusts nobody; set `ca` ({why})");
                fault(&["jwt", "jwks"], why)
            })?
        }
        // No TLS comes of it.
        None => {
            let tls = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(|why| fault(&["jwt", "jwks"], why))?;
            let none = RootCertStore::empty();
            builder.with_tls_config(tls.with_root_certificates(none).with_no_client_auth())
        }
    };
    // Where TLS is asked for, nothing else is spoken.
    Ok(match url.scheme_str() {
        Some("https") => builder.https_only().enable_http1().build(),
        _ => builder.https_or_http().enable_http1().build(),
    })
}

/// How long an answer is good, by its `Cache-Control` (RFC 9111, section 5.2.2).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, "0"));
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => value.trim().parse().ok().map(Duration::from_secs),
            "no-store" | "no-cache" => Some(Duration::ZERO),
            _ => None,
        }
    })
}

/// An error with what caused it: hyper's own says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

const BODY_BYTES_MAX: usize = 256 << 10;
/// After the first failure, when there are no keys at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
