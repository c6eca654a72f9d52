//! The protocols that clients speak: how a publication looks on the wire, and what else they hear.
//!
//! What clients send is the message itself, in every protocol; one with notices has a text for the
//! hub, too (`pass`). To add one: a file beside these, a
//! variant of [`Protocol`], its place in [`Protocol::ALL`], and an arm in each method.

mod raw;
mod v1;

use bytes::BytesMut;

use crate::notice::Notice;
use crate::publication::Publication;
use crate::topic::Topic;

/// A client's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Plain messages, nothing around them: what a client gets that asks for nothing.
    Raw,
    /// `tidewire.v1`: texts come wrapped in JSON, so that the server can say more than messages.
    V1,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Raw, Self::V1];

    /// The protocol for a client that offers these subprotocols, best first.
    pub fn choose(offered: &[&str]) -> Self {
        let named = |name: &&str| Self::ALL.into_iter().find(|it| it.subprotocol() == Some(*name));
        offered.iter().find_map(named).unwrap_or(Self::Raw)
    }

    /// The subprotocol to agree to.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Raw => None,
            Self::V1 => Some(v1::SUBPROTOCOL),
        }
    }

    /// Its place in tables.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Appends the frame that every subscriber of this protocol gets.
    pub(crate) fn encode(self, publication: &Publication, out: &mut BytesMut) {
        match self {
            Self::Raw => raw::encode(publication, out),
            Self::V1 => v1::encode(publication, out),
        }
    }

    /// Appends the frame that the sender gets instead, if this protocol tells it apart.
    pub(crate) fn encode_own(self, publication: &Publication, out: &mut BytesMut) -> OwnFrame {
        match self {
            Self::Raw => OwnFrame::AsForAll,
            Self::V1 => v1::encode_own(publication, out),
        }
    }

    /// Appends what a client hears before anything else.
    pub(crate) fn encode_hello(
        self,
        node: &str,
        topic: &Topic,
        expires: Option<u64>,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Raw => {}
            Self::V1 => v1::encode_hello(node, topic, expires, out),
        }
    }

    /// Appends a notice.
    pub(crate) fn encode_notice(self, notice: &Notice<'_>, out: &mut BytesMut) {
        match self {
            Self::Raw => raw::encode_notice(notice, out),
            Self::V1 => v1::encode_notice(notice, out),
        }
    }

    /// Whether every client hears at once that the broker came or went, not only those whose
    /// messages are concerned. Clients of a protocol with notices expect them; to others they look
    /// like messages.
    pub(crate) fn has_notices(self) -> bool {
        match self {
            Self::Raw => false,
            Self::V1 => true,
        }
    }
}

/// What a sender gets of its own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFrame {
    /// The frame that all get.
    AsForAll,
    /// The one that was appended.
    Appended,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};
    use tidewire_wire::ws::frame::FrameHeader;

    use super::*;
    use crate::publication::{ClientId, Kind, NodeId, Origin};

    fn publication(kind: Kind, payload: &'static [u8]) -> Publication {
        let origin = Origin { node: NodeId(1), client: ClientId(1) };
        Publication { kind, origin, payload: Bytes::from_static(payload) }
    }

    /// The opcode and the payload of the one frame in `out`.
    fn frame(out: &[u8]) -> (u8, &[u8]) {
        let (header, length) = FrameHeader::parse(out).unwrap().unwrap();
        assert_eq!(header.length as usize, out.len() - length);
        (header.opcode, &out[length..])
    }

    fn json_of(out: &[u8]) -> Value {
        serde_json::from_slice(frame(out).1).unwrap()
    }

    #[test]
    fn a_client_gets_the_first_protocol_that_it_offers_and_we_speak() {
        assert_eq!(Protocol::choose(&[]), Protocol::Raw);
        assert_eq!(Protocol::choose(&["chat", "mqtt"]), Protocol::Raw);
        assert_eq!(Protocol::choose(&["chat", "tidewire.v1"]), Protocol::V1);
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::ALL[protocol.index()], protocol);
        }
    }

    #[test]
    fn raw_clients_get_the_message_itself() {
        let mut out = BytesMut::new();
        Protocol::Raw.encode(&publication(Kind::Text, b"hi"), &mut out);
        assert_eq!(frame(&out), (1, &b"hi"[..]));
        out.clear();
        Protocol::Raw.encode(&publication(Kind::Binary, b"\xFF"), &mut out);
        assert_eq!(frame(&out), (2, &b"\xFF"[..]));
        assert_eq!(
            Protocol::Raw.encode_own(&publication(Kind::Text, b"hi"), &mut out),
            OwnFrame::AsForAll
        );
    }

    #[test]
    fn v1_wraps_texts_and_marks_own_ones() {
        let message = publication(Kind::Text, "<b>\"ü\"\n".as_bytes());
        let mut out = BytesMut::new();
        Protocol::V1.encode(&message, &mut out);
        assert_eq!(json_of(&out), json!({ "type": "message", "data": "<b>\"ü\"\n" }));
        out.clear();
        assert_eq!(Protocol::V1.encode_own(&message, &mut out), OwnFrame::Appended);
        assert_eq!(json_of(&out), json!({ "type": "message", "data": "<b>\"ü\"\n", "own": true }));
    }

    #[test]
    fn v1_leaves_binary_messages_alone() {
        let message = publication(Kind::Binary, b"\0\xFF");
        let mut out = BytesMut::new();
        assert_eq!(Protocol::V1.encode_own(&message, &mut out), OwnFrame::AsForAll);
        Protocol::V1.encode(&message, &mut out);
        assert_eq!(frame(&out), (2, &b"\0\xFF"[..]));
    }

    #[test]
    fn v1_says_hello_with_node_and_topic() {
        let mut out = BytesMut::new();
        let topic = Topic::new("echo").unwrap();
        Protocol::V1.encode_hello("server\"1", &topic, None, &mut out);
        let mut hello = json!({ "type": "hello", "node": "server\"1", "topic": "echo" });
        assert_eq!(json_of(&out), hello);
        out.clear();
        Protocol::V1.encode_hello("server\"1", &topic, Some(17), &mut out);
        hello["expires"] = json!(17);
        assert_eq!(json_of(&out), hello);
    }

    #[test]
    fn notices_name_the_event_and_the_count() {
        let notice = Notice::Restored { undelivered: 3 };
        let mut out = BytesMut::new();
        Protocol::V1.encode_notice(&notice, &mut out);
        let told = json_of(&out);
        assert_eq!((&told["type"], &told["event"]), (&json!("notice"), &json!("restored")));
        assert_eq!(told["undelivered"], json!(3));
        out.clear();
        Protocol::V1.encode_notice(&Notice::Expiring { seconds: 30, expires: 17 }, &mut out);
        let told = json_of(&out);
        assert_eq!((&told["seconds"], &told["expires"]), (&json!(30), &json!(17)));
        assert_eq!(told.get("undelivered"), None);
        out.clear();
        Protocol::Raw.encode_notice(&Notice::Degraded { why: "x", undelivered: 1 }, &mut out);
        assert_eq!(json_of(&out)["tidewire"], json!("degraded"));
    }
}
