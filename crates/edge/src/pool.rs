//! Connections to servers that are kept for the next plain request, by worker.
//!
//! Only after an exchange that was whole on both sides. What was a WebSocket, or nearly one, never
//! comes here. One that has begun by saying whose it is serves nobody else.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use hyper::client::conn::http1::SendRequest;

use crate::client_body::ClientBody;
use crate::send_proxy::Whose;
use crate::server::ServerId;

/// Idle connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<ServerId, Vec<Sender>>>,
    /// Those whose servers were told whose they are, the one used last at the end.
    told: RefCell<HashMap<ServerId, VecDeque<(Whose, Sender)>>>,
}

type Sender = SendRequest<ClientBody>;

impl Pool {
    /// A connection to the server that is still open, the one used last first; one of `whose`, if
    /// servers are told.
    pub async fn take(&self, server: ServerId, whose: Option<Whose>) -> Option<Sender> {
        loop {
            let mut sender = match whose {
                None => self.idle.borrow_mut().get_mut(&server)?.pop()?,
                Some(whose) => self.take_told(server, whose)?,
            };
            // Ready as soon as hyper has put the last response behind it; an error means closed.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn take_told(&self, server: ServerId, whose: Whose) -> Option<Sender> {
        let mut told = self.told.borrow_mut();
        let kept = told.get_mut(&server)?;
        let at = kept.iter().rposition(|(of, _)| *of == whose)?;
        kept.remove(at).map(|(_, sender)| sender)
    }

    /// Keeps a connection, unless there are enough.
    pub fn put(&self, server: ServerId, whose: Option<Whose>, sender: Sender) {
        if let Some(whose) = whose {
            return self.put_told(server, whose, sender);
        }
        let mut idle = self.idle.borrow_mut();
        if !idle.contains_key(&server) {
            // Servers come and go: of one that is gone, nothing is kept when it has closed all.
            idle.retain(|_, kept| {
                kept.retain(|sender| !sender.is_closed());
                !kept.is_empty()
            });
        }
        let kept = idle.entry(server).or_default();
        kept.retain(|sender| !sender.is_closed());
        if kept.len() < IDLE_MOST && !sender.is_closed() {
            kept.push(sender);
        }
    }

    /// Keeps a connection of somebody's. Clients come and go as well, so it is the oldest one that
    /// makes room.
    fn put_told(&self, server: ServerId, whose: Whose, sender: Sender) {
        if !whose.is_one() || sender.is_closed() {
            return;
        }
        let mut told = self.told.borrow_mut();
        if !told.contains_key(&server) {
            told.retain(|_, kept| {
                kept.retain(|(_, sender)| !sender.is_closed());
                !kept.is_empty()
            });
        }
        let kept = told.entry(server).or_default();
        kept.retain(|(_, sender)| !sender.is_closed());
        if kept.len() >= IDLE_MOST {
            kept.pop_front();
        }
        kept.push_back((whose, sender));
    }

    pub fn len(&self) -> usize {
        let told: usize = self.told.borrow().values().map(VecDeque::len).sum();
        self.idle.borrow().values().map(Vec::len).sum::<usize>() + told
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Idle connections kept per server and worker.
const IDLE_MOST: usize = 64;
