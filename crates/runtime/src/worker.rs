//! A worker: one thread, one single-threaded runtime, the connections that it owns.
//!
//! ```text
//!   kernel ─> listener ─┬─> serve here ──────────────> Service
//!                       └─> mailbox of a less loaded worker ─> Service there
//!   Workers::drain ─> every connection hears Signal::Drain ─> none left, or the deadline
//!                  ─> every connection hears Signal::Stop ─> the thread ends
//! ```

use std::cell::{Cell, RefCell};
use std::io;
#[cfg(any(test, feature = "fuzzing"))]
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::allocator::{Giveback, keep_through_bursts, note_burst};
use crate::conn::Conn;
use crate::connections::{Connections, Watch};
use crate::deadline::{TICK, Tick};
use crate::groups::Whom;
use crate::listener::{self, Accepting, Fresh, Listener};
use crate::mailbox::{self, Receiver, Sender};
use crate::metrics::WorkerMetrics;
#[cfg(any(test, feature = "fuzzing"))]
use crate::socket::Socket;

/// What a worker does with its connections. Built on the worker's thread, once.
pub trait Service: 'static {
    /// Takes a client's connection and returns at once; the rest happens in a task of its own.
    /// `listener` is the index of the listener that it came by.
    fn serve(&self, conn: Conn, listener: usize);
}

/// Builds the service of one worker, on its thread.
pub type BuildService = Arc<dyn Fn(&Rc<Worker>) -> Rc<dyn Service> + Send + Sync>;

/// What the tasks of a worker share.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    start: Instant,
    now: Cell<Tick>,
    phase: Cell<Phase>,
    connections: RefCell<Connections>,
    /// Wakes the ticker when there is something to tick for.
    ticker: Notify,
    /// Wakes whoever waits for the last connection to leave.
    empty: Notify,
    giveback: Giveback,
    loads: Arc<Loads>,
    metrics: Arc<WorkerMetrics>,
}

impl Worker {
    fn new(index: usize, loads: Arc<Loads>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            index,
            start: Instant::now(),
            now: Cell::new(0),
            phase: Cell::new(Phase::Serving),
            connections: RefCell::default(),
            ticker: Notify::new(),
            empty: Notify::new(),
            giveback: Giveback::default(),
            loads,
            metrics,
        }
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The present tick. Read from the clock by the ticker, not by each caller: a message on a
    /// tunnel must not cost a look at the clock.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    pub fn is_draining(&self) -> bool {
        self.phase.get() != Phase::Serving
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.phase.get() == Phase::Stopping
    }

    pub fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// Gives a connection its place, with no deadline yet.
    pub fn enter(self: &Rc<Self>) -> Watch {
        if self.connections.borrow().len() == 0 {
            self.read_clock();
            self.ticker.notify_one();
        }
        note_burst();
        self.metrics.connections.add(1);
        self.connections.borrow_mut().enter(Rc::clone(self))
    }

    pub(crate) fn leave(&self, key: u32) {
        self.connections.borrow_mut().leave(key);
        self.metrics.connections.sub(1);
        self.loads.sub(self.index);
        if self.connections.borrow().len() == 0 {
            self.empty.notify_one();
        }
    }

    /// How many of its connections are in a group.
    pub fn group_len(&self, group: u32) -> usize {
        self.connections.borrow().group_len(group)
    }

    /// Tells up to `most` of a group to leave it; returns how many were told. They are in no group
    /// from then on.
    pub fn tell_to_leave(&self, group: u32, most: usize, whom: Whom) -> usize {
        self.connections.borrow_mut().tell_to_leave(group, most, whom, self.now())
    }

    pub(crate) fn connections(&self) -> &RefCell<Connections> {
        &self.connections
    }

    pub(crate) fn wake_ticker(&self) {
        self.ticker.notify_one();
    }

    fn read_clock(&self) {
        self.now.set((self.start.elapsed().as_millis() / TICK.as_millis()) as Tick);
    }

    fn enter_phase(&self, phase: Phase) {
        self.phase.set(phase);
        self.connections.borrow().wake_all();
    }

    /// Keeps the present tick and tells connections whose deadlines have passed. Sleeps while the
    /// worker has nothing to watch, so an idle process does not wake.
    async fn tick(self: Rc<Self>) {
        loop {
            let is_idle = {
                let connections = self.connections.borrow();
                connections.len() == 0 && !connections.has_deadlines() && !self.giveback.is_due()
            };
            if is_idle {
                self.ticker.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.read_clock();
            self.connections.borrow_mut().expire(self.now());
            self.giveback.tick();
        }
    }

    async fn until_empty(&self) {
        while self.connections.borrow().len() > 0 {
            self.empty.notified().await;
        }
    }
}

/// A worker without a thread of its own, for bodies that drive one from theirs.
#[cfg(any(test, feature = "fuzzing"))]
impl Worker {
    /// Ticks in the present runtime.
    pub fn alone() -> Rc<Self> {
        let worker = Rc::new(Self::new(0, Arc::new(Loads::new(1)), Arc::default()));
        tokio::task::spawn_local(Rc::clone(&worker).tick());
        worker
    }

    /// A connection as its listener would give it to the service.
    pub fn accept(self: &Rc<Self>, socket: Socket, peer: SocketAddr) -> Conn {
        self.metrics.accepted.add(1);
        self.loads.add(self.index);
        Conn { socket, watch: self.enter(), peer, local: peer }
    }

    /// Asks every connection to finish.
    pub fn drain(&self) {
        self.enter_phase(Phase::Draining);
    }

    /// Ends every connection.
    pub fn stop(&self) {
        self.enter_phase(Phase::Stopping);
    }
}

/// The running workers of a node.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    drainer: Drainer,
    metrics: Vec<Arc<WorkerMetrics>>,
}

/// Ends the workers of a node, from any thread.
#[derive(Clone, Debug)]
pub struct Drainer {
    workers: Vec<Sender<Order>>,
}

impl Workers {
    /// Starts `count` workers. `listeners` are bound already, each with a socket per worker, so
    /// that a bad address is known before anything runs.
    pub fn spawn(
        name: &str,
        count: usize,
        listeners: Vec<Listener>,
        build: &BuildService,
    ) -> io::Result<Self> {
        keep_through_bursts();
        let loads = Arc::new(Loads::new(count));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mailbox::mailbox(MAILBOX_ORDERS)).unzip();
        let mut workers = Self {
            threads: Vec::with_capacity(count),
            drainer: Drainer { workers: senders.clone() },
            metrics: (0..count).map(|_| Arc::default()).collect(),
        };
        let sockets = listener::per_worker(listeners, count);
        for (index, (orders, sockets)) in receivers.into_iter().zip(sockets).enumerate() {
            let start = Start {
                index,
                sockets,
                orders,
                peers: senders.clone(),
                loads: Arc::clone(&loads),
                metrics: Arc::clone(&workers.metrics[index]),
                build: Arc::clone(build),
            };
            let thread = std::thread::Builder::new().name(format!("{name}-{index}"));
            workers.threads.push(thread.spawn(move || start.run())?);
        }
        Ok(workers)
    }

    pub fn metrics(&self) -> &[Arc<WorkerMetrics>] {
        &self.metrics
    }

    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }

    /// Waits until every worker has ended, which a [`Drainer`] asks for.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                warn!("a worker ended by a panic");
            }
        }
    }
}

impl Drainer {
    /// Stops accepting, asks every connection to finish, and ends what is left after `deadline`.
    pub fn drain(&self, deadline: Duration) {
        self.order(|| Order::Drain(deadline));
    }

    /// Ends every connection now.
    pub fn stop(&self) {
        self.order(|| Order::Stop);
    }

    fn order(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            if worker.send(order()).is_err() {
                debug!("a worker has ended already");
            }
        }
    }
}

/// How many connections each worker has, for placement.
#[derive(Debug)]
pub(crate) struct Loads(Vec<AtomicUsize>);

impl Loads {
    fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    pub(crate) fn add(&self, worker: usize) {
        self.0[worker].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, worker: usize) {
        self.0[worker].fetch_sub(1, Ordering::Relaxed);
    }

    /// Which worker should have a fresh connection that `here` has just accepted (and counted).
    ///
    /// SO_REUSEPORT spreads by a hash, blindly, and WebSockets stay for hours: a worker above the
    /// mean hands on to the least loaded one. The sixteenth of slack spares short connections the
    /// journey while the spread is good.
    pub(crate) fn place(&self, here: usize) -> usize {
        let loads = || self.0.iter().map(|load| load.load(Ordering::Relaxed));
        let own = self.0[here].load(Ordering::Relaxed);
        let mean = loads().sum::<usize>() / self.0.len();
        if own <= mean + mean / 16 {
            return here;
        }
        let (least, load) =
            loads().enumerate().min_by_key(|&(_, load)| load).expect("there is a worker");
        if load + 1 < own { least } else { here }
    }
}

#[derive(Debug)]
pub(crate) enum Order {
    Adopt(Fresh),
    Drain(Duration),
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

/// All that a worker's thread starts with.
struct Start {
    index: usize,
    sockets: Vec<Accepting>,
    orders: Receiver<Order>,
    peers: Vec<Sender<Order>>,
    loads: Arc<Loads>,
    metrics: Arc<WorkerMetrics>,
    build: BuildService,
}

impl Start {
    fn run(self) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("the system gives a worker its epoll");
        let worker = Rc::new(Worker::new(self.index, self.loads, self.metrics));
        let peers: Rc<[_]> = self.peers.into();
        runtime.block_on(async {
            tokio::task::spawn_local(Rc::clone(&worker).tick());
            let service = (self.build)(&worker);
            let accepting =
                listener::accept_on(&worker, &worker.loads, &service, self.sockets, &peers);
            obey(&worker, &service, self.orders, accepting).await;
        });
        // Tasks that are left hold connections to servers, or are past the deadline.
        drop(runtime);
    }
}

/// Carries out orders until one of them ends the worker.
async fn obey(
    worker: &Rc<Worker>,
    service: &Rc<dyn Service>,
    mut orders: Receiver<Order>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
) {
    let mut deadline = None;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = worker.until_empty(), if deadline.is_some() => return,
            () = until(deadline), if deadline.is_some() => Some(Order::Stop),
        };
        match order {
            Some(Order::Adopt(fresh)) => fresh.adopt(worker, service, &worker.loads),
            Some(Order::Drain(time)) => {
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                deadline = Some(tokio::time::Instant::now() + time);
                worker.enter_phase(Phase::Draining);
            }
            Some(Order::Stop) | None => {
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                worker.enter_phase(Phase::Stopping);
                let _ = tokio::time::timeout(STOP_TIME, worker.until_empty()).await;
                return;
            }
        }
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Fresh connections that may wait for a worker. Full, they are served where they were accepted.
const MAILBOX_ORDERS: usize = 1024;

/// How long connections have to log their end once they are told to stop.
const STOP_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn check_place(loads: &[usize], here: usize, expected: usize) {
        let loads = Loads(loads.iter().map(|&load| AtomicUsize::new(load)).collect());
        assert_eq!(loads.place(here), expected, "{loads:?} at {here}");
    }

    #[test]
    fn a_worker_above_the_mean_hands_on_to_the_least_loaded() {
        check_place(&[1], 0, 0);
        check_place(&[1, 0], 0, 0);
        check_place(&[2, 0], 0, 1);
        check_place(&[2, 1], 0, 0);
        check_place(&[100, 100], 1, 1);
        check_place(&[120, 80, 100], 0, 1);
        check_place(&[80, 120], 0, 0);
    }
}
