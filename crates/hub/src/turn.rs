//! The frames of one turn for one topic, encoded once for all clients of a protocol.
//!
//! ```text
//!   publications   a         b          c
//!   bytes          [frame a ][frame b  ][frame c ]      for everybody: one slice, one write
//!   own            client 7: skip b, or get this one:   for client 7: [frame a][own b][frame c]
//! ```
//!
//! Pure. Who wrote a publication matters to one client only, so it is the exception that is kept,
//! not a list for each client.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::protocol::{OwnFrame, Protocol};
use crate::publication::{ClientId, Publication};

/// What the sender of a publication gets of it, when it is a client of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) client: ClientId,
    /// Whether it gets its own messages.
    pub(crate) to_sender: bool,
}

/// Frames while they are being collected.
#[derive(Debug)]
pub(crate) struct Turn {
    protocol: Protocol,
    bytes: BytesMut,
    messages: u32,
    own: Vec<Own>,
}

/// Where a client's own message is, and what it gets instead: nothing, if that is empty.
#[derive(Clone, Debug)]
struct Own {
    client: ClientId,
    at: Range<usize>,
    instead: Bytes,
}

impl Turn {
    /// A turn that collects into `buffer`, which is empty.
    pub(crate) fn new(protocol: Protocol, buffer: BytesMut) -> Self {
        debug_assert!(buffer.is_empty(), "a turn begins with nothing");
        Self { protocol, bytes: buffer, messages: 0, own: Vec::new() }
    }

    /// Adds a publication; `sender` if it came from a client that this turn goes to.
    pub(crate) fn push(&mut self, publication: &Publication, sender: Option<Sender>) {
        let start = self.bytes.len();
        self.protocol.encode(publication, &mut self.bytes);
        self.messages += 1;
        let at = start..self.bytes.len();
        let Some(Sender { client, to_sender }) = sender else { return };
        if !to_sender {
            return self.own.push(Own { client, at, instead: Bytes::new() });
        }
        let mut frame = BytesMut::new();
        if self.protocol.encode_own(publication, &mut frame) == OwnFrame::Appended {
            self.own.push(Own { client, at, instead: frame.freeze() });
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes collected.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the collecting.
    pub(crate) fn finish(mut self) -> Frames {
        // Stable: the own messages of a client stay in their order.
        self.own.sort_by_key(|own| own.client);
        Frames { bytes: self.bytes.freeze(), messages: self.messages, own: self.own }
    }
}

/// The frames of a turn, ready to be written to every client of the protocol.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Bytes,
    messages: u32,
    /// By client, and in the order of `bytes` for each of them.
    own: Vec<Own>,
}

/// What one client gets: chunks of whole frames, and how many messages they are.
pub(crate) type Share = (SmallVec<[Bytes; 3]>, u32);

impl Frames {
    /// All the bytes, if that is what `client` gets, and the number of messages in it.
    pub(crate) fn whole(&self, client: ClientId) -> Option<(&Bytes, u32)> {
        let is_whole = self.own.is_empty() || self.own_of(client).is_empty();
        is_whole.then_some((&self.bytes, self.messages))
    }

    /// What `client` gets, when it has written something itself.
    pub(crate) fn share(&self, client: ClientId) -> Share {
        let mut chunks = SmallVec::new();
        let mut messages = self.messages;
        let mut add = |chunk: Bytes| {
            if !chunk.is_empty() {
                chunks.push(chunk);
            }
        };
        let mut start = 0;
        for own in self.own_of(client) {
            add(self.bytes.slice(start..own.at.start));
            messages -= u32::from(own.instead.is_empty());
            add(own.instead.clone());
            start = own.at.end;
        }
        add(self.bytes.slice(start..));
        (chunks, messages)
    }

    /// The buffer, to be used again, if no client's outbox shares it.
    pub(crate) fn into_buffer(self) -> Option<BytesMut> {
        let mut buffer = self.bytes.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer)
    }

    fn own_of(&self, client: ClientId) -> &[Own] {
        let start = self.own.partition_point(|own| own.client < client);
        let count = self.own[start..].partition_point(|own| own.client == client);
        &self.own[start..start + count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::{Kind, NodeId, Origin};

    fn publication(random: &mut fastrand::Rng, client: ClientId) -> Publication {
        let kind = if random.bool() { Kind::Text } else { Kind::Binary };
        let payload: String = (0..random.usize(0..200)).map(|_| random.alphanumeric()).collect();
        Publication { kind, origin: Origin { node: NodeId(1), client }, payload: payload.into() }
    }

    /// What `client` gets, message by message, as the protocol says.
    fn model(
        protocol: Protocol,
        said: &[(Publication, Option<Sender>)],
        client: ClientId,
    ) -> (Vec<u8>, u32) {
        let (mut bytes, mut messages) = (BytesMut::new(), 0);
        for (publication, sender) in said {
            match sender.filter(|sender| sender.client == client) {
                Some(Sender { to_sender: false, .. }) => continue,
                Some(_) if protocol.encode_own(publication, &mut bytes) == OwnFrame::Appended => {}
                _ => protocol.encode(publication, &mut bytes),
            }
            messages += 1;
        }
        (bytes.to_vec(), messages)
    }

    fn got(frames: &Frames, client: ClientId) -> (Vec<u8>, u32) {
        let (chunks, messages) = match frames.whole(client) {
            Some((bytes, messages)) => (SmallVec::from_iter([bytes.clone()]), messages),
            None => frames.share(client),
        };
        (chunks.concat(), messages)
    }

    /// Random turns against the simple model: every client, also one that said nothing, gets
    /// every message in order, its own as it should.
    #[test]
    fn every_client_gets_its_share_of_a_turn() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let protocol = Protocol::ALL[random.usize(0..Protocol::ALL.len())];
            let clients: Vec<_> = (0..8).map(|key| ClientId::new(0, key, 0)).collect();
            let to_sender: Vec<bool> = clients.iter().map(|_| random.bool()).collect();
            let mut turn = Turn::new(protocol, BytesMut::new());
            let mut said = Vec::new();
            for _ in 0..random.usize(1..30) {
                let from = random.usize(0..clients.len() - 1);
                let publication = publication(&mut random, clients[from]);
                let sender = Sender { client: clients[from], to_sender: to_sender[from] };
                // Some come from other nodes.
                let sender = random.bool().then_some(sender);
                turn.push(&publication, sender);
                said.push((publication, sender));
            }
            let frames = turn.finish();
            for &client in &clients {
                let expected = model(protocol, &said, client);
                assert_eq!(got(&frames, client), expected, "seed {seed}, client {client:?}");
            }
        }
    }

    #[test]
    fn the_buffer_comes_back_when_nobody_shares_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut turn = Turn::new(Protocol::Raw, BytesMut::with_capacity(4096));
        turn.push(&publication(&mut random, ClientId(1)), None);
        let frames = turn.finish();
        let (kept, _) = frames.share(ClientId(2));
        assert!(frames.into_buffer().is_none());
        drop(kept);
        let mut turn = Turn::new(Protocol::Raw, BytesMut::with_capacity(4096));
        turn.push(&publication(&mut random, ClientId(1)), None);
        let buffer = turn.finish().into_buffer().unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= 4096);
    }
}
