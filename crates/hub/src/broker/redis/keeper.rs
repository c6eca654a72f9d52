//! The task that keeps a node connected to Redis, and its clients connected to each other when it
//! is not.
//!
//! ```text
//!   establish ──up──> serve ──lost──> settle ──> wait, growing ──> establish
//!       └──failed───────────────────────────────────^   (away: orders are obeyed within the node)
//! ```
//!
//! During the very first attempt orders wait instead, so that a start is not an outage.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use redis::Pipeline;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::in_flight::InFlight;
use super::inlet::Inlet;
use super::session::{Lost, REPLIES_MAX, Reply, SUBSCRIBE_NAMES_MAX, Session};
use super::{Order, RedisSettings};
use crate::broker::backoff::Backoff;
use crate::broker::envelope::Envelope;
use crate::broker::{BrokerState, Events, Reach};
use crate::metrics::BrokerMetrics;
use crate::publication::Publication;
use crate::queue::Receiver;
use crate::topic::Topic;

/// All that outlives a connection.
pub(super) struct Keeper {
    settings: RedisSettings,
    metrics: Arc<BrokerMetrics>,
    inlet: Arc<Inlet>,
    orders: Receiver<Order>,
    /// Orders just taken from the queue.
    batch: Vec<Order>,
    /// Orders that wait until there is room for what they send.
    pending: VecDeque<Order>,
    /// The topics that the node has clients on.
    wanted: HashSet<Topic, foldhash::fast::RandomState>,
    /// What changed in `wanted` while a connection was being established without it.
    changes: Vec<Order>,
    in_flight: InFlight,
    flushes: Vec<oneshot::Sender<()>>,
    scratch: Vec<u8>,
}

impl Keeper {
    pub(super) fn new(
        settings: RedisSettings,
        events: Arc<dyn Events>,
        metrics: Arc<BrokerMetrics>,
        orders: Receiver<Order>,
    ) -> Self {
        let inlet = Arc::new(Inlet::new(&settings, events, Arc::clone(&metrics)));
        Self {
            settings,
            metrics,
            inlet,
            orders,
            batch: Vec::with_capacity(ORDERS_PER_BATCH),
            pending: VecDeque::new(),
            wanted: HashSet::default(),
            changes: Vec::new(),
            in_flight: InFlight::default(),
            flushes: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs until the hub has ended.
    pub(super) async fn run(mut self) {
        self.inlet.events.changed(BrokerState::Connecting);
        let mut backoff = Backoff::default();
        let mut phase = Phase::First;
        loop {
            let lost = match self.establish(phase).await {
                Ok(session) => {
                    self.come(phase);
                    phase = Phase::Connected;
                    let since = Instant::now();
                    let lost = self.serve(session).await;
                    if since.elapsed() > LASTING {
                        backoff.reset();
                    }
                    lost
                }
                Err(lost) => lost,
            };
            if let Lost::Ended = lost {
                return;
            }
            if phase == Phase::Away {
                debug!(broker = %self.settings.url, why = %lost, "the broker is still away");
            } else {
                phase = Phase::Away;
                self.go(&lost);
            }
            let delay = backoff.next(fastrand::f64());
            if let Err(Lost::Ended) = self.obey_for(delay).await {
                return;
            }
        }
    }

    fn come(&self, phase: Phase) {
        let topics = self.wanted.len();
        match phase {
            Phase::Away => warn!(broker = %self.settings.url, topics, "the broker is back"),
            _ => info!(broker = %self.settings.url, "connected to the broker"),
        }
        self.metrics.connects.add(1);
        self.inlet.events.changed(BrokerState::Connected);
    }

    fn go(&mut self, lost: &Lost) {
        let why = lost.to_string();
        warn!(
            broker = %self.settings.url, why,
            "the broker is away; messages stay within this node until it is back",
        );
        let since = Instant::now();
        self.inlet.events.changed(BrokerState::Away { since, why: why.into() });
        self.settle();
        self.batch.extend(self.pending.drain(..));
        self.obey(Recall::Nothing);
    }

    /// Delivers what was under way and has not come back.
    fn settle(&mut self) {
        for (topic, publication, reach) in self.in_flight.settle(self.inlet.echoed()) {
            if reach == Reach::Unknown {
                self.metrics.unknown.add(1);
            }
            self.inlet.events.delivered(topic.as_str(), publication, reach);
        }
        self.inlet.settle(self.in_flight.last());
        self.flushes.clear();
    }

    /// One attempt. While Redis is away, orders are obeyed meanwhile.
    async fn establish(&mut self, phase: Phase) -> Result<Session, Lost> {
        self.changes.clear();
        let topics = self.wanted.iter().cloned().collect();
        let attempt = Session::establish(self.settings.clone(), Arc::clone(&self.inlet), topics);
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                biased;
                session = &mut attempt => return session,
                count = self.orders.recv_many(&mut self.batch, ORDERS_PER_BATCH),
                    if phase == Phase::Away => match count {
                        0 => return Err(Lost::Ended),
                        _ => self.obey(Recall::Changes),
                    },
            }
        }
    }

    /// Obeys orders within the node for `time`.
    async fn obey_for(&mut self, time: Duration) -> Result<(), Lost> {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                count = self.orders.recv_many(&mut self.batch, ORDERS_PER_BATCH) => match count {
                    0 => return Err(Lost::Ended),
                    _ => self.obey(Recall::Nothing),
                },
            }
        }
    }

    /// Does what can be done for the batch without Redis.
    fn obey(&mut self, recall: Recall) {
        for order in self.batch.drain(..) {
            match &order {
                Order::Subscribe(topic) => {
                    self.wanted.insert(topic.clone());
                }
                Order::Unsubscribe(topic) => {
                    self.wanted.remove(topic);
                }
                Order::Publish(topic, publication) => {
                    self.metrics.node_only.add(1);
                    let publication = publication.clone();
                    self.inlet.events.delivered(topic.as_str(), publication, Reach::Node);
                    continue;
                }
                // Dropping the sender completes the wait.
                Order::Flush(_) => continue,
            }
            if recall == Recall::Changes {
                self.changes.push(order);
            }
        }
    }

    /// Serves orders through `session` until it is lost.
    async fn serve(&mut self, mut session: Session) -> Lost {
        self.pending.extend(self.changes.drain(..));
        let mut pulse = pulse(self.settings.timeout);
        loop {
            self.execute(&mut session);
            tokio::select! {
                biased;
                reply = session.reply() => match reply {
                    Ok(reply) => self.on_reply(reply, session.waiting()),
                    Err(lost) => return lost,
                },
                _ = pulse.tick() => {
                    if let Err(lost) = session.check_alive() {
                        return lost;
                    }
                    if session.waiting() == 0 {
                        session.ping();
                    }
                }
                count = self.orders.recv_many(&mut self.batch, ORDERS_PER_BATCH),
                    if self.pending.is_empty() && self.has_room(&session) =>
                {
                    if count == 0 {
                        return Lost::Ended;
                    }
                    self.pending.extend(self.batch.drain(..));
                }
            }
        }
    }

    fn has_room(&self, session: &Session) -> bool {
        session.waiting() < REPLIES_MAX && self.in_flight.bytes() < IN_FLIGHT_BYTES_MAX
    }

    fn on_reply(&mut self, reply: Reply, waiting: usize) {
        match reply {
            Reply::Subscribed(topics) => self.inlet.events.subscribed(&topics),
            Reply::Published(count) => {
                self.metrics.published.add(count);
                self.in_flight.ack(count);
            }
            Reply::Unsubscribed | Reply::Pong => {}
        }
        self.in_flight.forget(self.inlet.echoed(), |topic| self.wanted.contains(topic));
        if waiting == 0 {
            self.flushes.clear();
        }
    }

    /// Sends what is pending while there is room, runs of the same order in one command.
    fn execute(&mut self, session: &mut Session) {
        if self.pending.is_empty() {
            return;
        }
        let mut run = Run::Nothing;
        while self.has_room(session)
            && let Some(order) = self.pending.pop_front()
        {
            run = match (run, order) {
                (run, Order::Flush(done)) => {
                    self.flushes.push(done);
                    run
                }
                (Run::Subscribe(mut topics), Order::Subscribe(topic))
                    if topics.len() < SUBSCRIBE_NAMES_MAX =>
                {
                    topics.push(topic);
                    Run::Subscribe(topics)
                }
                (Run::Unsubscribe(mut topics), Order::Unsubscribe(topic))
                    if topics.len() < SUBSCRIBE_NAMES_MAX =>
                {
                    topics.push(topic);
                    Run::Unsubscribe(topics)
                }
                (Run::Publish(commands, bytes), Order::Publish(topic, publication))
                    if bytes < PUBLISH_BYTES =>
                {
                    self.add_publish(commands, bytes, topic, publication)
                }
                (run, order) => {
                    self.send(session, run);
                    self.begin(order)
                }
            };
        }
        self.send(session, run);
        if session.waiting() == 0 {
            self.flushes.clear();
        }
    }

    fn begin(&mut self, order: Order) -> Run {
        match order {
            Order::Subscribe(topic) => Run::Subscribe(vec![topic]),
            Order::Unsubscribe(topic) => Run::Unsubscribe(vec![topic]),
            Order::Publish(topic, publication) => {
                self.add_publish(Pipeline::new(), 0, topic, publication)
            }
            Order::Flush(_) => Run::Nothing,
        }
    }

    fn add_publish(
        &mut self,
        mut commands: Pipeline,
        bytes: usize,
        topic: Topic,
        publication: Publication,
    ) -> Run {
        let channel = format!("{}{topic}", self.inlet.prefix());
        let sequence = self.in_flight.push(topic, publication.clone());
        self.inlet.note_sent(sequence);
        self.scratch.clear();
        Envelope { sequence, publication }.encode(&mut self.scratch);
        commands.cmd("PUBLISH").arg(channel).arg(&self.scratch[..]);
        let bytes = bytes + self.scratch.len();
        self.scratch.shrink_to(SCRATCH_BYTES_MAX);
        Run::Publish(commands, bytes)
    }

    fn send(&mut self, session: &mut Session, run: Run) {
        let prefix = self.inlet.prefix();
        match run {
            Run::Nothing => {}
            Run::Subscribe(topics) => {
                self.wanted.extend(topics.iter().cloned());
                session.subscribe(prefix, topics);
            }
            Run::Unsubscribe(topics) => {
                for topic in &topics {
                    self.wanted.remove(topic);
                }
                session.unsubscribe(prefix, &topics);
            }
            Run::Publish(commands, _) => session.publish(commands),
        }
    }
}

/// Orders of the same kind that follow each other.
enum Run {
    Nothing,
    Subscribe(Vec<Topic>),
    Unsubscribe(Vec<Topic>),
    /// With the bytes of their payloads.
    Publish(Pipeline, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    First,
    Connected,
    Away,
}

/// What to keep of orders that were obeyed within the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recall {
    Nothing,
    Changes,
}

/// Ticks often enough to find a Redis that hangs soon after `timeout`.
fn pulse(timeout: Duration) -> Interval {
    let period = (timeout / 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut pulse = tokio::time::interval(period);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

/// Orders taken from the queue at once.
const ORDERS_PER_BATCH: usize = 256;

/// Payload bytes with which a batch of PUBLISH is full. On a slow line batches are answered one by
/// one, and each answer shows that Redis is alive.
const PUBLISH_BYTES: usize = 256 * 1024;

/// Bytes of publications that were sent and have not been answered. The queue holds the rest.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// A connection that held for so long was a good one.
const LASTING: Duration = Duration::from_secs(10);
