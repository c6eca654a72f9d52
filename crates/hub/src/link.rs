//! The link: what the shards of a node ask of the broker, together.
//!
//! The node subscribes to a topic when the first of its workers has a client on it, and
//! unsubscribes some time after the last one has none: a page that is loaded again must not cost
//! the broker two commands.
//!
//! Locks are taken in this order: control, the broker's, interests. A publication on its way holds
//! the last two, so control never waits for one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::broker::{Broker, Full, Room, Standing};
use crate::interest::Interests;
use crate::publication::Publication;
use crate::striped::lock;
use crate::topic::Topic;

/// A node's shards at its broker.
#[derive(Debug)]
pub(crate) struct Link {
    broker: Arc<dyn Broker>,
    interests: Arc<Interests>,
    unsubscribe_delay: Duration,
    /// The topics that no worker wants, longest first. Its lock also puts subscriptions and
    /// unsubscriptions into the order in which the broker hears them.
    control: Mutex<VecDeque<(Instant, Topic)>>,
    listed: Notify,
}

impl Link {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        interests: Arc<Interests>,
        unsubscribe_delay: Duration,
    ) -> Self {
        Self {
            broker,
            interests,
            unsubscribe_delay,
            control: Mutex::default(),
            listed: Notify::new(),
        }
    }

    pub(crate) fn interests(&self) -> &Arc<Interests> {
        &self.interests
    }

    /// `worker` has its first client on `topic`.
    pub(crate) fn subscribe(&self, topic: &Topic, worker: usize) -> Result<Standing, Full> {
        let _control = lock(&self.control);
        let is_new = {
            let mut table = self.interests.topics().lock(topic.as_str());
            let is_new = !table.contains_key(topic);
            let interest = table.entry(topic.clone()).or_default();
            interest.workers.push(worker as u16);
            interest.idle_since = None;
            is_new
        };
        let asked = match is_new {
            true => self.broker.subscribe(topic),
            false => Ok(Standing::Asked),
        };
        let mut table = self.interests.topics().lock(topic.as_str());
        match asked {
            Ok(asked) => {
                let interest = table.get_mut(topic).expect("control keeps it in the table");
                interest.stands |= asked == Standing::Stands;
                Ok(if interest.stands { Standing::Stands } else { Standing::Asked })
            }
            Err(full) => {
                table.remove(topic);
                Err(full)
            }
        }
    }

    /// `worker` has no client on `topic` any more.
    pub(crate) fn unsubscribe(&self, topic: &Topic, worker: usize) {
        let mut control = lock(&self.control);
        let mut table = self.interests.topics().lock(topic.as_str());
        let Some(interest) = table.get_mut(topic) else { return };
        interest.workers.retain(|wants| usize::from(*wants) != worker);
        if !interest.workers.is_empty() {
            return;
        }
        let now = Instant::now();
        interest.idle_since = Some(now);
        if !std::mem::replace(&mut interest.is_listed, true) {
            control.push_back((now, topic.clone()));
            self.listed.notify_one();
        }
    }

    pub(crate) fn publish(&self, topic: &Topic, publication: Publication) -> Result<Room, Full> {
        self.broker.publish(topic, publication)
    }

    pub(crate) fn flushed(&self) -> oneshot::Receiver<()> {
        self.broker.flushed()
    }

    /// Unsubscribes what nobody has wanted for long enough. Runs until it is aborted.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            let oldest = lock(&self.control).front().map(|(since, _)| *since);
            match oldest {
                None => self.listed.notified().await,
                Some(since) => {
                    let due = since + self.unsubscribe_delay;
                    // The least of sleeps, so that a broker whose queue is full is not besieged.
                    let soonest = Instant::now() + SWEEP_EVERY;
                    tokio::time::sleep_until(due.max(soonest).into()).await;
                    self.unsubscribe_due(Instant::now());
                }
            }
        }
    }

    fn unsubscribe_due(&self, now: Instant) {
        let mut control = lock(&self.control);
        let is_due = |since: Instant| since + self.unsubscribe_delay <= now;
        while control.front().is_some_and(|&(since, _)| is_due(since)) {
            let (_, topic) = control.pop_front().expect("there is a front");
            let mut table = self.interests.topics().lock(topic.as_str());
            let Some(interest) = table.get_mut(&topic) else { continue };
            interest.is_listed = false;
            match interest.idle_since {
                // Wanted again.
                None => {}
                // Wanted again, and then not.
                Some(since) if !is_due(since) => {
                    interest.is_listed = true;
                    control.push_back((since, topic));
                }
                Some(since) => {
                    let interest = table.remove(&topic).expect("it was there");
                    drop(table);
                    if self.broker.unsubscribe(&topic).is_err() {
                        let mut table = self.interests.topics().lock(topic.as_str());
                        let interest = crate::interest::Interest { is_listed: true, ..interest };
                        table.insert(topic.clone(), interest);
                        return control.push_back((since, topic));
                    }
                }
            }
        }
    }
}

const SWEEP_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::MemoryBroker;
    use crate::queue;

    /// Longer than a test can be held up.
    const DELAY: Duration = Duration::from_secs(600);

    fn link() -> Link {
        let (inbox, receiver) = queue::queue(1000);
        std::mem::forget(receiver);
        let interests = Arc::new(Interests::new(vec![inbox.clone(), inbox]));
        let broker = Arc::new(MemoryBroker::new().join(interests.clone()));
        Link::new(broker, interests, DELAY)
    }

    fn is_subscribed(link: &Link, topic: &Topic) -> bool {
        link.interests.topics().lock(topic.as_str()).contains_key(topic)
    }

    #[test]
    fn a_topic_is_unsubscribed_when_nobody_has_wanted_it_for_the_delay() {
        let (link, topic) = (link(), Topic::new("a").unwrap());
        link.subscribe(&topic, 0).unwrap();
        link.subscribe(&topic, 1).unwrap();
        link.unsubscribe(&topic, 0);
        link.unsubscribe_due(Instant::now() + DELAY);
        assert!(is_subscribed(&link, &topic), "worker 1 wants it");
        link.unsubscribe(&topic, 1);
        link.unsubscribe_due(Instant::now());
        assert!(is_subscribed(&link, &topic), "the delay has not passed");
        link.unsubscribe_due(Instant::now() + DELAY);
        assert!(!is_subscribed(&link, &topic));
    }

    #[test]
    fn a_topic_that_is_wanted_again_stays() {
        let (link, topic) = (link(), Topic::new("a").unwrap());
        for _ in 0..3 {
            assert_eq!(link.subscribe(&topic, 0), Ok(Standing::Stands));
            link.unsubscribe(&topic, 0);
        }
        assert_eq!(lock(&link.control).len(), 1);
        link.subscribe(&topic, 0).unwrap();
        link.unsubscribe_due(Instant::now() + DELAY);
        assert!(is_subscribed(&link, &topic));
        assert_eq!(lock(&link.control).len(), 0);
        link.unsubscribe(&topic, 0);
        link.unsubscribe_due(Instant::now() + DELAY);
        assert!(!is_subscribed(&link, &topic));
    }
}
