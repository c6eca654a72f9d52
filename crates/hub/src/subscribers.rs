//! The clients of one worker that are subscribed to one topic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::client::Client;
use crate::protocol::Protocol;
use crate::topic::Topic;

/// A topic on one worker.
#[derive(Debug)]
pub(crate) struct Subscribers {
    pub(crate) topic: Topic,
    clients: [RefCell<Vec<Rc<Client>>>; Protocol::ALL.len()],
    /// Whether the broker has confirmed the subscription.
    pub(crate) stands: Cell<bool>,
    /// Wakes the admissions that wait for that.
    pub(crate) changed: Notify,
    /// Its place among the topics of the present turn, if it has one.
    pub(crate) turn: Cell<Option<u32>>,
}

impl Subscribers {
    pub(crate) fn new(topic: Topic, stands: bool) -> Self {
        Self {
            topic,
            clients: Default::default(),
            stands: Cell::new(stands),
            changed: Notify::new(),
            turn: Cell::new(None),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.iter().all(|clients| clients.borrow().is_empty())
    }

    /// The clients that speak `protocol`. Must not be held while one joins or leaves.
    pub(crate) fn of(&self, protocol: Protocol) -> std::cell::Ref<'_, Vec<Rc<Client>>> {
        self.clients[protocol.index()].borrow()
    }

    pub(crate) fn join(&self, client: &Rc<Client>) {
        let mut clients = self.clients[client.protocol.index()].borrow_mut();
        client.place.set(Some(clients.len() as u32));
        clients.push(Rc::clone(client));
    }

    /// Takes `client` out, if it is in.
    pub(crate) fn leave(&self, client: &Client) {
        let Some(place) = client.place.take() else { return };
        let mut clients = self.clients[client.protocol.index()].borrow_mut();
        clients.swap_remove(place as usize);
        if let Some(moved) = clients.get(place as usize) {
            moved.place.set(Some(place));
        }
        if clients.len() < clients.capacity() / 4 {
            clients.shrink_to_fit();
        }
    }
}
