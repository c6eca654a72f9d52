//! The task that brings publications from the link to the clients of a worker.
//!
//! A turn is what waits in the inbox when the task runs: the publications of a topic are encoded
//! behind each other, once per protocol, and each subscriber gets them in one write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::BytesMut;
use tracing::error;

use crate::broker::Reach;
use crate::client::Client;
use crate::interest::Delivery;
use crate::protocol::Protocol;
use crate::publication::Publication;
use crate::queue::Receiver;
use crate::shard::Shard;
use crate::subscribers::Subscribers;
use crate::topic::Topic;
use crate::turn::{Frames, Sender, Turn};

/// Runs the deliveries of a shard, until its hub has ended.
pub(crate) async fn run(shard: Rc<Shard>, mut inbox: Receiver<Delivery>) {
    let mut items = Vec::new();
    let mut turns = Turns::default();
    loop {
        let count = inbox.recv_many(&mut items, ITEMS_PER_TURN).await;
        if count == 0 {
            return;
        }
        let turn = AssertUnwindSafe(|| turns.run(&shard, &mut items));
        if catch_unwind(turn).is_err() {
            shard.metrics.panics.add(1);
            error!("a turn of deliveries ended by a panic; the rest of it was dropped");
            items.clear();
            turns.abandon();
        }
        // More waits: let the clients' tasks read and drain in between.
        if count == ITEMS_PER_TURN {
            tokio::task::yield_now().await;
        }
    }
}

/// The turns of all topics that something was published to.
#[derive(Debug, Default)]
struct Turns {
    open: Vec<OpenTurn>,
    bytes: usize,
    /// Senders whose message did not go everywhere, once for each message.
    undelivered: Vec<Rc<Client>>,
    buffers: Buffers,
}

#[derive(Debug)]
struct OpenTurn {
    subscribers: Rc<Subscribers>,
    /// By protocol, for those that somebody speaks.
    turns: [Option<Turn>; Protocol::ALL.len()],
}

impl Turns {
    fn run(&mut self, shard: &Shard, items: &mut Vec<Delivery>) {
        for item in items.drain(..) {
            match item {
                Delivery::Publication(topic, publication, reach) => {
                    self.collect(shard, &topic, &publication, reach);
                    if self.bytes >= TURN_BYTES_MAX {
                        self.flush(shard);
                    }
                }
                Delivery::Subscribed(topics) => shard.on_subscribed(&topics),
                Delivery::Changed(state) => {
                    self.flush(shard);
                    shard.on_changed(&state);
                }
                #[cfg(test)]
                Delivery::Panic => panic!("as planted"),
            }
        }
        self.flush(shard);
    }

    fn collect(&mut self, shard: &Shard, topic: &Topic, publication: &Publication, reach: Reach) {
        let Some(subscribers) = shard.find(topic) else {
            return; // Its last client here left while it was on its way.
        };
        let sender = shard.client_of(publication.origin);
        let turns = self.turns_of(subscribers);
        let mut bytes = 0;
        for turn in turns.iter_mut().flatten() {
            let own = sender.as_ref().filter(|sender| sender.protocol == turn.protocol());
            let before = turn.len();
            turn.push(
                publication,
                own.map(|it| Sender { client: it.id, to_sender: it.route.config.to_sender }),
            );
            bytes += turn.len() - before;
        }
        self.bytes += bytes;
        if let Some(sender) = sender.filter(|_| reach != Reach::Everywhere) {
            self.undelivered.push(sender);
        }
    }

    /// The open turns of a topic, by protocol.
    fn turns_of(
        &mut self,
        subscribers: Rc<Subscribers>,
    ) -> &mut [Option<Turn>; Protocol::ALL.len()] {
        let index = subscribers.turn.get().unwrap_or_else(|| {
            subscribers.turn.set(Some(self.open.len() as u32));
            let turns = Protocol::ALL.map(|protocol| {
                let is_spoken = !subscribers.of(protocol).is_empty();
                is_spoken.then(|| Turn::new(protocol, self.buffers.take()))
            });
            self.open.push(OpenTurn { subscribers, turns });
            self.open.len() as u32 - 1
        });
        &mut self.open[index as usize].turns
    }

    fn flush(&mut self, shard: &Shard) {
        self.bytes = 0;
        for OpenTurn { subscribers, turns } in self.open.drain(..) {
            subscribers.turn.set(None);
            for (protocol, turn) in Protocol::ALL.into_iter().zip(turns) {
                if let Some(turn) = turn {
                    let frames = turn.finish();
                    write(shard, &subscribers.of(protocol), &frames);
                    self.buffers.give_back(frames);
                }
            }
        }
        for sender in self.undelivered.drain(..) {
            shard.note_undelivered(&sender);
        }
    }

    /// Forgets what a panic has left behind.
    fn abandon(&mut self) {
        for open in self.open.drain(..) {
            open.subscribers.turn.set(None);
        }
        self.undelivered.clear();
        self.bytes = 0;
    }
}

/// Gives each of the clients its share.
fn write(shard: &Shard, clients: &[Rc<Client>], frames: &Frames) {
    let meter = shard.meter();
    for client in clients {
        match frames.whole(client.id) {
            Some((bytes, messages)) => {
                client.deliver(std::slice::from_ref(bytes), messages, meter);
            }
            None => {
                let (chunks, messages) = frames.share(client.id);
                client.deliver(&chunks, messages, meter);
            }
        }
    }
}

/// Buffers to encode into, used again from turn to turn.
#[derive(Debug, Default)]
struct Buffers {
    free: Vec<BytesMut>,
    bytes: usize,
}

impl Buffers {
    fn take(&mut self) -> BytesMut {
        let buffer = self.free.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give_back(&mut self, frames: Frames) {
        let Some(buffer) = frames.into_buffer() else { return };
        if self.bytes + buffer.capacity() <= FREE_BYTES_MAX && self.free.len() < FREE_MAX {
            self.bytes += buffer.capacity();
            self.free.push(buffer);
        }
    }
}

/// Items taken from the inbox at once.
const ITEMS_PER_TURN: usize = 512;

/// A turn ends early at so many encoded bytes, so that slow clients hold little of it.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// What a shard's free buffers hold at most.
const FREE_BYTES_MAX: usize = 1024 * 1024;
const FREE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tidewire_runtime::conn::Conn;
    use tidewire_runtime::worker::{BuildService, Service, Worker, Workers};
    use tokio::runtime::Runtime;

    use crate::broker::memory::MemoryBroker;
    use crate::config::HubConfig;
    use crate::hub::Hub;

    use super::*;

    struct Nothing;

    impl Service for Nothing {
        fn serve(&self, _: Conn, _: usize) {}
    }

    #[test]
    fn a_panic_ends_one_turn_and_not_the_deliveries() {
        let runtime = Runtime::new().unwrap();
        let memory = MemoryBroker::new();
        let hub = Hub::start(HubConfig::default(), &memory, runtime.handle(), 1);
        let for_worker = Arc::clone(&hub);
        let build: BuildService = Arc::new(move |worker: &Rc<Worker>| -> Rc<dyn Service> {
            for_worker.shard(worker);
            Rc::new(Nothing)
        });
        let workers = Workers::spawn("test", 1, Vec::new(), &build).unwrap();
        for count in 1..=3 {
            hub.shared.link.interests().plant_panic(0);
            let start = Instant::now();
            while hub.metrics()[0].panics.value() < count {
                assert!(start.elapsed() < Duration::from_secs(20), "the deliveries have ended");
                std::thread::yield_now();
            }
        }
        workers.drainer().stop();
        workers.join();
    }
}
