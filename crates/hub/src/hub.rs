//! A node's hub: its parts put together.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidewire_runtime::worker::Worker;
use tidewire_wire::ws::message::Limits;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::broker::memory::MemoryBroker;
use crate::broker::redis::{RedisBroker, RedisSettings};
use crate::broker::url::BrokerUrl;
use crate::broker::{Broker, BrokerState, Events, Full, Room};
use crate::config::HubConfig;
use crate::control::{Control, ControlInbox, TELLER};
use crate::delivery;
use crate::interest::{Delivery, Interests};
use crate::link::Link;
use crate::liveness::Deadlines;
use crate::metrics::{BrokerMetrics, HubMetrics, LinkMetrics};
use crate::publication::{Kind, NodeId, Origin, Publication};
use crate::queue::{self, Receiver};
use crate::shard::{Paused, Shard};
use crate::striped::lock;
use crate::topic::Topic;

/// The hub of one node.
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
    /// What each worker's shard receives, until the shard takes it.
    inboxes: Mutex<Vec<Option<Receiver<Delivery>>>>,
    control: Arc<Control>,
    control_inbox: Mutex<Option<ControlInbox>>,
    metrics: Vec<Arc<HubMetrics>>,
    broker_metrics: Arc<BrokerMetrics>,
    sweep: AbortHandle,
}

/// What the shards of a hub share.
pub(crate) struct Shared {
    pub(crate) config: HubConfig,
    pub(crate) node: NodeId,
    pub(crate) node_name: String,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
    pub(crate) link: Arc<Link>,
}

/// How a hub is.
#[derive(Clone, Debug)]
pub struct HubState {
    pub broker: BrokerState,
}

impl Hub {
    /// Starts the hub of a node with `workers` workers. `memory` is used when the config says
    /// `broker = "memory"`: hubs that are given the same one hear each other. `runtime` runs what
    /// is rare, such as the connection to the broker.
    pub fn start(
        config: HubConfig,
        memory: &MemoryBroker,
        runtime: &Handle,
        workers: usize,
    ) -> Arc<Self> {
        debug_assert!(config.faults().is_empty(), "a hub is not started with a faulty config");
        let node = NodeId::random();
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| queue::queue(config.worker_queue.0 as usize)).unzip();
        let interests = Arc::new(Interests::new(senders));
        let broker_metrics = Arc::new(BrokerMetrics::default());
        let (control, control_inbox) = Control::new(node, Arc::clone(&interests));
        let control = Arc::new(control);
        let events: Arc<dyn Events> = control.clone();
        let broker: Arc<dyn Broker> = match &config.broker {
            BrokerUrl::Memory => Arc::new(memory.join(events)),
            BrokerUrl::Redis(url) => {
                let settings = RedisSettings {
                    url: url.clone(),
                    prefix: config.prefix.clone(),
                    node,
                    timeout: config.broker_timeout.0,
                    queue_bytes_max: config.broker_queue.0 as usize,
                    payload_bytes_max: config.queue.0 as usize,
                };
                let metrics = Arc::clone(&broker_metrics);
                Arc::new(RedisBroker::start(settings, events, metrics, runtime))
            }
        };
        // Its queue is empty, so there is room for it.
        let _ = broker.subscribe(&Topic::control());
        let link = Arc::new(Link::new(broker, interests, config.unsubscribe_delay.0));
        let sweep = runtime.spawn(Arc::clone(&link).sweep()).abort_handle();
        let shared = Shared {
            node,
            node_name: config.node_name(),
            deadlines: Deadlines::new(&config),
            limits: Limits {
                frame_bytes_max: config.max_message.0,
                message_bytes_max: config.max_message.0,
                fragments_max: config.max_fragments,
            },
            config,
            link,
        };
        Arc::new(Self {
            shared: Arc::new(shared),
            inboxes: Mutex::new(inboxes.into_iter().map(Some).collect()),
            control,
            control_inbox: Mutex::new(Some(control_inbox)),
            metrics: (0..workers).map(|_| Arc::default()).collect(),
            broker_metrics,
            sweep,
        })
    }

    /// The worker's part of the hub, with its deliveries running. Called once, on each worker's
    /// thread.
    ///
    /// # Panics
    /// When called twice for a worker, or for one that the hub was not started for.
    pub fn shard(&self, worker: &Rc<Worker>) -> Rc<Shard> {
        let index = worker.index();
        let inbox = lock(&self.inboxes)[index].take().expect("a worker has one shard");
        let metrics = Arc::clone(&self.metrics[index]);
        let shard = Rc::new(Shard::new(Rc::clone(worker), Arc::clone(&self.shared), metrics));
        tokio::task::spawn_local(delivery::run(Rc::clone(&shard), inbox));
        tokio::task::spawn_local(Paused::run(Rc::downgrade(&shard)));
        shard
    }

    /// What other nodes tell this one, and how far it gets what this one tells. Given once.
    pub fn control(&self) -> Option<ControlInbox> {
        lock(&self.control_inbox).take()
    }

    /// Tells the control planes of all nodes.
    pub fn tell(&self, what: Bytes) -> Result<Room, Full> {
        let origin = Origin { node: self.shared.node, client: TELLER };
        let publication = Publication { kind: Kind::Binary, origin, payload: what };
        self.shared.link.publish(&Topic::control(), publication)
    }

    /// What the control plane missed, as it did not keep up.
    pub fn control_missed(&self) -> u64 {
        self.control.missed()
    }

    pub fn node_name(&self) -> &str {
        &self.shared.node_name
    }

    pub fn state(&self) -> HubState {
        HubState { broker: self.shared.link.interests().state() }
    }

    /// What each worker's shard counts.
    pub fn metrics(&self) -> &[Arc<HubMetrics>] {
        &self.metrics
    }

    pub fn broker_metrics(&self) -> &BrokerMetrics {
        &self.broker_metrics
    }

    pub fn link_metrics(&self) -> &LinkMetrics {
        self.shared.link.interests().metrics()
    }

    /// Bytes of publications that wait for a worker now; `worker_queue` bounds them.
    pub fn waiting_bytes(&self, worker: usize) -> usize {
        self.shared.link.interests().waiting_bytes(worker)
    }

    /// Waits until the broker has taken what clients have published so far, but no longer than
    /// `limit`: to be called after the workers have ended and before the process does.
    pub async fn flush(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.shared.link.flushed()).await;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("node", &self.shared.node_name).finish_non_exhaustive()
    }
}
