//! Looks for the servers of a backend for as long as the node runs.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::net::NetError;
use tidewire_auth::kept_file::LOOK_PERIOD;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::config::DiscoveryConfig;
use super::dns::{Answer, Resolver, ServiceName};
use super::file::{Certificates, ServerFile, ServerFileError};
use super::known::Missed;
use super::roster::{Looked, Roster, some};
use crate::backend::{Backend, BackendConfig};

/// How the servers of a backend are found.
#[derive(Debug)]
pub struct Discovery {
    config: DiscoveryConfig,
    source: Source,
}

/// What of a discovery can be seen and asked for while it runs.
#[derive(Debug, Default)]
pub struct DiscoveryView {
    /// Lookups that have found servers.
    pub found: AtomicU64,
    /// Lookups that have found that there are none.
    pub nothing: AtomicU64,
    /// Lookups without an answer, or with one that is of no use.
    pub failed: AtomicU64,
    asked: Notify,
}

#[derive(Debug)]
enum Source {
    Addresses { name: String, port: u16 },
    Service(ServiceName),
    File(Arc<ServerFile>, Looked),
}

/// How much of a lookup was not answered. It is said when it changes, and not for each lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    Nothing,
    Part,
    All,
}

/// Why a lookup has said nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{0}")]
    System(#[from] NetError),
    #[error("{0}")]
    Missed(#[from] Missed),
    #[error("{0}")]
    File(#[from] ServerFileError),
    #[error("reading it went wrong")]
    Lost,
}

impl Discovery {
    /// What `config` says; a file is read now, whose servers show `certificates`. `dir` is where
    /// relative paths start. `None` when it names no source.
    ///
    /// # Errors
    /// When the file cannot be read or something in it is wrong.
    pub fn prepare(
        config: &DiscoveryConfig,
        dir: &Path,
        certificates: Certificates,
    ) -> Result<Option<Self>, ServerFileError> {
        let source = if let Some(address) = &config.dns {
            Source::Addresses { name: address.host().to_owned(), port: address.port() }
        } else if let Some(service) = &config.srv {
            Source::Service(service.clone())
        } else if let Some(path) = &config.file {
            let (file, first) = ServerFile::open(dir.join(path), certificates)?;
            Source::File(Arc::new(file), first)
        } else {
            return Ok(None);
        };
        Ok(Some(Self { config: config.clone(), source }))
    }

    /// How long the first look may take, answered or not.
    pub fn patience(&self) -> Duration {
        // For a service, that of its records and then that of their hosts.
        let questions = if matches!(self.source, Source::Service(_)) { 2 } else { 1 };
        self.config.timeout.0 * questions + TURN_TIME
    }

    /// Looks for the servers of `backend`, and goes on with it for ever. `begun` is told when the
    /// first look is over, whatever it came to.
    pub async fn run(
        self,
        backend: Arc<Backend>,
        listed: BackendConfig,
        view: Arc<DiscoveryView>,
        begun: impl FnOnce(),
    ) {
        let mut looker = Looker {
            roster: Roster::new(self.config.clone(), listed.server),
            config: self.config,
            source: self.source,
            resolver: None,
            backend,
            view,
            lacking: Lacking::Nothing,
            is_start: true,
        };
        let mut pause = looker.begin().await;
        looker.is_start = false;
        begun();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = looker.view.asked.notified() => {}
            }
            pause = looker.look().await;
        }
    }
}

impl DiscoveryView {
    /// Has the servers looked for now.
    pub fn ask(&self) {
        self.asked.notify_one();
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Addresses { name, port } => write!(f, "addresses of {name}:{port}"),
            Source::Service(name) => write!(f, "service {name}"),
            Source::File(file, _) => write!(f, "file {}", file.path().display()),
        }
    }
}

/// A discovery under way.
struct Looker {
    config: DiscoveryConfig,
    source: Source,
    resolver: Option<Resolver>,
    roster: Roster,
    backend: Arc<Backend>,
    view: Arc<DiscoveryView>,
    lacking: Lacking,
    /// While the first look is under way.
    is_start: bool,
}

impl Looker {
    /// The first look. How long it is until the next.
    async fn begin(&mut self) -> Duration {
        match &self.source {
            Source::File(_, first) => {
                let first = first.clone();
                self.take(first, None);
                LOOK_PERIOD
            }
            _ => self.look().await,
        }
    }

    /// Looks once. How long it is until the next time.
    async fn look(&mut self) -> Duration {
        let looked = match &self.source {
            Source::File(file, _) => {
                let file = Arc::clone(file);
                // A file system may hang, and the control plane has one thread.
                match spawn_blocking(move || file.changed()).await {
                    Ok(None) => return LOOK_PERIOD,
                    Ok(Some(read)) => {
                        read.map(|looked| Answer { looked, missed: None }).map_err(LookError::from)
                    }
                    Err(_) => Err(LookError::Lost),
                }
            }
            _ => self.ask().await,
        };
        match looked {
            Ok(Answer { looked, missed }) => {
                let pause = self.roster.next_look(&looked);
                self.take(looked, missed);
                pause
            }
            Err(error) => {
                self.fail(&error);
                match self.source {
                    Source::File(..) => LOOK_PERIOD,
                    _ => self.roster.next_try(),
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Answer, LookError> {
        if self.resolver.is_none() {
            let timeout = self.config.timeout.0;
            self.resolver = Some(Resolver::new(self.config.nameservers(), timeout)?);
        }
        let resolver = self.resolver.as_mut().expect("it was made if there was none");
        Ok(match &self.source {
            Source::Addresses { name, port } => resolver.addresses(name, *port).await?,
            Source::Service(name) => resolver.service(name).await?,
            Source::File(..) => Answer { looked: Looked::Nothing, missed: None },
        })
    }

    fn take(&mut self, looked: Looked, missed: Option<Missed>) {
        let is_nothing = looked == Looked::Nothing;
        let count = if is_nothing { &self.view.nothing } else { &self.view.found };
        count.fetch_add(1, Ordering::Relaxed);
        let backend = &self.backend.name;
        let lacking = if missed.is_some() { Lacking::Part } else { Lacking::Nothing };
        if std::mem::replace(&mut self.lacking, lacking) != lacking {
            match missed {
                None => info!(backend, "servers can be looked up again"),
                Some(missed) => warn!(backend, %missed, "some servers cannot be looked up"),
            }
        }
        // Of what the DNS says, what is there twice is one server, and nobody's mistake.
        let is_written = matches!(looked, Looked::Listed(_));
        let change = self.roster.take(looked, Instant::now());
        if is_written && !self.roster.doubles().is_empty() {
            let servers = some(self.roster.doubles());
            warn!(backend, servers, "left out, as others have the names or addresses of these");
        }
        let Some(change) = change else { return };
        // Before it is said, so that it is true by then.
        match self.is_start {
            true => self.backend.start_with_servers(&change.servers),
            false => self.backend.set_servers(&change.servers),
        };
        let servers = change.servers.len();
        if is_nothing {
            warn!(backend, servers, %change, "the name of the servers has no records any more");
        } else {
            info!(backend, servers, %change, "servers have changed");
        }
        if change.left_out > 0 {
            let left_out = change.left_out;
            warn!(backend, left_out, "more servers are found than `discovery.max` lets in");
        }
    }

    fn fail(&mut self, error: &LookError) {
        self.view.failed.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut self.lacking, Lacking::All) != Lacking::All {
            let backend = &self.backend.name;
            error!(backend, %error, "servers are as before: they cannot be looked up");
        }
    }
}

/// What a look takes besides the time for its questions, on a machine that has others to run.
const TURN_TIME: Duration = Duration::from_millis(250);
