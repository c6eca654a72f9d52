//! The broker inside the process: for one node, or for several that share a process.
//!
//! A publication is in every subscriber's mailbox when `publish` returns: no thread, no queue and
//! no wait of its own. The lock of the topic's stripe gives all subscribers the same order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Broker, BrokerState, Events, Full, Reach, Room, Standing};
use crate::publication::Publication;
use crate::striped::Striped;
use crate::topic::Topic;

/// The broker; clones are the same one. Nodes that joined the same one hear each other.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

impl MemoryBroker {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a node join. It leaves when what is returned is dropped.
    pub fn join(&self, events: Arc<dyn Events>) -> MemoryNode {
        events.changed(BrokerState::Connected);
        let number = self.shared.joined.fetch_add(1, Ordering::Relaxed);
        MemoryNode { shared: Arc::clone(&self.shared), number, events }
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryBroker")
    }
}

/// One node's way into the broker.
pub struct MemoryNode {
    shared: Arc<Shared>,
    number: u64,
    events: Arc<dyn Events>,
}

impl Broker for MemoryNode {
    fn subscribe(&self, topic: &Topic) -> Result<Standing, Full> {
        let mut table = self.shared.topics.lock(topic.as_str());
        let nodes = table.entry(topic.clone()).or_default();
        if nodes.iter().all(|node| node.number != self.number) {
            nodes.push(Subscriber { number: self.number, events: Arc::clone(&self.events) });
        }
        Ok(Standing::Stands)
    }

    fn unsubscribe(&self, topic: &Topic) -> Result<(), Full> {
        let mut table = self.shared.topics.lock(topic.as_str());
        if let Some(nodes) = table.get_mut(topic) {
            nodes.retain(|node| node.number != self.number);
            if nodes.is_empty() {
                table.remove(topic);
            }
        }
        Ok(())
    }

    fn publish(&self, topic: &Topic, publication: Publication) -> Result<Room, Full> {
        let table = self.shared.topics.lock(topic.as_str());
        let nodes = table.get(topic).map_or(&[][..], |nodes| &nodes[..]);
        let mut room = Room::Ample;
        for node in nodes {
            let publication = publication.clone();
            let left = node.events.delivered(topic.as_str(), publication, Reach::Everywhere);
            room = room.max(left);
        }
        Ok(room)
    }

    fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        let _ = done.send(());
        flushed
    }
}

impl Drop for MemoryNode {
    fn drop(&mut self) {
        for mut table in self.shared.topics.lock_each() {
            table.retain(|_, nodes| {
                nodes.retain(|node| node.number != self.number);
                !nodes.is_empty()
            });
        }
    }
}

impl fmt::Debug for MemoryNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryNode").field(&self.number).finish()
    }
}

struct Shared {
    joined: AtomicU64,
    topics: Striped<SmallVec<[Subscriber; 1]>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { joined: AtomicU64::new(0), topics: Striped::new() }
    }
}

struct Subscriber {
    number: u64,
    events: Arc<dyn Events>,
}
