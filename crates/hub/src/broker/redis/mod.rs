//! Redis as the broker: a channel of Pub/Sub per topic, one connection per node.
//!
//! ```text
//!   link ── Order ──> queue ──> keeper ── PUBLISH, SUBSCRIBE ──> session ══> Redis
//!   link <── Events ────────────  │  <── pushes, replies ── inlet, session <══
//!                                 └── Redis away: delivers within the node itself
//! ```
//!
//! Everything happens in one task, the keeper: it sends, it polls the connection, and while Redis
//! is away it delivers. So there is one order at any time, and publications that were under way
//! when the connection broke come before those that follow.
//!
//! What is promised, and how:
//! - **A node gets what it has clients for.** It subscribes to those channels only.
//! - **At most once, in order.** Redis may execute what an old connection left in its buffers after
//!   a new one is up. Each publication has a number among those of its node, and what comes late
//!   or again is dropped and counted.
//! - **Nothing is lost in silence.** Of what was under way when the connection broke, this node's
//!   subscribers get what had not come back, with [`Reach::Unknown`] for its sender.
//! - **A Redis that hangs is found.** While a command waits, something must be heard within the
//!   deadline, and a PING each second sees to it that there is a command.

mod in_flight;
mod inlet;
mod keeper;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::url::RedisUrl;
use super::{Broker, Events, Full, Room, Standing};
use crate::metrics::BrokerMetrics;
use crate::publication::{NodeId, Publication};
use crate::queue::{self, Sender, Weigh};
use crate::topic::Topic;
use keeper::Keeper;

#[cfg(doc)]
use super::Reach;

/// A node's way into Redis. Its task ends when this is dropped.
#[derive(Debug)]
pub struct RedisBroker {
    orders: Sender<Order>,
}

/// What a node needs to know to use Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    pub url: RedisUrl,
    /// Goes before each topic, with a colon, to make the name of its channel.
    pub prefix: String,
    pub node: NodeId,
    /// How long Redis may take to answer before it counts as away.
    pub timeout: Duration,
    /// Bytes of publications that may wait for Redis.
    pub queue_bytes_max: usize,
    /// Publications with a bigger payload are not delivered: no client could take them.
    pub payload_bytes_max: usize,
}

impl RedisBroker {
    /// Starts the task that reaches Redis and keeps reaching it.
    pub fn start(
        settings: RedisSettings,
        events: Arc<dyn Events>,
        metrics: Arc<BrokerMetrics>,
        runtime: &Handle,
    ) -> Self {
        let (orders, receiver) = queue::queue(settings.queue_bytes_max);
        runtime.spawn(Keeper::new(settings, events, metrics, receiver).run());
        Self { orders }
    }

    fn order(&self, order: Order) -> Result<Room, Full> {
        self.orders.send(order).map_err(|_| Full)
    }
}

impl Broker for RedisBroker {
    fn subscribe(&self, topic: &Topic) -> Result<Standing, Full> {
        self.order(Order::Subscribe(topic.clone())).map(|_| Standing::Asked)
    }

    fn unsubscribe(&self, topic: &Topic) -> Result<(), Full> {
        self.order(Order::Unsubscribe(topic.clone())).map(|_| ())
    }

    fn publish(&self, topic: &Topic, publication: Publication) -> Result<Room, Full> {
        self.order(Order::Publish(topic.clone(), publication))
    }

    fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        // Refused, `done` is dropped, and so the wait ends too.
        let _ = self.order(Order::Flush(done));
        flushed
    }
}

/// What the link asks for, in its order.
#[derive(Debug)]
enum Order {
    Subscribe(Topic),
    Unsubscribe(Topic),
    Publish(Topic, Publication),
    Flush(oneshot::Sender<()>),
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        match self {
            Self::Publish(_, publication) => queue::ITEM_BYTES + publication.payload.len(),
            Self::Subscribe(_) | Self::Unsubscribe(_) | Self::Flush(_) => 0,
        }
    }
}
