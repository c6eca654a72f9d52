//! A server of a backend: where it is, whether it is up, what it carries.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::groups::Members;

use crate::address::{Address, HostPort};
use crate::server_state::{Operator, Status};
use crate::server_tls::config::CertificateName;
use crate::server_tls::report::TlsCounts;
use crate::weight::Weight;

/// A server, as a backend lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its name in logs, metrics and answers; unique in its backend.
    pub name: String,
    /// Where it listens: `host:port`, an address or a name that is looked up at each connection, and
    /// of whose addresses the first that answers counts; or `unix:/run/app.sock`, a Unix socket,
    /// whose file this process has to be allowed to write to.
    pub address: Address,
    /// Its share of new clients against that of the others, 0 to 256; 0 gets none but those that
    /// stick to it.
    #[serde(default = "one")]
    pub weight: u16,
    /// The name that is asked for (SNI) and that its certificate must have, where TLS is spoken to
    /// it. By default that of the backend's `tls`, or else its host.
    pub server_name: Option<CertificateName>,
    /// The name that it was found by, where servers are found.
    #[serde(skip)]
    pub found_by: Option<String>,
    /// Whether it is probed, as the backend's `check` says. A server that is not is taken for up.
    #[serde(default)]
    pub check: bool,
    /// Where it is probed, when not at `address`: such as the admin listener of a Tidewire node.
    pub check_address: Option<Address>,
    /// Whether it takes clients at the start; `tidewire servers set` changes it at run time.
    #[serde(default)]
    pub state: Operator,
    /// Most clients (requests and tunnels) at a time; more wait in the queue. 0 is no bound.
    #[serde(default)]
    pub maxconn: u32,
    /// Whether it gets clients only while no server that is not a backup is up.
    #[serde(default)]
    pub backup: bool,
}

impl ServerConfig {
    /// Where it listens, and where it is probed.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        [Some(&self.address), self.check_address.as_ref()].into_iter().flatten()
    }

    /// Whether it says itself, in its `server_name` or by its host, which name its certificate has.
    pub fn has_certificate_name(&self) -> bool {
        let host = || self.address.tcp().map(HostPort::host);
        self.server_name.is_some() || host().is_some_and(|host| ServerName::try_from(host).is_ok())
    }

    /// Has the paths of Unix sockets that are relative start from `dir`.
    pub fn start_from(&mut self, dir: &Path) {
        [Some(&mut self.address), self.check_address.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|address| address.start_from(dir));
    }
}

fn one() -> u16 {
    1
}

/// Whether something can be called so. Names stand in logs and as labels of metrics: no spaces, no
/// quotes, not too long.
pub fn is_name(text: &str) -> bool {
    let is_right = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(is_right)
}

pub const NAME_BYTES_MAX: usize = 64;

/// A server at run time, shared by all workers and the probes. What makes it this server is its name
/// and its address; all else that is written about it may be written anew while it runs.
#[derive(Debug)]
pub struct Server {
    /// Of this one and no other that has been or will be.
    pub id: ServerId,
    pub name: String,
    pub address: Address,
    pub weight: Weight,
    /// Whether it takes clients, and why not.
    pub status: Status,
    /// Its tunnels that were not told to go, where clients are moved.
    pub members: Arc<Members>,
    current: AtomicU64,
    /// WebSockets among its clients.
    pub tunnels: AtomicU64,
    pub counts: ServerCounts,
    /// Connections to it that have had their turn among the addresses that they are made from.
    pub source_turns: AtomicUsize,
    /// What is written about it now. Those that each client asks for are beside it.
    config: ArcSwap<ServerConfig>,
    is_backup: AtomicBool,
    maxconn: AtomicU32,
}

/// What of a new configuration others have to see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// What the operator is to want of it, where something else is written than before.
    pub operator: Option<Operator>,
    /// It is not probed, whatever probes have found.
    pub is_unchecked: bool,
}

/// Tells a server from all others of the process, also from one of the same name that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(u32);

impl ServerId {
    /// A number that no other server has.
    pub fn number(self) -> u32 {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }

    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is counted about a server. Once per client or probe, so shared counters will do.
#[derive(Debug, Default)]
pub struct ServerCounts {
    /// Clients given to the server.
    pub leases: AtomicU64,
    /// Of those, the ones that it was given since they stick to it.
    pub stuck: AtomicU64,
    /// Connections to it that could not be established.
    pub connect_errors: AtomicU64,
    /// Answers of it that were none, or not HTTP, or no valid 101.
    pub response_errors: AtomicU64,
    /// Probes that failed.
    pub check_failures: AtomicU64,
    /// Times it went from up to down.
    pub check_downs: AtomicU64,
    /// Probes that are over, and how long they have taken together, in microseconds.
    pub checks: AtomicU64,
    pub check_microseconds: AtomicU64,
    /// Times it was ejected.
    pub ejections: AtomicU64,
    /// Where TLS is spoken to it.
    pub tls: TlsCounts,
}

impl Server {
    /// Its weight grows over `slowstart` when it comes up.
    pub fn new(config: &ServerConfig, slowstart: Duration) -> Self {
        Self {
            id: ServerId::next(),
            name: config.name.clone(),
            address: config.address.clone(),
            weight: Weight::new(config.weight, slowstart),
            status: Status::new(config.state),
            members: Arc::default(),
            current: AtomicU64::new(0),
            tunnels: AtomicU64::new(0),
            counts: ServerCounts::default(),
            source_turns: AtomicUsize::new(0),
            config: ArcSwap::from_pointee(config.clone()),
            is_backup: AtomicBool::new(config.backup),
            maxconn: AtomicU32::new(config.maxconn),
        }
    }

    /// Whether this is written about it, and not about another one.
    pub fn is_of(&self, config: &ServerConfig) -> bool {
        self.name == config.name && self.address == config.address
    }

    /// Is as `config` says from now on, which is [of it](Self::is_of); what was set at run time stays
    /// where nothing else is written than before.
    pub fn take_over(&self, config: &ServerConfig) -> TakenOver {
        debug_assert!(self.is_of(config), "{} is not {}", self.name, config.name);
        self.weight.configure(config.weight);
        self.is_backup.store(config.backup, Ordering::Relaxed);
        self.maxconn.store(config.maxconn, Ordering::Relaxed);
        let before = self.config.swap(Arc::new(config.clone()));
        TakenOver {
            operator: (before.state != config.state).then_some(config.state),
            is_unchecked: !config.check,
        }
    }

    /// Whether it is for when no other is up.
    pub fn is_backup(&self) -> bool {
        self.is_backup.load(Ordering::Relaxed)
    }

    /// Whether it is probed.
    pub fn is_checked(&self) -> bool {
        self.config.load().check
    }

    /// Most clients at a time; `None` is no bound.
    pub fn maxconn(&self) -> Option<u64> {
        let most = self.maxconn.load(Ordering::Relaxed);
        (most > 0).then_some(u64::from(most))
    }

    /// Where it is probed, when not at its address.
    pub fn check_address(&self) -> Option<Address> {
        self.config.load().check_address.clone()
    }

    /// The name that its certificate must have, as it is written about this server.
    pub fn written_name(&self) -> Option<ServerName<'static>> {
        self.config.load().server_name.as_ref().map(|name| name.0.clone())
    }

    /// The name that it was found by, or its host. `None` when that is no name of a certificate.
    pub fn found_name(&self) -> Option<ServerName<'static>> {
        let host = || self.address.tcp().map(HostPort::host);
        let config = self.config.load();
        ServerName::try_from(config.found_by.as_deref().or_else(host)?.to_owned()).ok()
    }

    /// Whether a new client may get it.
    pub fn is_up(&self) -> bool {
        self.status.state().takes_new()
    }

    /// Whether a client that sticks to it may get it: one that drains still takes those.
    pub fn takes_stuck(&self) -> bool {
        self.status.state().takes_stuck()
    }

    /// Clients that it carries now: requests and tunnels.
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::SeqCst)
    }

    pub fn has_room(&self) -> bool {
        self.maxconn().is_none_or(|most| self.current() < most)
    }

    pub(crate) fn take(&self) {
        self.current.fetch_add(1, Ordering::SeqCst);
        self.counts.leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self) {
        // Before anybody is looked for who waits: see `Backend::lease`.
        self.current.fetch_sub(1, Ordering::SeqCst);
    }
}
