//! A node's end of a broker that writes down what it is told.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidewire_hub::broker::redis::{RedisBroker, RedisSettings};
use tidewire_hub::broker::url::BrokerUrl;
use tidewire_hub::broker::{Broker, BrokerState, Events, Reach, Room, Standing};
use tidewire_hub::metrics::BrokerMetrics;
use tidewire_hub::publication::{ClientId, Kind, NodeId, Origin, Publication};
use tidewire_hub::topic::Topic;
use tokio::runtime::Handle;

use super::until;

/// What a node was told.
#[derive(Default)]
pub struct Recorder {
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// By topic, in the order in which they came.
    delivered: HashMap<String, Vec<(Publication, Reach)>>,
    total: usize,
    subscribed: HashSet<Topic>,
    states: Vec<BrokerState>,
}

impl Events for Recorder {
    fn delivered(&self, topic: &str, publication: Publication, reach: Reach) -> Room {
        let mut log = self.log.lock().unwrap();
        log.delivered.entry(topic.to_owned()).or_default().push((publication, reach));
        log.total += 1;
        Room::Ample
    }

    fn subscribed(&self, topics: &[Topic]) {
        self.log.lock().unwrap().subscribed.extend(topics.iter().cloned());
    }

    fn changed(&self, state: BrokerState) {
        self.log.lock().unwrap().states.push(state);
    }
}

impl Recorder {
    pub fn total(&self) -> usize {
        self.log.lock().unwrap().total
    }

    pub fn delivered(&self, topic: &Topic) -> Vec<(Publication, Reach)> {
        self.log.lock().unwrap().delivered.get(topic.as_str()).cloned().unwrap_or_default()
    }

    /// The payloads that came, as text.
    pub fn texts(&self, topic: &Topic) -> Vec<String> {
        let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned();
        self.delivered(topic).iter().map(|(it, _)| text(&it.payload)).collect()
    }

    pub fn topics(&self) -> Vec<String> {
        self.log.lock().unwrap().delivered.keys().cloned().collect()
    }

    pub fn is_subscribed(&self, topic: &Topic) -> bool {
        self.log.lock().unwrap().subscribed.contains(topic)
    }

    pub fn state(&self) -> BrokerState {
        self.log.lock().unwrap().states.last().cloned().unwrap_or(BrokerState::Connecting)
    }

    pub fn is_away(&self) -> bool {
        matches!(self.state(), BrokerState::Away { .. })
    }

    /// Whether the broker was away, now or before, for a reason with this in it, in lower case.
    pub fn was_away_for(&self, part: &str) -> bool {
        self.log.lock().unwrap().states.iter().any(|state| match state {
            BrokerState::Away { why, .. } => why.to_string().to_lowercase().contains(part),
            _ => false,
        })
    }

    /// Why the broker is away, or the empty text.
    pub fn why(&self) -> String {
        match self.state() {
            BrokerState::Away { why, .. } => why.to_string(),
            _ => String::new(),
        }
    }
}

/// A node: its way into the broker, and what it was told.
pub struct Node {
    pub id: NodeId,
    pub broker: Arc<dyn Broker>,
    pub recorder: Arc<Recorder>,
}

impl Node {
    /// Joins the Redis at `url`, which may be busy for a while.
    pub fn join_redis(url: &str, queue_bytes_max: usize) -> (Self, Arc<BrokerMetrics>) {
        Self::join_redis_within(Duration::from_secs(15), url, queue_bytes_max)
    }

    /// As [`Node::join_redis`], for one that is to be found hanging.
    pub fn join_redis_hasty(url: &str, queue_bytes_max: usize) -> (Self, Arc<BrokerMetrics>) {
        Self::join_redis_within(REDIS_TIMEOUT, url, queue_bytes_max)
    }

    fn join_redis_within(
        timeout: Duration,
        url: &str,
        queue_bytes_max: usize,
    ) -> (Self, Arc<BrokerMetrics>) {
        let BrokerUrl::Redis(url) = url.parse().unwrap() else { panic!("a Redis URL") };
        let id = NodeId::random();
        let settings = RedisSettings {
            url,
            prefix: "test".into(),
            node: id,
            timeout,
            queue_bytes_max,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        };
        let recorder = Arc::new(Recorder::default());
        let metrics = Arc::new(BrokerMetrics::default());
        let events = recorder.clone();
        let broker = RedisBroker::start(settings, events, metrics.clone(), &Handle::current());
        (Self { id, broker: Arc::new(broker), recorder }, metrics)
    }

    /// Subscribes and waits until that stands.
    pub async fn subscribe(&self, topic: &Topic) {
        if self.broker.subscribe(topic).unwrap() == Standing::Asked {
            until("a subscription", || self.recorder.is_subscribed(topic)).await;
        }
    }

    pub fn publication(&self, text: &str) -> Publication {
        let origin = Origin { node: self.id, client: ClientId(1) };
        let payload = Bytes::copy_from_slice(text.as_bytes());
        Publication { kind: Kind::Text, origin, payload }
    }

    /// Publishes, waiting while the queue is full.
    pub async fn publish(&self, topic: &Topic, text: &str) {
        while self.broker.publish(topic, self.publication(text)).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until `count` publications have come.
    pub async fn until_total(&self, count: usize) {
        until("publications", || self.recorder.total() >= count).await;
        assert_eq!(self.recorder.total(), count, "none comes twice");
    }
}

/// How long Redis may take to answer where it hangs: longer than anybody is held up.
pub const REDIS_TIMEOUT: Duration = Duration::from_secs(3);

/// The biggest payload that nodes in tests take from Redis.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 20;
