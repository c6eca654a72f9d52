//! Brokers: what carries publications between the nodes.
//!
//! ```text
//!   link ── subscribe, unsubscribe, publish ──> Broker ══ network ══> the other nodes' brokers
//!   link <── delivered, subscribed, changed ─── Events
//! ```
//!
//! Every publication takes this road, also one whose subscribers are all on this node: a broker
//! gives the publications of a topic one order, and all subscribers get that one.
//!
//! To add a broker: a file beside these, a case in [`url::BrokerUrl`], an arm in `Hub::start`, and
//! a line in `tests/broker_conformance.rs`, which says what it must promise.

pub mod backoff;
pub mod envelope;
pub mod memory;
pub mod redis;
pub mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::publication::Publication;
pub use crate::queue::Room;
use crate::topic::Topic;

/// A node's way into a broker. Calls never wait. What they ask for happens in the order of the
/// calls: a publication after a subscription is seen by it.
pub trait Broker: fmt::Debug + Send + Sync {
    /// Asks for what is published to `topic`, also by this node.
    fn subscribe(&self, topic: &Topic) -> Result<Standing, Full>;

    /// Asks for no more of `topic`.
    fn unsubscribe(&self, topic: &Topic) -> Result<(), Full>;

    /// Publishes to all subscribers of `topic` on all nodes, this one included.
    fn publish(&self, topic: &Topic, publication: Publication) -> Result<Room, Full>;

    /// Completes when what was asked for so far has been answered, or given up.
    fn flushed(&self) -> oneshot::Receiver<()>;
}

/// What a broker tells its node. Calls never wait and come from one task or under one lock per
/// topic, so that their order is the order of the topic.
pub trait Events: Send + Sync {
    /// `publication` has come for the node's subscribers of `topic`.
    fn delivered(&self, topic: &str, publication: Publication, reach: Reach) -> Room;

    /// Subscriptions that were [`Standing::Asked`] stand now.
    fn subscribed(&self, topics: &[Topic]);

    /// The broker came or went.
    fn changed(&self, state: BrokerState);
}

/// Whether a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stands: nothing published from now on is missed.
    Stands,
    /// It was asked for; [`Events::subscribed`] will tell.
    Asked,
}

/// How far a publication has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The broker has it: every node that is subscribed gets it.
    Everywhere,
    /// This node only: the broker is away.
    Node,
    /// This node; whether others too is not known, as the broker went before it answered.
    Unknown,
}

/// The queue towards the broker is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue towards the broker is full")]
pub struct Full;

/// Whether the broker is there.
#[derive(Clone, Debug)]
pub enum BrokerState {
    /// The first attempt to reach it is under way. What is asked for waits.
    Connecting,
    Connected,
    /// It cannot be reached. Publications are delivered within the node meanwhile.
    Away {
        since: Instant,
        why: Arc<str>,
    },
}

impl BrokerState {
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}
