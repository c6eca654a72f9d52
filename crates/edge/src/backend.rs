//! A backend: servers that are alike, and how one of them is chosen for a client.
//!
//! ```text
//!   lease ──> sticks to a server that takes it? ──yes──> room? ──yes──> Lease
//!                │ no                                      │ no
//!                v                                         v
//!           who is up, with a weight, and not tried ──> none with room ──> Queue ──> Lease
//!           (backups when nobody else is) ──Balance──> Lease
//! ```

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::tcp_options::TcpOptions;
use tidewire_runtime::units::Period;
use tokio::sync::{Notify, oneshot};

use crate::balance::algorithm::Algorithm;
use crate::balance::key::Key;
use crate::caller::{Caller, Preference};
use crate::choice::{Arrival, Changed, Choice, takes_newcomers};
use crate::connector::Connector;
use crate::discovery::config::DiscoveryConfig;
use crate::ejection::{EjectConfig, Ejection};
use crate::health::CheckConfig;
use crate::queue::{Given, Queue, Served, Ticket, Wish};
use crate::rebalance::{Moving, OnDown, RebalanceConfig};
use crate::send_proxy::SendProxy;
use crate::server::{Server, ServerConfig, ServerId};
use crate::server_state::Health;
use crate::server_tls::ServerTls;
use crate::server_tls::config::ServerTlsConfig;
use crate::source_range::SourceRange;
use crate::stick::{Stick, StickConfig};
use crate::timeout::{BackendTimeouts, Timeouts};

/// Servers that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Its name, by which routes refer to it; unique.
    pub name: String,
    /// How a server is chosen for a client.
    #[serde(default)]
    pub balance: Algorithm,
    /// For algorithms that send the same key to the same server: how many clients a server may have,
    /// in percent of its share, before its keys go to the next one. Without it, keys stay where they
    /// are, however many come for one.
    pub hash_balance_factor: Option<u16>,
    /// Its servers; at least one, unless `discovery` finds them.
    #[serde(default)]
    pub server: Vec<ServerConfig>,
    /// Where more servers are found, and which of them are gone again.
    pub discovery: Option<DiscoveryConfig>,
    /// Speak TLS to the servers. Without it, what is said can be read on the way.
    pub tls: Option<ServerTlsConfig>,
    /// Tell servers where clients are, by a header of the PROXY protocol of this version in front of
    /// each connection, before TLS. Servers must be set to take it, and from this edge alone.
    /// Connections are not shared by clients then.
    pub send_proxy: Option<SendProxy>,
    /// The addresses of this machine that servers are connected to from, in turns; the kernel's
    /// choice when it is empty. Each is some 28,000 connections to a server. One without a port that
    /// is free is passed over.
    #[serde(default)]
    pub source: Vec<SourceRange>,
    /// When the kernel gives up a connection whose server is gone without a word.
    #[serde(default)]
    pub tcp: TcpOptions,
    /// How clients get the server again that they had before.
    #[serde(default)]
    pub stick: StickConfig,
    /// How servers that have `check = true` are probed.
    #[serde(default)]
    pub check: CheckConfig,
    /// How often a connection that failed is tried again, each time on another server if there is
    /// one.
    #[serde(default = "three")]
    pub retries: u32,
    /// Most clients that wait for a server with room; one more gets a 503 at once.
    #[serde(default = "thousand")]
    pub queue: u32,
    /// What happens to the WebSockets of a server that is down or in maintenance.
    #[serde(default)]
    pub on_down: OnDown,
    pub rebalance: Option<RebalanceConfig>,
    pub eject: Option<EjectConfig>,
    /// How long the weight of a server grows, from next to nothing, after it has come up again.
    pub slowstart: Option<Period>,
    /// Most WebSockets to all of its servers at a time; one more gets a 503. 0 is no bound.
    #[serde(default)]
    pub max_tunnels: u32,
    /// Timeouts in place of those in `[timeout]`.
    #[serde(default)]
    pub timeout: BackendTimeouts,
}

impl BackendConfig {
    /// Has the paths of Unix sockets that are relative start from `dir`.
    pub fn start_from(&mut self, dir: &Path) {
        self.server.iter_mut().for_each(|server| server.start_from(dir));
    }
}

fn three() -> u32 {
    3
}

fn thousand() -> u32 {
    1000
}

/// A backend at run time, shared by all workers.
pub struct Backend {
    pub name: String,
    /// Its place in the configuration.
    pub index: usize,
    pub timeouts: Timeouts,
    pub check: CheckConfig,
    /// How TLS is spoken to the servers.
    pub tls: Option<ServerTls>,
    pub connector: Connector,
    pub retries: u32,
    pub moving: Moving,
    pub ejection: Option<Ejection>,
    /// What of a request decides which server it gets.
    pub key: Option<Key>,
    pub stick: Stick,
    pub counts: BackendCounts,
    slowstart: Duration,
    max_tunnels: Option<u64>,
    tunnels: AtomicU64,
    /// Those in the queue of `choice`, for who does not hold its lock.
    queued: AtomicU32,
    choice: Mutex<Choice>,
    /// Told when servers come or go.
    pub(crate) changed: Notify,
}

/// What is counted about a backend, once for each client.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// Clients that have waited for a server with room.
    pub waits: AtomicU64,
    /// Clients that went on to another server, as theirs could not be connected to.
    pub redispatches: AtomicU64,
    /// Clients that could not get the server that they stick to.
    pub unstuck: AtomicU64,
}

/// A client's claim on a server, counted until it is dropped.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    server: Arc<Server>,
}

/// The claim of a WebSocket on a server.
#[derive(Debug)]
pub struct TunnelLease(Lease);

/// The claim of a handshake on a WebSocket, under `max_tunnels`.
#[derive(Debug)]
pub struct TunnelPlace(Arc<Backend>);

/// Why no server could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    #[error("no server is up")]
    NoneUp,
    #[error("every server is full and so is the queue")]
    QueueFull,
    #[error("no server had room in time")]
    QueueTimeout,
    #[error("there are as many WebSockets as there may be")]
    TunnelsFull,
}

impl Backend {
    pub fn new(index: usize, config: &BackendConfig, timeouts: &Timeouts) -> Self {
        let slowstart = config.slowstart.map_or(Duration::ZERO, |it| it.0);
        let stick = Stick::new(&config.stick, &config.name);
        let choice = Choice::new(config, slowstart, &stick);
        let timeouts = timeouts.with_backend(&config.timeout);
        Self {
            name: config.name.clone(),
            index,
            check: config.check.clone(),
            tls: None,
            connector: Connector::new(config, &timeouts),
            timeouts,
            retries: config.retries,
            moving: Moving::new(config.rebalance.clone(), config.on_down),
            ejection: config.eject.clone().map(Ejection::new),
            key: match &config.balance {
                Algorithm::Hash(key) => Some(key.clone()),
                _ => None,
            },
            stick,
            counts: BackendCounts::default(),
            slowstart,
            max_tunnels: (config.max_tunnels > 0).then_some(u64::from(config.max_tunnels)),
            tunnels: AtomicU64::new(0),
            queued: AtomicU32::new(0),
            choice: Mutex::new(choice),
            changed: Notify::new(),
        }
    }

    /// The servers that there are now.
    pub fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(self.choice().servers())
    }

    /// Has these servers from now on. One that has the name and the address that it had stays, with
    /// its clients and counters and all that was found out and set; what is written about it
    /// otherwise is taken over. One that comes starts slowly, and after its first good probe.
    pub fn set_servers(self: &Arc<Self>, configs: &[ServerConfig]) -> Changed {
        self.have_servers(configs, Arrival::Later)
    }

    /// Has these servers from the start on: they are taken for as well and warm as those that were
    /// there before the edge.
    pub fn start_with_servers(self: &Arc<Self>, configs: &[ServerConfig]) -> Changed {
        self.have_servers(configs, Arrival::Start)
    }

    fn have_servers(self: &Arc<Self>, configs: &[ServerConfig], arrival: Arrival) -> Changed {
        let changed = self.choice().set_servers(configs, arrival, self.slowstart, &self.stick);
        for (server, taken_over) in &changed.kept {
            if let Some(operator) = taken_over.operator {
                self.set_operator(server, operator);
            }
            if taken_over.is_unchecked {
                self.learn(server, |facts| facts.health = Health::Up);
            }
        }
        self.end_needless_ejections();
        self.look_again();
        self.changed.notify_waiters();
        changed
    }

    /// Chooses a server for `caller`, rather one that is not among `tried`; waits for room within
    /// the `queue` timeout.
    pub async fn lease(
        self: &Arc<Self>,
        caller: &Caller,
        tried: &[ServerId],
    ) -> Result<Lease, NoServer> {
        let mut place = match self.lease_or_place(caller.preference, tried)? {
            Entered::Lease(lease) => return Ok(lease),
            Entered::Place(place) => place,
        };
        self.counts.waits.fetch_add(1, Ordering::Relaxed);
        tokio::time::timeout(self.timeouts.queue.0, &mut place.given)
            .await
            .map_or(Err(NoServer::QueueTimeout), |given| given.unwrap_or(Err(NoServer::NoneUp)))
    }

    /// The place of one more WebSocket.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn enter_tunnel(self: &Arc<Self>) -> Result<TunnelPlace, NoServer> {
        let before = self.tunnels.fetch_add(1, Ordering::Relaxed);
        let place = TunnelPlace(Arc::clone(self));
        match self.max_tunnels {
            Some(most) if before >= most => Err(NoServer::TunnelsFull),
            _ => Ok(place),
        }
    }

    /// WebSockets, and handshakes for one.
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Clients that wait for a server with room.
    pub fn queued(&self) -> u32 {
        self.queued.load(Ordering::SeqCst)
    }

    pub fn has_up(&self) -> bool {
        self.servers().iter().any(|server| takes_newcomers(server))
    }

    /// The server whose token this is.
    pub fn server_of(&self, token: &[u8]) -> Option<ServerId> {
        self.choice().server_of(token)
    }

    /// Has those who wait looked after: to be called when the state of a server has changed, or its
    /// weight.
    pub fn look_again(self: &Arc<Self>) {
        if self.queued() > 0 {
            let mut choice = self.choice();
            let served = self.serve(&mut choice);
            drop(choice);
            drop(served);
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease_or_place(
        self: &Arc<Self>,
        preference: Preference,
        tried: &[ServerId],
    ) -> Result<Entered, NoServer> {
        let mut choice = self.choice();
        // Who comes while others wait goes behind them.
        let served = self.serve(&mut choice);
        let entered = self.enter(&mut choice, preference, tried);
        drop(choice);
        drop(served);
        entered
    }

    fn enter(
        self: &Arc<Self>,
        choice: &mut Choice,
        preference: Preference,
        tried: &[ServerId],
    ) -> Result<Entered, NoServer> {
        if let Some(server) = choice.take(&preference, tried) {
            self.count_stuck(&server, &preference);
            return Ok(Entered::Lease(self.leased(server)));
        }
        if !choice.can_serve(&preference) {
            return Err(NoServer::NoneUp);
        }
        if choice.queue.is_full() {
            return Err(NoServer::QueueFull);
        }
        // A lease that ends is first counted out of its server, and then looks whether anybody
        // waits; this is the other way round, so one of the two sees the other.
        self.queued.fetch_add(1, Ordering::SeqCst);
        if let Some(server) = choice.take(&preference, tried) {
            self.queued.fetch_sub(1, Ordering::SeqCst);
            self.count_stuck(&server, &preference);
            return Ok(Entered::Lease(self.leased(server)));
        }
        let wish = Wish { preference, tried: tried.to_vec() };
        let (ticket, given) = choice.queue.enter(wish);
        Ok(Entered::Place(Place { backend: Arc::clone(self), ticket, given }))
    }

    /// Gives the room that there is to those who wait. What is returned is dropped after the lock.
    #[must_use]
    fn serve(self: &Arc<Self>, choice: &mut Choice) -> Served {
        if choice.queue.is_empty() {
            return Served::default();
        }
        let mut queue = std::mem::replace(&mut choice.queue, Queue::new(0));
        // Once somebody who would take any server has got none, nobody else like that will.
        let mut is_room = true;
        let served = queue.serve(|wish| {
            let takes_any = wish.preference.stuck.is_none() && wish.tried.is_empty();
            if takes_any && !is_room {
                return None;
            }
            match choice.take(&wish.preference, &wish.tried) {
                Some(server) => {
                    self.count_stuck(&server, &wish.preference);
                    Some(Ok(self.leased(server)))
                }
                None if !choice.can_serve(&wish.preference) => Some(Err(NoServer::NoneUp)),
                None => {
                    is_room &= !takes_any;
                    None
                }
            }
        });
        choice.queue = queue;
        self.queued.fetch_sub(served.count, Ordering::SeqCst);
        served
    }

    fn leased(self: &Arc<Self>, server: Arc<Server>) -> Lease {
        Lease { backend: Arc::clone(self), server }
    }

    fn count_stuck(&self, server: &Server, preference: &Preference) {
        match preference.stuck {
            Some(stuck) if stuck == server.id => &server.counts.stuck,
            Some(_) => &self.counts.unstuck,
            None => return,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    fn leave_queue(&self, ticket: Ticket) {
        if self.choice().queue.leave(ticket) {
            self.queued.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).finish_non_exhaustive()
    }
}

enum Entered {
    Lease(Lease),
    Place(Place),
}

/// A client's place in the queue, which it leaves by dropping it.
struct Place {
    backend: Arc<Backend>,
    ticket: Ticket,
    given: oneshot::Receiver<Given>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backend.leave_queue(self.ticket);
    }
}

impl Lease {
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server().give_back();
        self.backend.look_again();
    }
}

impl TunnelPlace {
    /// The handshake was a success: its server has a WebSocket more.
    pub fn hold(self, lease: Lease) -> TunnelLease {
        lease.server.tunnels.fetch_add(1, Ordering::Relaxed);
        // Counted further, by the lease.
        self.0.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelLease(lease)
    }
}

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for TunnelLease {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.0
    }
}

impl Drop for TunnelLease {
    fn drop(&mut self) {
        self.0.server.tunnels.fetch_sub(1, Ordering::Relaxed);
        self.0.backend.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
