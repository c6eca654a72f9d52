//! A message on its way to the subscribers of a topic, and who said it.

use std::fmt;

use bytes::Bytes;

/// A message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub kind: Kind,
    pub origin: Origin,
    /// Of a text, checked to be UTF-8.
    pub payload: Bytes,
}

/// The two kinds of WebSocket messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// Who published: a client, by its id on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub node: NodeId,
    pub client: ClientId,
}

/// One run of one node. Random, so that a node that was started again is another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A client of a node: its worker, its place there, and which of the clients that have had the
/// place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    pub(crate) fn new(worker: usize, key: usize, generation: u32) -> Self {
        debug_assert!(worker < 1 << WORKER_BITS, "a node has fewer than 4096 workers");
        debug_assert!(key <= u32::MAX as usize, "a worker has fewer clients than 2^32");
        let generation = u64::from(generation) % (1 << GENERATION_BITS);
        Self((worker as u64) << (64 - WORKER_BITS) | generation << KEY_BITS | key as u64)
    }

    pub(crate) fn worker(self) -> usize {
        (self.0 >> (64 - WORKER_BITS)) as usize
    }

    pub(crate) fn key(self) -> usize {
        (self.0 % (1 << KEY_BITS)) as usize
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

const WORKER_BITS: u32 = 12;
const GENERATION_BITS: u32 = 20;
const KEY_BITS: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_gives_back_worker_and_key() {
        let id = ClientId::new(4095, u32::MAX as usize, u32::MAX);
        assert_eq!((id.worker(), id.key()), (4095, u32::MAX as usize));
        let id = ClientId::new(1, 7, 3);
        assert_eq!((id.worker(), id.key()), (1, 7));
        assert_ne!(id, ClientId::new(1, 7, 4));
    }
}
