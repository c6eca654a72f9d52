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
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;
use tokio::sync::oneshot;

use crate::balance::algorithm::Algorithm;
use crate::balance::key::Key;
use crate::caller::{Caller, Preference};
use crate::choice::{Changed, Choice, takes_newcomers};
use crate::ejection::{EjectConfig, Ejection};
use crate::health::CheckConfig;
use crate::queue::{Given, Queue, Served, Ticket, Wish};
use crate::rebalance::{Moving, OnDown, RebalanceConfig};
use crate::server::{Server, ServerConfig, ServerId};
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
    /// Its servers, at least one.
    pub server: Vec<ServerConfig>,
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
        Self {
            name: config.name.clone(),
            index,
            timeouts: timeouts.with_backend(&config.timeout),
            check: config.check.clone(),
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
        }
    }

    /// The servers that there are now.
    pub fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(self.choice().servers())
    }

    /// Has these servers from now on. One that is as it was stays, with its clients and counters;
    /// of one whose weight alone is new, that is taken over. One that comes starts slowly.
    pub fn set_servers(self: &Arc<Self>, configs: &[ServerConfig]) -> Changed {
        let mut choice = self.choice();
        let changed = choice.set_servers(configs, self.slowstart, &self.stick);
        let served = self.serve(&mut choice);
        drop(choice);
        drop(served);
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

    /// Sets whether a server is up; true when that is a change.
    pub fn set_up(self: &Arc<Self>, server: &Server, is_up: bool) -> bool {
        let is_change = server.set_up(is_up);
        if is_change {
            if is_up {
                server.weight.start_slowly(Instant::now());
            }
            self.look_again();
        }
        is_change
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
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use serde_json::{Value, json};

    use super::*;

    fn servers(servers: Value) -> Vec<ServerConfig> {
        let mut servers = servers;
        for (port, server) in servers.as_array_mut().unwrap().iter_mut().enumerate() {
            let name = server["name"].as_str().unwrap_or_default();
            let address = format!("127.0.0.1:{}", name.bytes().next().unwrap_or(port as u8));
            server["address"] = address.into();
        }
        serde_json::from_value(servers).unwrap()
    }

    fn backend_with(list: Value, more: Value) -> Arc<Backend> {
        let mut config = json!({ "name": "nodes", "server": servers(list) });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = serde_json::from_value(config).unwrap();
        Arc::new(Backend::new(0, &config, &Timeouts::default()))
    }

    fn backend(list: Value) -> Arc<Backend> {
        backend_with(list, json!({}))
    }

    fn abc() -> Value {
        json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }])
    }

    fn server(backend: &Backend, name: &str) -> Arc<Server> {
        let servers = backend.servers();
        Arc::clone(servers.iter().find(|server| server.name == name).expect("it is there"))
    }

    fn stuck_to(server: ServerId) -> Caller {
        let mut caller = Caller::edge();
        caller.preference.stuck = Some(server);
        caller
    }

    /// The answer to a client, if it has one at once.
    fn at_once(
        backend: &Arc<Backend>,
        caller: &Caller,
        tried: &[ServerId],
    ) -> Option<Result<Lease, NoServer>> {
        match pin!(backend.lease(caller, tried)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending => None,
        }
    }

    /// The server of a client that leaves again, or why it has none; `-` when it has to wait.
    fn visit(backend: &Arc<Backend>, caller: &Caller, tried: &[ServerId]) -> String {
        match at_once(backend, caller, tried) {
            Some(Ok(lease)) => lease.server().name.clone(),
            Some(Err(error)) => error.to_string(),
            None => "-".to_owned(),
        }
    }

    fn lease(backend: &Arc<Backend>) -> Lease {
        at_once(backend, &Caller::edge(), &[]).expect("at once").expect("there is room")
    }

    /// A client that waits, in the background.
    fn waits(
        backend: &Arc<Backend>,
        caller: Caller,
    ) -> tokio::task::JoinHandle<Result<Lease, NoServer>> {
        let backend = Arc::clone(backend);
        tokio::spawn(async move { backend.lease(&caller, &[]).await })
    }

    async fn until_queued(backend: &Backend, clients: u32) {
        while backend.queued() != clients {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn leases_take_turns_and_pass_over_what_is_down_or_tried() {
        let backend = backend(abc());
        let [a, b, c] = ["a", "b", "c"].map(|name| server(&backend, name));
        let edge = Caller::edge();
        assert_eq!(visit(&backend, &edge, &[]), "a");
        assert_eq!(visit(&backend, &edge, &[b.id]), "c");
        backend.set_up(&a, false);
        backend.set_up(&c, false);
        assert_eq!(visit(&backend, &edge, &[]), "b");
        assert_eq!(visit(&backend, &edge, &[b.id]), "b", "there is no other");
        backend.set_up(&b, false);
        assert_eq!(visit(&backend, &edge, &[]), NoServer::NoneUp.to_string());
    }

    #[tokio::test]
    async fn a_backup_gets_clients_when_no_other_is_up() {
        let list = json!([{ "name": "a", "maxconn": 1 }, { "name": "b", "backup": true },
                          { "name": "c", "backup": true }, { "name": "z", "weight": 0 }]);
        let backend = backend(list);
        let edge = Caller::edge();
        let a = server(&backend, "a");
        assert_eq!(visit(&backend, &edge, &[]), "a");
        assert_eq!(visit(&backend, &edge, &[a.id]), "b", "the other could not be connected to");
        let held = lease(&backend);
        assert_eq!(visit(&backend, &edge, &[]), "-", "it is full, not down");
        drop(held);
        backend.set_up(&a, false);
        assert_eq!(visit(&backend, &edge, &[]), "c", "all backups take turns");
        assert_eq!(visit(&backend, &edge, &[]), "b");
        backend.set_up(&a, true);
        assert_eq!(visit(&backend, &edge, &[]), "a");
    }

    #[tokio::test]
    async fn a_lease_is_counted_until_it_is_dropped() {
        let backend = backend(json!([{ "name": "a" }]));
        let lease = lease(&backend);
        assert_eq!(backend.servers()[0].current(), 1);
        drop(lease);
        assert_eq!(backend.servers()[0].current(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_backend_queues_up_to_its_bound_and_its_timeout() {
        let backend = backend_with(json!([{ "name": "a", "maxconn": 1 }]), json!({ "queue": 1 }));
        let held = lease(&backend);
        let waiting = waits(&backend, Caller::edge());
        until_queued(&backend, 1).await;
        assert_eq!(visit(&backend, &Caller::edge(), &[]), NoServer::QueueFull.to_string());
        assert_eq!(backend.queued(), 1, "who is refused leaves the queue as it was");
        drop(held);
        let held = waiting.await.unwrap().unwrap();
        let late = backend.lease(&Caller::edge(), &[]).await;
        assert_eq!(late.unwrap_err(), NoServer::QueueTimeout);
        assert_eq!(backend.queued(), 0);
        assert_eq!(backend.counts.waits.load(Ordering::Relaxed), 2);
        drop(held);
        assert_eq!(backend.servers()[0].current(), 0);
    }

    #[tokio::test]
    async fn who_comes_first_is_served_first() {
        let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
        let held = lease(&backend);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut clients = Vec::new();
        for number in 0..5 {
            let (backend, order) = (Arc::clone(&backend), Arc::clone(&order));
            clients.push(tokio::spawn(async move {
                let lease = backend.lease(&Caller::edge(), &[]).await.unwrap();
                order.lock().unwrap().push(number);
                drop(lease);
            }));
            until_queued(held.backend(), number + 1).await;
        }
        // The one in the middle leaves.
        clients[2].abort();
        until_queued(held.backend(), 4).await;
        drop(held);
        for client in clients {
            let _ = client.await;
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
    }

    #[tokio::test]
    async fn whoever_leaves_with_a_lease_in_hand_passes_it_on() {
        let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
        let held = lease(&backend);
        let mut leaver = Box::pin(async { backend.lease(&Caller::edge(), &[]).await });
        assert!(leaver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let next = waits(&backend, Caller::edge());
        until_queued(&backend, 2).await;
        // Given to the first, who is gone before it looks.
        drop(held);
        drop(leaver);
        next.await.unwrap().unwrap();
        assert_eq!(backend.servers()[0].current(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_one_server_does_not_hold_up_the_others() {
        let list = json!([{ "name": "a", "maxconn": 1 }, { "name": "b", "maxconn": 1 }]);
        let backend = backend(list);
        let held = [lease(&backend), lease(&backend)];
        let a = server(&backend, "a");
        let stuck = waits(&backend, stuck_to(a.id));
        until_queued(&backend, 1).await;
        let any = waits(&backend, Caller::edge());
        until_queued(&backend, 2).await;
        let [of_a, of_b] = held;
        drop(of_b);
        assert_eq!(any.await.unwrap().unwrap().server().name, "b");
        assert_eq!(visit(&backend, &Caller::edge(), &[]), "b", "nobody waits for it");
        drop(of_a);
        assert_eq!(stuck.await.unwrap().unwrap().server().name, "a");
    }

    #[tokio::test]
    async fn a_server_that_comes_up_serves_the_queue_and_one_that_goes_down_ends_it() {
        let backend = backend(json!([{ "name": "a", "maxconn": 1 }, { "name": "b" }]));
        let [a, b] = ["a", "b"].map(|name| server(&backend, name));
        backend.set_up(&b, false);
        let held = lease(&backend);
        let waiting = waits(&backend, Caller::edge());
        until_queued(&backend, 1).await;
        backend.set_up(&b, true);
        assert_eq!(waiting.await.unwrap().unwrap().server().name, "b");
        backend.set_up(&b, false);
        let waiting = waits(&backend, Caller::edge());
        until_queued(&backend, 1).await;
        backend.set_up(&a, false);
        assert_eq!(waiting.await.unwrap().unwrap_err(), NoServer::NoneUp);
        drop(held);
    }

    #[tokio::test]
    async fn servers_that_stay_keep_their_clients_and_counters() {
        let backend = backend(abc());
        let held = [lease(&backend), lease(&backend), lease(&backend)];
        let [a, b] = ["a", "b"].map(|name| server(&backend, name));
        let list = json!([{ "name": "d" }, { "name": "b", "weight": 3 }]);
        let changed = backend.set_servers(&servers(list));
        let names = |servers: &[Arc<Server>]| {
            servers.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((names(&changed.added), names(&changed.removed)), ("d".into(), "a c".into()));
        assert!(Arc::ptr_eq(&b, &server(&backend, "b")));
        assert_eq!((b.current(), b.weight.full()), (1, 3));
        assert_eq!(a.current(), 1, "its client stays where it is");
        let mut said: Vec<String> = (0..8).map(|_| visit(&backend, &Caller::edge(), &[])).collect();
        said.sort();
        assert_eq!(said.concat(), "bbbbbbdd");
        drop(held);
        assert_eq!((a.current(), b.current()), (0, 0));
    }

    #[tokio::test]
    async fn a_server_of_the_same_name_elsewhere_is_another() {
        let backend = backend(json!([{ "name": "a" }]));
        let before = server(&backend, "a");
        let mut moved = servers(json!([{ "name": "a" }]));
        moved[0].address = "127.0.0.1:9".parse().unwrap();
        backend.set_servers(&moved);
        assert_ne!(before.id, server(&backend, "a").id);
        let removed = backend.set_servers(&[]).removed;
        assert_eq!(removed.len(), 1);
        assert_eq!(visit(&backend, &Caller::edge(), &[]), NoServer::NoneUp.to_string());
    }

    #[tokio::test]
    async fn servers_may_change_while_clients_wait() {
        let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
        let held = lease(&backend);
        let a = server(&backend, "a");
        let stuck = waits(&backend, stuck_to(a.id));
        until_queued(&backend, 1).await;
        let any = waits(&backend, Caller::edge());
        until_queued(&backend, 2).await;
        backend.set_servers(&servers(json!([{ "name": "b" }])));
        // There is nothing left to stick to.
        assert_eq!(stuck.await.unwrap().unwrap().server().name, "b");
        assert_eq!(any.await.unwrap().unwrap().server().name, "b");
        drop(held);
        assert_eq!((a.current(), backend.queued()), (0, 0));
    }

    #[tokio::test]
    async fn who_sticks_gets_its_server_while_it_is_there() {
        let list =
            json!([{ "name": "a" }, { "name": "b", "weight": 0 }, { "name": "c", "maxconn": 1 }]);
        let backend = backend(list);
        let [b, c] = ["b", "c"].map(|name| server(&backend, name));
        let stuck = |server: &Server| stuck_to(server.id);
        assert_eq!(visit(&backend, &stuck(&b), &[]), "b", "a weight is for newcomers");
        assert_eq!(visit(&backend, &stuck(&c), &[]), "c");
        assert_eq!(visit(&backend, &stuck(&c), &[c.id]), "a", "it could not be connected to");
        let held = at_once(&backend, &stuck(&c), &[]);
        assert_eq!(visit(&backend, &stuck(&c), &[]), "-", "it is waited for");
        drop(held);
        backend.set_up(&c, false);
        assert_eq!(visit(&backend, &stuck(&c), &[]), "a");
        assert_eq!(c.counts.stuck.load(Ordering::Relaxed), 2);
        assert_eq!(backend.counts.unstuck.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_backend_has_as_many_tunnels_as_it_may() {
        let backend = backend_with(json!([{ "name": "a" }]), json!({ "max_tunnels": 2 }));
        let handshake = backend.enter_tunnel().unwrap();
        let tunnel = backend.enter_tunnel().unwrap().hold(lease(&backend));
        assert_eq!(backend.enter_tunnel().unwrap_err(), NoServer::TunnelsFull);
        assert_eq!(server(&backend, "a").tunnels.load(Ordering::Relaxed), 1);
        drop(handshake);
        let another = backend.enter_tunnel().unwrap().hold(lease(&backend));
        assert_eq!(backend.enter_tunnel().unwrap_err(), NoServer::TunnelsFull);
        drop((tunnel, another));
        assert_eq!(backend.tunnels(), 0);
        let a = server(&backend, "a");
        assert_eq!((a.tunnels.load(Ordering::Relaxed), a.current()), (0, 0));
    }

    /// Threads take and give back, change states and servers, for as long as it takes.
    #[test]
    fn nobody_is_forgotten_and_no_server_is_overfull() {
        const CLIENTS: usize = 300;
        let list = json!([{ "name": "a", "maxconn": 2 }, { "name": "b", "maxconn": 1 }]);
        let backend = backend(list);
        let clients: Vec<_> = (0..4)
            .map(|seed| {
                let backend = Arc::clone(&backend);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .unwrap();
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..CLIENTS {
                        let id = random.choice(&*backend.servers()).unwrap().id;
                        let caller = if random.bool() { stuck_to(id) } else { Caller::edge() };
                        runtime.block_on(async {
                            let client = backend.lease(&caller, &[]);
                            if random.u8(..) < 64 {
                                let _ =
                                    tokio::time::timeout(Duration::from_micros(20), client).await;
                                return;
                            }
                            let lease = client.await.expect("long before the timeout");
                            assert!(lease.server().current() <= lease.server().maxconn.unwrap());
                            for _ in 0..random.u8(0..3) {
                                tokio::task::yield_now().await;
                            }
                        });
                    }
                })
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        while clients.iter().any(|client| !client.is_finished()) {
            let b = server(&backend, "b");
            backend.set_up(&b, random.bool());
            std::thread::yield_now();
        }
        clients.into_iter().for_each(|client| client.join().expect("no client panics"));
        assert_eq!(backend.queued(), 0);
        assert!(backend.servers().iter().all(|server| server.current() == 0));
    }
}
