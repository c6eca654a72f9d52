//! A publication as it is on the way through a broker.
//!
//! ```text
//!   bytes   0   1   2        3                 4..12  12..20  20..28     28..
//!           T   W   version  1 text, 2 binary  node   client  sequence   payload
//! ```
//!
//! Numbers are big-endian. `sequence` counts what the node has published: it tells late ones and
//! repetitions apart from new ones. Anyone who may publish at the broker may send anything, so
//! nothing in here is trusted.

use bytes::{Buf, Bytes};

use crate::publication::{ClientId, Kind, NodeId, Origin, Publication};

/// A publication and its number among those of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub sequence: u64,
    pub publication: Publication,
}

/// Why bytes from a broker are not a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error("it was not published by Tidewire")]
    NotOurs,
    #[error("version {0} is not known here")]
    Version(u8),
    #[error("kind {0} is not known here")]
    Kind(u8),
    #[error("a text is not UTF-8")]
    TextNotUtf8,
}

impl Envelope {
    /// Reads an envelope; the payload shares the memory of `bytes`.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Foreign> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Foreign::NotOurs);
        };
        let mut header = &header[..];
        if header.get_u16() != MAGIC {
            return Err(Foreign::NotOurs);
        }
        match header.get_u8() {
            VERSION => {}
            other => return Err(Foreign::Version(other)),
        }
        let kind = match header.get_u8() {
            1 => Kind::Text,
            2 => Kind::Binary,
            other => return Err(Foreign::Kind(other)),
        };
        let node = NodeId(header.get_u64());
        let client = ClientId(header.get_u64());
        let sequence = header.get_u64();
        let payload = bytes.split_off(HEADER_BYTES);
        // One that is not UTF-8 would make every browser fail its connection.
        if kind == Kind::Text && std::str::from_utf8(&payload).is_err() {
            return Err(Foreign::TextNotUtf8);
        }
        let origin = Origin { node, client };
        Ok(Self { sequence, publication: Publication { kind, origin, payload } })
    }

    /// Appends the envelope to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Publication { kind, origin, payload } = &self.publication;
        out.reserve(HEADER_BYTES + payload.len());
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.push(VERSION);
        out.push(match kind {
            Kind::Text => 1,
            Kind::Binary => 2,
        });
        out.extend_from_slice(&origin.node.0.to_be_bytes());
        out.extend_from_slice(&origin.client.0.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(payload);
    }
}

const MAGIC: u16 = u16::from_be_bytes(*b"TW");
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(kind: Kind, payload: &'static [u8]) -> Envelope {
        let origin = Origin { node: NodeId(u64::MAX - 1), client: ClientId(7) };
        let publication = Publication { kind, origin, payload: Bytes::from_static(payload) };
        Envelope { sequence: 1 << 40, publication }
    }

    fn encoded(envelope: &Envelope) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.encode(&mut out);
        out
    }

    #[test]
    fn what_goes_in_comes_out() {
        for envelope in [
            envelope(Kind::Text, "hi ü".as_bytes()),
            envelope(Kind::Binary, b"\xFF\0\r\n"),
            envelope(Kind::Text, b""),
        ] {
            assert_eq!(Envelope::decode(encoded(&envelope).into()), Ok(envelope));
        }
    }

    #[test]
    fn what_is_foreign_is_named() {
        let check = |bytes: Vec<u8>, expected| {
            assert_eq!(Envelope::decode(bytes.into()), Err(expected));
        };
        let good = encoded(&envelope(Kind::Binary, b"x"));
        let with = |at: usize, byte| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        check(Vec::new(), Foreign::NotOurs);
        check(b"Received: hello from the article's server".to_vec(), Foreign::NotOurs);
        check(with(2, 9), Foreign::Version(9));
        check(with(3, 0), Foreign::Kind(0));
        check(encoded(&envelope(Kind::Text, b"\xFF")), Foreign::TextNotUtf8);
        for cut in 0..HEADER_BYTES {
            check(good[..cut].to_vec(), Foreign::NotOurs);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let mut bytes = encoded(&envelope(Kind::Text, b"hello"));
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            let _ = Envelope::decode(bytes.into());
        }
    }
}
