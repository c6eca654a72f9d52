//! A backend: servers that are alike, and how one of them is chosen for a client.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::balance::{Algorithm, Balance};
use crate::caller::Caller;
use crate::health::CheckConfig;
use crate::rebalance::{Moving, OnDown, RebalanceConfig};
use crate::server::{Server, ServerConfig, ServerId};
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
    /// Its servers, at least one.
    pub server: Vec<ServerConfig>,
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
    /// Timeouts in place of those in `[timeout]`.
    #[serde(default)]
    pub timeout: BackendTimeouts,
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
    pub retries: u32,
    pub moving: Moving,
    choice: Mutex<Choice>,
    queue: Queue,
}

/// The servers that there are now, and how one of them is chosen.
struct Choice {
    servers: Arc<[Arc<Server>]>,
    balance: Box<dyn Balance>,
}

/// A client's claim on a server, counted until it is dropped.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    server: Arc<Server>,
}

/// Why no server could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    #[error("no server is up")]
    NoneUp,
    #[error("every server is full and so is the queue")]
    QueueFull,
    #[error("no server had room in time")]
    QueueTimeout,
}

impl Backend {
    pub fn new(index: usize, config: &BackendConfig, timeouts: &Timeouts) -> Self {
        let servers: Arc<[_]> =
            config.server.iter().map(|server| Arc::new(Server::new(server))).collect();
        let balance = config.balance.build(servers.iter().map(|server| server.weight).collect());
        Self {
            name: config.name.clone(),
            index,
            timeouts: timeouts.with_backend(&config.timeout),
            check: config.check.clone(),
            retries: config.retries,
            moving: Moving::new(config.rebalance.clone(), config.on_down),
            choice: Mutex::new(Choice { servers, balance }),
            queue: Queue { most: config.queue, waiting: AtomicU32::new(0), room: Notify::new() },
        }
    }

    /// The servers that there are now.
    pub fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.choice().servers)
    }

    /// Chooses a server for `caller`, rather one that is not among `tried`; waits for room within
    /// the `queue` timeout.
    pub async fn lease(
        self: &Arc<Self>,
        caller: &Caller,
        tried: &[ServerId],
    ) -> Result<Lease, NoServer> {
        // Who comes while others wait goes behind them.
        if self.queue.waiting() == 0
            && let Some(lease) = self.try_lease(caller, tried)
        {
            return Ok(lease);
        }
        if !self.has_up() {
            return Err(NoServer::NoneUp);
        }
        let _place = self.queue.enter().ok_or(NoServer::QueueFull)?;
        tokio::time::timeout(self.timeouts.queue.0, self.wait_for_room(caller, tried))
            .await
            .unwrap_or(Err(NoServer::QueueTimeout))
    }

    /// Clients that wait for a server with room.
    pub fn queued(&self) -> u32 {
        self.queue.waiting()
    }

    pub fn has_up(&self) -> bool {
        self.servers().iter().any(|server| server.is_up() && server.weight > 0)
    }

    /// Sets whether a server is up; true when that is a change. Who waits looks again.
    pub fn set_up(&self, server: &Server, is_up: bool) -> bool {
        let is_change = server.set_up(is_up);
        if is_change {
            self.look_again();
        }
        is_change
    }

    /// Has who waits for a server look again.
    pub(crate) fn look_again(&self) {
        self.queue.room.notify_waiters();
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for_room(
        self: &Arc<Self>,
        caller: &Caller,
        tried: &[ServerId],
    ) -> Result<Lease, NoServer> {
        loop {
            let room = self.queue.room.notified();
            if let Some(lease) = self.try_lease(caller, tried) {
                return Ok(lease);
            }
            if !self.has_up() {
                return Err(NoServer::NoneUp);
            }
            room.await;
        }
    }

    fn try_lease(self: &Arc<Self>, _caller: &Caller, tried: &[ServerId]) -> Option<Lease> {
        let mut choice = self.choice();
        let Choice { servers, balance } = &mut *choice;
        let is_usable = |index: usize| servers[index].is_up() && servers[index].has_room();
        let index = balance
            .choose(&|index| is_usable(index) && !tried.contains(&servers[index].id))
            .or_else(|| balance.choose(&is_usable))?;
        let server = Arc::clone(&servers[index]);
        // Still under the lock: two clients must not take the last room of a server.
        server.take();
        Some(Lease { backend: Arc::clone(self), server })
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).finish_non_exhaustive()
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
        if self.backend.queue.waiting() > 0 {
            self.backend.queue.room.notify_one();
        }
    }
}

/// Clients that wait for room.
struct Queue {
    most: u32,
    waiting: AtomicU32,
    room: Notify,
}

/// A place in the queue, given back by dropping it.
struct Place<'q>(&'q Queue);

impl Queue {
    fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_state::Operator;

    fn backend(servers: &[(&str, u32)], queue: u32) -> Arc<Backend> {
        let server = |&(name, maxconn): &(&str, u32)| ServerConfig {
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
            check: false,
            check_address: None,
            state: Operator::Ready,
            maxconn,
        };
        let config = BackendConfig {
            name: "nodes".into(),
            balance: Algorithm::Roundrobin,
            server: servers.iter().map(server).collect(),
            check: CheckConfig::default(),
            retries: 3,
            on_down: OnDown::Keep,
            rebalance: None,
            queue,
            timeout: BackendTimeouts::default(),
        };
        Arc::new(Backend::new(0, &config, &Timeouts::default()))
    }

    async fn lease(backend: &Arc<Backend>, tried: &[ServerId]) -> Result<Lease, NoServer> {
        backend.lease(&Caller::edge(), tried).await
    }

    #[tokio::test]
    async fn leases_take_turns_and_pass_over_what_is_down_or_tried() {
        let backend = backend(&[("a", 0), ("b", 0), ("c", 0)], 0);
        let servers = backend.servers();
        let [a, b, c] = &*servers else { panic!("there are three") };
        let name = async |tried: &[ServerId]| {
            lease(&backend, tried).await.map(|lease| lease.server().name.clone())
        };
        assert_eq!(name(&[]).await.unwrap(), "a");
        assert_eq!(name(&[b.id]).await.unwrap(), "c");
        backend.set_up(a, false);
        backend.set_up(c, false);
        assert_eq!(name(&[]).await.unwrap(), "b");
        assert_eq!(name(&[b.id]).await.unwrap(), "b");
        backend.set_up(b, false);
        assert_eq!(name(&[]).await.unwrap_err(), NoServer::NoneUp);
    }

    #[tokio::test]
    async fn a_lease_is_counted_until_it_is_dropped() {
        let backend = backend(&[("a", 0)], 0);
        let lease = lease(&backend, &[]).await.unwrap();
        assert_eq!(backend.servers()[0].current(), 1);
        drop(lease);
        assert_eq!(backend.servers()[0].current(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_backend_queues_up_to_its_bound_and_its_timeout() {
        let backend = backend(&[("a", 1)], 1);
        let held = lease(&backend, &[]).await.unwrap();
        let waiting = tokio::spawn({
            let backend = Arc::clone(&backend);
            async move { lease(&backend, &[]).await.map(drop) }
        });
        while backend.queued() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(lease(&backend, &[]).await.unwrap_err(), NoServer::QueueFull);
        assert_eq!(backend.queued(), 1, "who is refused leaves the queue as it was");
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        let _held = lease(&backend, &[]).await.unwrap();
        assert_eq!(lease(&backend, &[]).await.unwrap_err(), NoServer::QueueTimeout);
    }
}
