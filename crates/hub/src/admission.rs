//! A client's place in the hub: held from before the 101 until its connection is over.

use std::rc::Rc;

use tidewire_runtime::conn::Upgraded;

use crate::client::Client;
use crate::client_task::ClientTask;
use crate::close::ClientEnd;
use crate::shard::Shard;

/// A client that may come. It is subscribed already: what is published from now on waits for it.
/// Dropping the admission gives the place back.
#[derive(Debug)]
pub struct Admission {
    membership: Membership,
}

/// Why a client may not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the node drains")]
    Draining,
    #[error("you may not subscribe to this topic")]
    Forbidden,
    #[error("the queue towards the broker is full")]
    Busy,
}

/// Tells how a client's connection ended. Called once.
pub type Done = Box<dyn FnOnce(ClientEnd)>;

impl Admission {
    pub(crate) fn new(membership: Membership) -> Self {
        Self { membership }
    }

    /// The subprotocol that the 101 must name.
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.membership.client.protocol.subprotocol()
    }

    /// Serves the client in a task of its own, on this thread, until its connection is over.
    pub fn start(self, upgraded: Upgraded, done: Done) {
        tokio::task::spawn_local(ClientTask::new(self.membership, upgraded, done));
    }
}

/// A client in its shard's tables; leaves them when dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) shard: Rc<Shard>,
    pub(crate) client: Rc<Client>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shard.remove(&self.client);
    }
}
