//! A worker's part of the hub: its clients and the topics that they are subscribed to.
//!
//! ```text
//!   admit ──> Admission ──start──> ClientTask ──message──> publish ──> link
//!                 │                    ^
//!                 └── Subscribers <────┴── delivery <── inbox <── link
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use slab::Slab;
use tidewire_runtime::worker::Worker;
use tokio::sync::Notify;
use tracing::trace;

use crate::admission::{Admission, Membership, Refusal};
use crate::broker::{BrokerState, Room, Standing};
use crate::client::{Client, Meter, Wish};
use crate::config::Away;
use crate::hub::Shared;
use crate::metrics::HubMetrics;
use crate::notice::Notice;
use crate::pass::{Applicant, NOTHING_TO_RENEW, Pass};
use crate::protocol::Protocol;
use crate::publication::{ClientId, Kind, Origin, Publication};
use crate::route::HubRoute;
use crate::subscribers::Subscribers;
use crate::topic::Topic;

/// A worker's part of the hub. Lives on the worker's thread.
pub struct Shard {
    worker: Rc<Worker>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<HubMetrics>,
    topics: RefCell<HashMap<Topic, Rc<Subscribers>, foldhash::fast::RandomState>>,
    clients: RefCell<Slab<Rc<Client>>>,
    generation: Cell<u32>,
    /// Why messages stay within the node, while they do.
    away: RefCell<Option<Arc<str>>>,
    paused: Paused,
}

impl Shard {
    pub(crate) fn new(worker: Rc<Worker>, shared: Arc<Shared>, metrics: Arc<HubMetrics>) -> Self {
        Self {
            worker,
            shared,
            metrics,
            topics: RefCell::default(),
            clients: RefCell::default(),
            generation: Cell::new(0),
            away: RefCell::default(),
            paused: Paused::default(),
        }
    }

    /// Gives a client a place, before its handshake is answered.
    ///
    /// Waits until the broker has confirmed the topic's subscription, so that a client that has its
    /// 101 misses nothing. When the broker is away, or does not answer in time, the client comes
    /// all the same: within the node messages reach it.
    pub async fn admit(
        self: &Rc<Self>,
        topic: Topic,
        route: Arc<HubRoute>,
        applicant: Applicant<'_>,
    ) -> Result<Admission, Refusal> {
        let membership = self.enter(topic, route, applicant)?;
        let subscribers = &membership.client.subscribers;
        if !subscribers.stands.get() {
            let confirmed = self.until_confirmed(subscribers);
            let limit = self.shared.config.broker_timeout.0;
            if tokio::time::timeout(limit, confirmed).await.is_err() || !subscribers.stands.get() {
                self.metrics.degraded_admissions.add(1);
            }
        }
        Ok(Admission::new(membership))
    }

    async fn until_confirmed(&self, subscribers: &Subscribers) {
        loop {
            let changed = subscribers.changed.notified();
            if subscribers.stands.get() || self.shared.link.interests().is_away() {
                return;
            }
            changed.await;
        }
    }

    fn enter(
        self: &Rc<Self>,
        topic: Topic,
        route: Arc<HubRoute>,
        applicant: Applicant<'_>,
    ) -> Result<Membership, Refusal> {
        if self.worker.is_draining() {
            return Err(Refusal::Draining);
        }
        let Applicant { subprotocols, live, renewal } = applicant;
        let protocol = Protocol::choose(subprotocols);
        let pass = Pass::issue(&route.config, &topic, live, renewal)
            .inspect_err(|_| self.metrics.denied[DENIED_SUBSCRIBE].add(1))?;
        let expires = pass.as_ref().and_then(|pass| pass.expires());
        let subscribers = self.subscribers(topic)?;
        let client = {
            let mut clients = self.clients.borrow_mut();
            let place = clients.vacant_entry();
            let generation = self.generation.get().wrapping_add(1);
            self.generation.set(generation);
            let id = ClientId::new(self.worker.index(), place.key(), generation);
            let client = Rc::new(Client::new(id, protocol, route, subscribers, pass));
            place.insert(Rc::clone(&client));
            client
        };
        client.subscribers.join(&client);
        self.metrics.clients.add(1);
        trace!(client = ?client.id, topic = %client.subscribers.topic, "subscribed");
        let mut hello = BytesMut::new();
        let topic = &client.subscribers.topic;
        protocol.encode_hello(&self.shared.node_name, topic, expires, &mut hello);
        self.send(&client, hello);
        if let Some(why) = &*self.away.borrow() {
            self.tell_away(&client, why);
        }
        Ok(Membership { shard: Rc::clone(self), client })
    }

    /// The subscribers of `topic`, which the node is subscribed to from now on.
    fn subscribers(&self, topic: Topic) -> Result<Rc<Subscribers>, Refusal> {
        if let Some(subscribers) = self.topics.borrow().get(&topic) {
            return Ok(Rc::clone(subscribers));
        }
        let link = &self.shared.link;
        let standing = link.subscribe(&topic, self.worker.index()).map_err(|_| Refusal::Busy)?;
        let subscribers = Rc::new(Subscribers::new(topic.clone(), standing == Standing::Stands));
        self.topics.borrow_mut().insert(topic, Rc::clone(&subscribers));
        self.metrics.topics.add(1);
        Ok(subscribers)
    }

    /// Takes a client out of its topic: it gets no more deliveries.
    pub(crate) fn leave_topic(&self, client: &Client) {
        let subscribers = &client.subscribers;
        if client.place.get().is_none() {
            return;
        }
        subscribers.leave(client);
        if subscribers.is_empty() {
            self.topics.borrow_mut().remove(&subscribers.topic);
            self.metrics.topics.sub(1);
            self.shared.link.unsubscribe(&subscribers.topic, self.worker.index());
        }
    }

    /// Forgets a client.
    pub(crate) fn remove(&self, client: &Client) {
        self.leave_topic(client);
        let removed = self.clients.borrow_mut().try_remove(client.id.key());
        debug_assert!(removed.is_some_and(|it| it.id == client.id), "a client leaves once");
        self.metrics.clients.sub(1);
        let mut clients = self.clients.borrow_mut();
        // A burst must not hold its memory for ever.
        if clients.is_empty() && clients.capacity() > 1024 {
            *clients = Slab::new();
        }
    }

    /// Publishes what a client said. When room gets scarce the client should not be read from.
    pub(crate) fn publish(&self, client: &Rc<Client>, kind: Kind, message: Bytes) -> Room {
        let topic = &client.subscribers.topic;
        if let Some(pass) = client.pass.as_deref().filter(|pass| !pass.may_publish()) {
            self.deny(client, pass);
            return Room::Ample;
        }
        let payload = match (&client.route.config.reply, kind) {
            (Some(reply), Kind::Text) => reply.expand(&message, &self.shared.node_name, topic),
            _ => message,
        };
        let origin = Origin { node: self.shared.node, client: client.id };
        match self.shared.link.publish(topic, Publication { kind, origin, payload }) {
            Ok(room) => {
                // It was told that messages were refused, and this one was not.
                if self.away.borrow().is_none() {
                    self.tell_restored(client);
                }
                room
            }
            Err(full) => {
                self.metrics.publish_refused.add(1);
                self.tell_undelivered(client, &full.to_string());
                Room::Scarce
            }
        }
    }

    fn deny(&self, client: &Client, pass: &Pass) {
        self.metrics.denied[DENIED_PUBLISH].add(1);
        if let Some(undelivered) = pass.note_denied(self.worker.now()) {
            self.notify(client, &Notice::Denied { undelivered });
        }
    }

    /// A client has sent a newer token.
    pub(crate) fn renew(&self, client: &Client, text: &[u8]) {
        let (topic, now) = (&client.subscribers.topic, self.worker.now());
        let renewed = match client.pass.as_deref() {
            Some(pass) => pass.renew(text, now, &client.route.config, topic),
            None => Err(NOTHING_TO_RENEW.to_owned()),
        };
        self.metrics.renewals[usize::from(renewed.is_err())].add(1);
        match renewed {
            Ok(expires) => self.notify(client, &Notice::Renewed { expires }),
            Err(why) => {
                let expires = client.pass.as_ref().and_then(|pass| pass.expires());
                self.notify(client, &Notice::RenewalRefused { why: &why, expires });
            }
        }
    }

    /// The identity of a client ends soon.
    pub(crate) fn tell_expiring(&self, client: &Client, seconds: u64, expires: u64) {
        if client.protocol.has_notices() {
            self.notify(client, &Notice::Expiring { seconds, expires });
        }
    }

    pub(crate) fn find(&self, topic: &Topic) -> Option<Rc<Subscribers>> {
        self.topics.borrow().get(topic).map(Rc::clone)
    }

    /// The client that published, if it is one of this shard's and still there.
    pub(crate) fn client_of(&self, origin: Origin) -> Option<Rc<Client>> {
        if origin.node != self.shared.node || origin.client.worker() != self.worker.index() {
            return None;
        }
        let clients = self.clients.borrow();
        clients.get(origin.client.key()).filter(|it| it.id == origin.client).map(Rc::clone)
    }

    /// The broker came or went.
    pub(crate) fn on_changed(&self, state: &BrokerState) {
        let why = match state {
            BrokerState::Away { why, .. } => Some(Arc::clone(why)),
            BrokerState::Connecting | BrokerState::Connected => None,
        };
        self.away.borrow_mut().clone_from(&why);
        let clients: Vec<_> = self.clients.borrow().iter().map(|(_, it)| Rc::clone(it)).collect();
        match why {
            Some(why) => {
                // Admissions need not wait for a confirmation that will not come.
                self.topics.borrow().values().for_each(|it| it.changed.notify_waiters());
                clients.iter().for_each(|client| self.tell_away(client, &why));
            }
            None => clients.iter().for_each(|client| self.tell_restored(client)),
        }
    }

    pub(crate) fn on_subscribed(&self, topics: &[Topic]) {
        for topic in topics {
            if let Some(subscribers) = self.find(topic) {
                subscribers.stands.set(true);
                subscribers.changed.notify_waiters();
            }
        }
    }

    /// A message of `client` did not, or may not have, reached other nodes.
    pub(crate) fn note_undelivered(&self, client: &Client) {
        let why = self.away.borrow().clone();
        self.tell_undelivered(client, why.as_deref().unwrap_or("the broker was away"));
    }

    fn tell_undelivered(&self, client: &Client, why: &str) {
        self.metrics.publish_undelivered.add(1);
        let mut standing = client.standing.get();
        let must_tell = standing.note_undelivered();
        client.standing.set(standing);
        match self.shared.config.away {
            Away::Notice if must_tell => {
                self.notify(client, &Notice::Degraded { why, undelivered: standing.undelivered() });
            }
            Away::Close => client.wish_for(Wish::BrokerAway),
            Away::Notice | Away::Quiet => {}
        }
    }

    fn tell_away(&self, client: &Client, why: &str) {
        if !client.protocol.has_notices() || self.shared.config.away != Away::Notice {
            return;
        }
        let mut standing = client.standing.get();
        if standing.note_away() {
            client.standing.set(standing);
            self.notify(client, &Notice::Degraded { why, undelivered: standing.undelivered() });
        }
    }

    fn tell_restored(&self, client: &Client) {
        let mut standing = client.standing.get();
        let Some(undelivered) = standing.note_restored() else { return };
        client.standing.set(standing);
        if self.shared.config.away == Away::Notice {
            self.notify(client, &Notice::Restored { undelivered });
        }
    }

    fn notify(&self, client: &Client, notice: &Notice<'_>) {
        if client.place.get().is_none() {
            return; // It is being closed: nothing may follow our Close.
        }
        let mut frame = BytesMut::new();
        client.protocol.encode_notice(notice, &mut frame);
        self.send(client, frame);
    }

    /// Sends frames of our own making.
    pub(crate) fn send(&self, client: &Client, frames: BytesMut) {
        if !frames.is_empty() {
            client.send(&[frames.freeze()], self.meter());
        }
    }

    pub(crate) fn meter(&self) -> Meter<'_> {
        Meter { metrics: &self.metrics, queue_bytes_max: self.shared.config.queue.0 as usize }
    }

    pub(crate) fn paused(&self) -> &Paused {
        &self.paused
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("worker", &self.worker.index()).finish_non_exhaustive()
    }
}

/// The clients that are not read from because room is scarce somewhere behind them: with the
/// broker, or with a worker. They look again after a moment, all of them with one timer.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    wakers: RefCell<Vec<Waker>>,
    /// How often they were let go on.
    rounds: Cell<u32>,
    any: Notify,
}

impl Paused {
    /// Pauses a client until the round that is returned is over.
    pub(crate) fn enter(&self, waker: &Waker) -> u32 {
        self.wakers.borrow_mut().push(waker.clone());
        self.any.notify_one();
        self.rounds.get()
    }

    pub(crate) fn is_over(&self, round: u32) -> bool {
        self.rounds.get() != round
    }

    /// Lets paused clients go on, a moment after each was paused. Never ends.
    pub(crate) async fn run(shard: std::rc::Weak<Shard>) {
        while let Some(strong) = shard.upgrade() {
            strong.paused.any.notified().await;
            tokio::time::sleep(PAUSE).await;
            strong.paused.rounds.set(strong.paused.rounds.get().wrapping_add(1));
            let wakers = std::mem::take(&mut *strong.paused.wakers.borrow_mut());
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Indexes of `metrics::DENIED`.
const DENIED_SUBSCRIBE: usize = 0;
const DENIED_PUBLISH: usize = 1;

const PAUSE: Duration = Duration::from_millis(5);
