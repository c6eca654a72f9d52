//! What Redis pushes: checked, put into order, handed on.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hashbrown::HashMap;
use redis::{PushInfo, PushKind, Value};
use tracing::debug;

use super::RedisSettings;
use crate::broker::envelope::Envelope;
use crate::broker::{Events, Reach};
use crate::metrics::BrokerMetrics;
use crate::publication::NodeId;
use crate::striped::lock;

/// The way in for what Redis pushes on any of the connections that follow each other.
pub(super) struct Inlet {
    pub(super) events: Arc<dyn Events>,
    metrics: Arc<BrokerMetrics>,
    node: NodeId,
    /// The prefix of channels, with its colon.
    prefix: String,
    payload_bytes_max: usize,
    /// How many pushes there have been, of any kind.
    pushes: AtomicU64,
    /// The number of the last publication that this node has sent.
    sent: AtomicU64,
    /// Only the keeper's task comes here, so the lock is always free; the compiler must be told.
    seen: Mutex<Seen>,
}

impl Inlet {
    pub(super) fn new(
        settings: &RedisSettings,
        events: Arc<dyn Events>,
        metrics: Arc<BrokerMetrics>,
    ) -> Self {
        Self {
            events,
            metrics,
            node: settings.node,
            prefix: format!("{}:", settings.prefix),
            payload_bytes_max: settings.payload_bytes_max,
            pushes: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Takes what Redis pushed. Confirmations are pushes too; the session waits for those.
    pub(super) fn take(&self, push: PushInfo) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        if push.kind != PushKind::Message {
            return;
        }
        let Ok([Value::BulkString(channel), Value::BulkString(payload)]) =
            <[Value; 2]>::try_from(push.data)
        else {
            return self.drop_foreign("a push of another shape");
        };
        let topic = std::str::from_utf8(&channel).ok();
        let Some(topic) = topic.and_then(|channel| channel.strip_prefix(&self.prefix)) else {
            return self.drop_foreign("a channel that was not subscribed");
        };
        let envelope = match Envelope::decode(Bytes::from(payload)) {
            Ok(envelope) => envelope,
            Err(foreign) => return self.drop_foreign(foreign),
        };
        let Envelope { sequence, publication } = envelope;
        if publication.payload.len() > self.payload_bytes_max {
            return self.drop_foreign("a payload bigger than a client's queue");
        }
        if publication.origin.node == self.node && sequence > self.sent.load(Ordering::Relaxed) {
            return self.drop_foreign("a publication that this node has not sent");
        }
        if !lock(&self.seen).is_new(publication.origin.node, sequence) {
            return self.metrics.late.add(1);
        }
        self.metrics.received.add(1);
        self.events.delivered(topic, publication, Reach::Everywhere);
    }

    pub(super) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Relaxed)
    }

    pub(super) fn note_sent(&self, sequence: u64) {
        self.sent.store(sequence, Ordering::Relaxed);
    }

    /// The number of the last publication of this node that has come back.
    pub(super) fn echoed(&self) -> u64 {
        lock(&self.seen).last(self.node)
    }

    /// From now on this node's publications up to `sequence` are late.
    pub(super) fn settle(&self, sequence: u64) {
        lock(&self.seen).is_new(self.node, sequence);
    }

    fn drop_foreign(&self, what: impl fmt::Display) {
        self.metrics.foreign.add(1);
        debug!(%what, "dropped what came from the broker");
    }
}

/// The last number that came from each node. Pure.
#[derive(Debug, Default)]
struct Seen {
    nodes: HashMap<NodeId, u64, foldhash::fast::RandomState>,
}

impl Seen {
    /// Notes the number, and whether it is new.
    fn is_new(&mut self, node: NodeId, sequence: u64) -> bool {
        // Every start of a node is another one. Forgetting them all at once lets a late one slip
        // through at worst, which takes a break of the connection in the same moment.
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            self.nodes.clear();
        }
        let last = self.nodes.entry(node).or_insert(0);
        let is_new = sequence > *last;
        *last = sequence.max(*last);
        is_new
    }

    fn last(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).copied().unwrap_or(0)
    }
}

const NODES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_or_again_is_not_new() {
        let mut seen = Seen::default();
        let (one, two) = (NodeId(1), NodeId(2));
        let said = [(one, 1), (one, 3), (two, 1), (one, 2), (one, 3), (one, 4)];
        let new = said.map(|(node, sequence)| seen.is_new(node, sequence));
        assert_eq!(new, [true, true, true, false, false, true]);
        assert_eq!((seen.last(one), seen.last(two), seen.last(NodeId(3))), (4, 1, 0));
    }

    #[test]
    fn the_table_of_nodes_is_bounded() {
        let mut seen = Seen::default();
        for node in 0..3 * NODES_MAX as u64 {
            seen.is_new(NodeId(node), 1);
        }
        assert!(seen.nodes.len() <= NODES_MAX);
    }
}
