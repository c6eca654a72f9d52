//! What nodes tell each other besides publications: a topic of the broker that no client can name.
//!
//! ```text
//!   Hub::tell ──> link ──> broker ══> broker ──> Control ──> ControlInbox of each node
//!                                                   └─ any other topic ──> interests
//! ```
//!
//! It takes the same road as publications, so it works over every broker. What arrives is not
//! looked at here, and not trusted by who does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::broker::{BrokerState, Events, Reach, Room};
use crate::interest::Interests;
use crate::publication::{ClientId, NodeId, Publication};
use crate::topic::Topic;

/// What the node hears. The end of it is the end of the hub.
pub type ControlInbox = mpsc::Receiver<ControlEvent>;

/// Something that the node's control plane should know.
#[derive(Clone, Debug)]
pub enum ControlEvent {
    /// The broker is there: what is told from now on reaches the others.
    Connected,
    /// The broker is away.
    Away,
    /// Another node has told this.
    Told(Bytes),
    /// What this node has told has come so far.
    Echo(Bytes, Reach),
}

/// Takes what is for the control plane out of what the broker delivers.
#[derive(Debug)]
pub(crate) struct Control {
    node: NodeId,
    interests: Arc<Interests>,
    inbox: mpsc::Sender<ControlEvent>,
    /// What did not fit: the control plane does not keep up.
    missed: AtomicU64,
}

impl Control {
    pub(crate) fn new(node: NodeId, interests: Arc<Interests>) -> (Self, ControlInbox) {
        let (inbox, events) = mpsc::channel(EVENTS_MAX);
        (Self { node, interests, inbox, missed: AtomicU64::new(0) }, events)
    }

    /// How many events were missed.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn put(&self, event: ControlEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(event) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Events for Control {
    fn delivered(&self, topic: &str, publication: Publication, reach: Reach) -> Room {
        if !Topic::is_control(topic) {
            return self.interests.delivered(topic, publication, reach);
        }
        self.put(match publication.origin.node == self.node {
            true => ControlEvent::Echo(publication.payload, reach),
            false => ControlEvent::Told(publication.payload),
        });
        Room::Ample
    }

    fn subscribed(&self, topics: &[Topic]) {
        self.interests.subscribed(topics);
    }

    fn changed(&self, state: BrokerState) {
        match &state {
            BrokerState::Connected => self.put(ControlEvent::Connected),
            BrokerState::Away { .. } => self.put(ControlEvent::Away),
            BrokerState::Connecting => {}
        }
        self.interests.changed(state);
    }
}

/// Who tells, where a publication has its client: none has this id.
pub(crate) const TELLER: ClientId = ClientId(u64::MAX);

/// What may wait for the control plane. What is missed is made up for: nodes compare what they
/// know.
const EVENTS_MAX: usize = 4096;
