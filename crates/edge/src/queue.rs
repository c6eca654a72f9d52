//! Clients that wait for a server with room, first come, first served.
//!
//! A place that has become free is given to who waits for it, under the lock that every choice is
//! made under: nobody is woken to look and find that somebody else was faster, and nobody who comes
//! later goes first. Who waits for one server, since it sticks to it, does not hold up those behind
//! it who do not.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::backend::{Lease, NoServer};
use crate::caller::Preference;
use crate::server::ServerId;

/// What a client that has waited is given.
pub type Given = Result<Lease, NoServer>;

/// Clients that wait, the first to come in front.
#[derive(Debug)]
pub struct Queue {
    waiters: VecDeque<Waiter>,
    most: usize,
    next: Ticket,
}

/// What its place in the queue is called, so that it can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    wish: Wish,
    give: oneshot::Sender<Given>,
}

/// What a client wants of a server.
#[derive(Debug)]
pub struct Wish {
    pub preference: Preference,
    /// Those that could not be connected to.
    pub tried: Vec<ServerId>,
}

impl Queue {
    /// For as many.
    pub fn new(most: u32) -> Self {
        Self { waiters: VecDeque::new(), most: most as usize, next: Ticket(0) }
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.waiters.len() >= self.most
    }

    /// Goes behind all others.
    pub fn enter(&mut self, wish: Wish) -> (Ticket, oneshot::Receiver<Given>) {
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        let (give, given) = oneshot::channel();
        self.waiters.push_back(Waiter { ticket, wish, give });
        (ticket, given)
    }

    /// Leaves; true when it was still there, and had been given nothing.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        // Tickets are in order, so they can be searched for.
        match self.waiters.binary_search_by_key(&ticket.0, |waiter| waiter.ticket.0) {
            Ok(index) => self.waiters.remove(index).is_some(),
            Err(_) => false,
        }
    }

    /// Asks `give` for each who waits, in order, and takes those out who got something. What
    /// could not be handed over, as its waiter was just leaving, is returned.
    pub fn serve(&mut self, mut give: impl FnMut(&Wish) -> Option<Given>) -> Served {
        let mut served = Served::default();
        let mut index = 0;
        while let Some(waiter) = self.waiters.get(index) {
            match give(&waiter.wish) {
                None => index += 1,
                Some(given) => {
                    let waiter = self.waiters.remove(index).expect("it was there a line above");
                    served.count += 1;
                    served.returned.extend(waiter.give.send(given).err());
                }
            }
        }
        served
    }
}

/// What has come of a look through the queue.
#[derive(Debug, Default)]
pub struct Served {
    /// How many have left it.
    pub count: u32,
    /// To be dropped when the queue's lock is free: a lease that ends looks through the queue.
    pub returned: Vec<Given>,
}
