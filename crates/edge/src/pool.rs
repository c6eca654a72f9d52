//! Connections to servers that are kept for the next plain request, by worker.
//!
//! Only after an exchange that was whole on both sides. What was a WebSocket, or nearly one, never
//! comes here.

use std::cell::RefCell;
use std::collections::HashMap;

use hyper::client::conn::http1::SendRequest;

use crate::client_body::ClientBody;
use crate::server::ServerId;

/// Idle connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<ServerId, Vec<SendRequest<ClientBody>>>>,
}

impl Pool {
    /// A connection to the server that is still open, the one used last first.
    pub async fn take(&self, server: ServerId) -> Option<SendRequest<ClientBody>> {
        loop {
            let mut sender = self.idle.borrow_mut().get_mut(&server)?.pop()?;
            // Ready as soon as hyper has put the last response behind it; an error means closed.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection, unless there are enough.
    pub fn put(&self, server: ServerId, sender: SendRequest<ClientBody>) {
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

    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Idle connections kept per server and worker.
const IDLE_MOST: usize = 64;
