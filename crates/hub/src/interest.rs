//! Which workers of this node want a topic: where a publication goes once the broker has it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tracing::warn;

use crate::broker::{BrokerState, Events, Reach, Room};
use crate::metrics::LinkMetrics;
use crate::publication::Publication;
use crate::queue::{self, Sender, Weigh};
use crate::striped::{Striped, lock};
use crate::topic::Topic;

/// What comes into a worker's shard from the link.
#[derive(Debug)]
pub(crate) enum Delivery {
    Publication(Topic, Publication, Reach),
    /// The broker has confirmed these subscriptions.
    Subscribed(Vec<Topic>),
    Changed(BrokerState),
    /// A planted fault of ours.
    #[cfg(test)]
    Panic,
}

impl Weigh for Delivery {
    fn weight(&self) -> usize {
        match self {
            Self::Publication(_, publication, _) => queue::ITEM_BYTES + publication.payload.len(),
            Self::Subscribed(_) | Self::Changed(_) => 0,
            #[cfg(test)]
            Self::Panic => 0,
        }
    }
}

/// The topics of a node, and the workers that have clients on them.
#[derive(Debug)]
pub(crate) struct Interests {
    inboxes: Box<[Sender<Delivery>]>,
    topics: Striped<Interest>,
    state: Mutex<BrokerState>,
    /// As `state`, for whoever asks on a hot path.
    is_away: AtomicBool,
    metrics: LinkMetrics,
    warned: Warned,
}

/// A topic at the broker.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// The workers that have clients on it; none while the unsubscription is due.
    pub(crate) workers: SmallVec<[u16; 8]>,
    /// Whether the broker has confirmed the subscription.
    pub(crate) stands: bool,
    /// Since when no worker has had a client on it.
    pub(crate) idle_since: Option<Instant>,
    /// Whether the link has it on its list of topics to unsubscribe.
    pub(crate) is_listed: bool,
}

impl Interests {
    pub(crate) fn new(inboxes: Vec<Sender<Delivery>>) -> Self {
        Self {
            inboxes: inboxes.into(),
            topics: Striped::new(),
            state: Mutex::new(BrokerState::Connecting),
            is_away: AtomicBool::new(false),
            metrics: LinkMetrics::default(),
            warned: Warned::new(),
        }
    }

    pub(crate) fn topics(&self) -> &Striped<Interest> {
        &self.topics
    }

    pub(crate) fn state(&self) -> BrokerState {
        lock(&self.state).clone()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    pub(crate) fn metrics(&self) -> &LinkMetrics {
        &self.metrics
    }

    /// Bytes of publications that wait for `worker`.
    pub(crate) fn waiting_bytes(&self, worker: usize) -> usize {
        self.inboxes[worker].bytes()
    }

    #[cfg(test)]
    pub(crate) fn plant_panic(&self, worker: usize) {
        self.inboxes[worker].send(Delivery::Panic).unwrap();
    }

    fn on_full(&self, worker: u16, topic: &Topic) {
        let dropped = self.metrics.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warned.may_warn() {
            warn!(
                worker, %topic, dropped,
                "a worker does not keep up with its deliveries; its clients missed a message",
            );
        }
    }
}

impl Events for Interests {
    fn delivered(&self, topic: &str, publication: Publication, reach: Reach) -> Room {
        let table = self.topics.lock(topic);
        let Some((topic, interest)) = table.get_key_value(topic) else {
            return Room::Ample; // Its last client left while it was on its way.
        };
        let mut room = Room::Ample;
        for &worker in &interest.workers {
            let delivery = Delivery::Publication(topic.clone(), publication.clone(), reach);
            match self.inboxes[usize::from(worker)].send(delivery) {
                Ok(left) => room = room.max(left),
                Err(_) => {
                    room = Room::Scarce;
                    self.on_full(worker, topic);
                }
            }
        }
        room
    }

    fn subscribed(&self, topics: &[Topic]) {
        let mut per_worker = vec![Vec::new(); self.inboxes.len()];
        for topic in topics {
            let mut table = self.topics.lock(topic.as_str());
            if let Some(interest) = table.get_mut(topic) {
                interest.stands = true;
                for &worker in &interest.workers {
                    per_worker[usize::from(worker)].push(topic.clone());
                }
            }
        }
        for (inbox, topics) in self.inboxes.iter().zip(per_worker) {
            if !topics.is_empty() {
                // A worker that is gone has no clients that wait.
                let _ = inbox.send(Delivery::Subscribed(topics));
            }
        }
    }

    fn changed(&self, state: BrokerState) {
        lock(&self.state).clone_from(&state);
        self.is_away.store(matches!(state, BrokerState::Away { .. }), Ordering::Release);
        for inbox in &self.inboxes {
            let _ = inbox.send(Delivery::Changed(state.clone()));
        }
    }
}

/// Lets one warning through in a while.
#[derive(Debug)]
struct Warned {
    start: Instant,
    /// When the last one was, in milliseconds since `start`, plus one.
    last: AtomicU64,
}

impl Warned {
    fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    fn may_warn(&self) -> bool {
        let now = self.start.elapsed().as_millis() as u64 + 1;
        let last = self.last.load(Ordering::Relaxed);
        (last == 0 || now - last.min(now) >= WARN_EVERY.as_millis() as u64)
            && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

const WARN_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::publication::{ClientId, Kind, NodeId, Origin};

    fn publication(payload: &'static str) -> Publication {
        let origin = Origin { node: NodeId(1), client: ClientId(1) };
        Publication { kind: Kind::Text, origin, payload: Bytes::from_static(payload.as_bytes()) }
    }

    #[tokio::test]
    async fn a_publication_goes_to_the_workers_that_want_its_topic() {
        let (first, mut receiver) = queue::queue(1000);
        let (second, mut other) = queue::queue(1000);
        let interests = Interests::new(vec![first, second]);
        let topic = Topic::new("a").unwrap();
        interests.topics.lock("a").entry(topic.clone()).or_default().workers.push(0);
        interests.delivered("a", publication("hi"), Reach::Everywhere);
        interests.delivered("b", publication("nobody"), Reach::Everywhere);
        interests.changed(BrokerState::Connected);
        let mut items = Vec::new();
        receiver.recv_many(&mut items, 10).await;
        assert!(matches!(&items[..], [Delivery::Publication(..), Delivery::Changed(_)]));
        items.clear();
        other.recv_many(&mut items, 10).await;
        assert!(matches!(&items[..], [Delivery::Changed(_)]));
    }

    #[test]
    fn what_a_full_worker_misses_is_counted() {
        let (inbox, _receiver) = queue::queue(300);
        let interests = Interests::new(vec![inbox]);
        let topic = Topic::new("a").unwrap();
        interests.topics.lock("a").entry(topic).or_default().workers.push(0);
        let mut rooms = (0..4).map(|_| interests.delivered("a", publication("x"), Reach::Node));
        assert_eq!(rooms.next(), Some(Room::Ample));
        assert_eq!(rooms.last(), Some(Room::Scarce));
        assert_eq!(interests.metrics.dropped.load(Ordering::Relaxed), 2);
    }
}
