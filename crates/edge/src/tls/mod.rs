//! TLS of a listener: certificates by name, clients' certificates, files that are read again.
//!
//! ```text
//!   Sources ──load──> Loaded ──> ServerConfig ──swapped in──> new handshakes
//!      └── look: changed? ── watch (control plane), SIGHUP: load again, or keep what there is
//! ```
//!
//! What is right is swapped in whole, what is wrong is said and the last good one stays. A
//! connection keeps what it was shaken hands with. How bytes are moved is the runtime's.

pub mod acme;
pub mod chain;
pub mod clients;
pub mod date;
pub mod failure;
pub mod fault;
pub mod handshake;
pub mod load;
pub mod look;
pub mod ocsp;
pub mod pem;
pub mod resolver;
pub mod sources;
pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidewire_runtime::tls::config::TlsConfig;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::date::Date;
use self::fault::{Finding, Weight};
use self::load::{Certificate, Loaded, load};
use self::look::Look;
use self::sources::{Item, Sources};

/// TLS of a listener.
pub struct Tls {
    /// Of the listener.
    pub name: String,
    sources: Sources,
    /// How often the files are looked at; `None` is never.
    reload: Option<Duration>,
    current: ArcSwap<Current>,
    /// Asks for the files to be read now.
    asked: Notify,
    pub counts: TlsCounts,
}

/// How often files were read again.
#[derive(Debug, Default)]
pub struct TlsCounts {
    /// Swapped in.
    pub reloads: AtomicU64,
    /// Refused: what was there stays.
    pub failed_reloads: AtomicU64,
}

/// What handshakes are made with now.
struct Current {
    config: TlsConfig,
    certificates: Vec<Certificate>,
    /// At the files, before they were read.
    look: Look,
}

impl Tls {
    /// Reads the files for the first time. Nothing but findings when there is an error among them.
    pub fn load(
        name: &str,
        sources: Sources,
        reload: Duration,
        now: Date,
    ) -> (Option<Self>, Vec<Finding>) {
        let look = Look::at(sources.paths());
        let (loaded, findings) = load(&sources, now);
        let current = loaded.and_then(|loaded| Current::of(&loaded, &sources, look));
        let tls = current.map(|current| Self {
            name: name.to_owned(),
            sources,
            reload: (!reload.is_zero()).then_some(reload),
            current: ArcSwap::from_pointee(current),
            asked: Notify::new(),
            counts: TlsCounts::default(),
        });
        (tls, findings)
    }

    /// What the next handshake is made with.
    pub fn config(&self) -> TlsConfig {
        self.current.load().config.clone()
    }

    /// Has the files read again, whether they look changed or not.
    pub fn ask_for_reload(&self) {
        self.asked.notify_one();
    }

    /// The certificates that are served: what each is called in the configuration, and until when
    /// it is valid.
    pub fn expiries(&self) -> Vec<(&str, Date)> {
        let current = self.current.load();
        let files = self.sources.certificates.iter().map(|files| files.cert.name.as_str());
        let files = files.zip(current.certificates.iter().map(|one| one.leaf.not_after));
        let acme = self.sources.acme.iter();
        let acme = acme.filter_map(|one| Some((one.names()[0].as_str(), one.not_after()?)));
        files.chain(acme).collect()
    }

    /// Reads the files and swaps them in, or says what is wrong with them.
    fn reload(&self, now: Date) {
        let look = Look::at(self.sources.paths());
        let (loaded, findings) = load(&self.sources, now);
        let before = self.current.load();
        let loaded = loaded.filter(|loaded| !self.expires_now(loaded, &before, now));
        let next = loaded.and_then(|loaded| Current::of(&loaded, &self.sources, look));
        self.report(&findings);
        match next {
            Some(next) => {
                self.current.store(Arc::new(next));
                self.counts.reloads.fetch_add(1, Ordering::Relaxed);
                self.announce(now);
            }
            None => {
                self.counts.failed_reloads.fetch_add(1, Ordering::Relaxed);
                error!(
                    listener = self.name,
                    "TLS: what was read is not used; what was in use stays"
                );
            }
        }
    }

    /// Whether a certificate that is valid would give way to one that has expired.
    fn expires_now(&self, loaded: &Loaded, before: &Current, now: Date) -> bool {
        let pairs = loaded.certificates.iter().zip(&before.certificates);
        let has_expired = |one: &Certificate| one.leaf.not_after < now;
        pairs.into_iter().any(|(new, old)| has_expired(new) && !has_expired(old))
    }

    fn report(&self, findings: &[Finding]) {
        for Finding { item, fault } in findings {
            let file = self.sources.file(*item).path.display();
            match fault.weight() {
                Weight::Error => error!(listener = self.name, "TLS: `{file}` {fault}"),
                Weight::Warning => warn!(listener = self.name, "TLS: `{file}` {fault}"),
            }
        }
    }

    /// A line for each certificate that is served.
    fn announce(&self, now: Date) {
        let current = self.current.load();
        for (index, Certificate { leaf, staple }) in current.certificates.iter().enumerate() {
            let (names, expires) = (leaf.names.join(", "), leaf.not_after);
            let file = &self.sources.file(Item::Cert(index)).name;
            let (listener, staple) = (&self.name, staple.is_some().then_some("ocsp"));
            if expires < now {
                error!(listener, file, names, %expires, staple, "TLS certificate: expired");
            } else {
                info!(listener, file, names, %expires, staple, "TLS certificate");
            }
        }
    }

    /// A line for each certificate that ends soon, or has.
    fn warn_of_expiry(&self, now: Date) {
        for (file, expires) in self.expiries() {
            let (listener, days) = (&self.name, expires.days_from(now));
            if expires < now {
                error!(listener, file, %expires, "TLS certificate: expired, clients refuse it");
            } else if days < EXPIRY_WARNING_DAYS {
                warn!(listener, file, %expires, days, "TLS certificate: expires soon");
            }
        }
    }

    /// Whether a staple that is sent is not good any more.
    fn has_old_staple(&self, now: Date) -> bool {
        let current = self.current.load();
        let ends = current.certificates.iter().filter_map(|one| one.staple?.next_update);
        ends.into_iter().any(|end| end < now)
    }
}

impl Current {
    fn of(loaded: &Loaded, sources: &Sources, look: Look) -> Option<Self> {
        match loaded.server_config(sources).and_then(TlsConfig::new) {
            Ok(config) => {
                let certificates = loaded.certificates.clone();
                Some(Self { config, certificates, look })
            }
            Err(error) => {
                error!(%error, "TLS: the library refuses its own defaults");
                None
            }
        }
    }
}

/// Keys are in here: nothing but the name is shown.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A certificate that is renewed by a program is renewed a month before it ends.
const EXPIRY_WARNING_DAYS: i64 = 14;
