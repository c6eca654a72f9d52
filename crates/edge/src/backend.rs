//! A backend: servers that are alike, and how one of them is chosen for a client.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::balance::{Algorithm, Balance};
use crate::health::CheckConfig;
use crate::server::{Server, ServerConfig};
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
    pub servers: Vec<Arc<Server>>,
    pub timeouts: Timeouts,
    pub check: CheckConfig,
    /// By index: whether the server is probed.
    pub is_checked: Vec<bool>,
    pub retries: u32,
    balance: Mutex<Box<dyn Balance>>,
    queue: Queue,
}

/// A client's claim on a server, counted until it is dropped.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    index: u32,
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
        let weights = config.server.iter().map(|server| u32::from(server.weight)).collect();
        Self {
            name: config.name.clone(),
            index,
            servers: config.server.iter().map(|server| Arc::new(Server::new(server))).collect(),
            timeouts: timeouts.with_backend(&config.timeout),
            check: config.check.clone(),
            is_checked: config.server.iter().map(|server| server.check).collect(),
            retries: config.retries,
            balance: Mutex::new(config.balance.build(weights)),
            queue: Queue { most: config.queue, waiting: AtomicU32::new(0), room: Notify::new() },
        }
    }

    /// Chooses a server, rather one that is not among `tried`; waits for room within the `queue`
    /// timeout.
    pub async fn lease(self: &Arc<Self>, tried: &[usize]) -> Result<Lease, NoServer> {
        // Who comes while others wait goes behind them.
        if self.queue.waiting() == 0
            && let Some(lease) = self.try_lease(tried)
        {
            return Ok(lease);
        }
        if !self.has_up() {
            return Err(NoServer::NoneUp);
        }
        let _place = self.queue.enter().ok_or(NoServer::QueueFull)?;
        tokio::time::timeout(self.timeouts.queue.0, self.wait_for_room(tried))
            .await
            .unwrap_or(Err(NoServer::QueueTimeout))
    }

    /// Clients that wait for a server with room.
    pub fn queued(&self) -> u32 {
        self.queue.waiting()
    }

    pub fn has_up(&self) -> bool {
        self.servers.iter().any(|server| server.is_up() && server.weight > 0)
    }

    /// Sets whether a server is up; true when that is a change. Who waits looks again.
    pub fn set_up(&self, index: usize, is_up: bool) -> bool {
        let is_change = self.servers[index].set_up(is_up);
        if is_change {
            self.queue.room.notify_waiters();
        }
        is_change
    }

    async fn wait_for_room(self: &Arc<Self>, tried: &[usize]) -> Result<Lease, NoServer> {
        loop {
            let room = self.queue.room.notified();
            if let Some(lease) = self.try_lease(tried) {
                return Ok(lease);
            }
            if !self.has_up() {
                return Err(NoServer::NoneUp);
            }
            room.await;
        }
    }

    fn try_lease(self: &Arc<Self>, tried: &[usize]) -> Option<Lease> {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = |index: usize| {
            let server = &self.servers[index];
            server.is_up() && server.has_room()
        };
        let index = balance
            .choose(&|index| is_usable(index) && !tried.contains(&index))
            .or_else(|| balance.choose(&is_usable))?;
        // Still under the lock: two clients must not take the last room of a server.
        self.servers[index].take();
        Some(Lease { backend: Arc::clone(self), index: index as u32 })
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

    pub fn server(&self) -> &Server {
        &self.backend.servers[self.index()]
    }

    /// The server's place in its backend.
    pub fn index(&self) -> usize {
        self.index as usize
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

    fn backend(servers: &[(&str, u32)], queue: u32) -> Arc<Backend> {
        let server = |&(name, maxconn): &(&str, u32)| ServerConfig {
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
            check: false,
            maxconn,
        };
        let config = BackendConfig {
            name: "nodes".into(),
            balance: Algorithm::Roundrobin,
            server: servers.iter().map(server).collect(),
            check: CheckConfig::default(),
            retries: 3,
            queue,
            timeout: BackendTimeouts::default(),
        };
        Arc::new(Backend::new(0, &config, &Timeouts::default()))
    }

    #[tokio::test]
    async fn leases_take_turns_and_pass_over_what_is_down_or_tried() {
        let backend = backend(&[("a", 0), ("b", 0), ("c", 0)], 0);
        let name = async |tried: &[usize]| {
            backend.lease(tried).await.map(|lease| lease.server().name.clone())
        };
        assert_eq!(name(&[]).await.unwrap(), "a");
        assert_eq!(name(&[1]).await.unwrap(), "c");
        backend.set_up(0, false);
        backend.set_up(2, false);
        assert_eq!(name(&[]).await.unwrap(), "b");
        assert_eq!(name(&[1]).await.unwrap(), "b");
        backend.set_up(1, false);
        assert_eq!(name(&[]).await.unwrap_err(), NoServer::NoneUp);
    }

    #[tokio::test]
    async fn a_lease_is_counted_until_it_is_dropped() {
        let backend = backend(&[("a", 0)], 0);
        let lease = backend.lease(&[]).await.unwrap();
        assert_eq!(backend.servers[0].current(), 1);
        drop(lease);
        assert_eq!(backend.servers[0].current(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_backend_queues_up_to_its_bound_and_its_timeout() {
        let backend = backend(&[("a", 1)], 1);
        let held = backend.lease(&[]).await.unwrap();
        let waiting = tokio::spawn({
            let backend = Arc::clone(&backend);
            async move { backend.lease(&[]).await.map(|lease| lease.index()) }
        });
        while backend.queued() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(backend.lease(&[]).await.unwrap_err(), NoServer::QueueFull);
        assert_eq!(backend.queued(), 1, "who is refused leaves the queue as it was");
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(0));
        let _held = backend.lease(&[]).await.unwrap();
        assert_eq!(backend.lease(&[]).await.unwrap_err(), NoServer::QueueTimeout);
    }
}
