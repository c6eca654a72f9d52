//! `tidewire.v1`: every text from the server is a JSON object that says what it is.
//!
//! ```text
//!   {"type":"hello","node":"server1","topic":"echo"}      first; and "expires":1790000000
//!   {"type":"message","data":"..."}                       and "own":true for the sender
//!   {"type":"notice","event":"degraded","detail":"...","undelivered":0}
//!   {"type":"notice","event":"expiring","detail":"...","seconds":30,"expires":1790000000}
//! ```
//!
//! A client's text is a message, but for one: `{"tidewire":"renew","token":"..."}` is for the hub.
//!
//! Binary messages of the topic stay binary frames.

use bytes::BytesMut;
use serde::Serialize;
use tidewire_wire::ws::frame::{Opcode, encode_frame};

use super::{OwnFrame, raw};
use crate::notice::Notice;
use crate::publication::{Kind, Publication};
use crate::topic::Topic;

pub(super) const SUBPROTOCOL: &str = "tidewire.v1";

pub(super) fn encode(publication: &Publication, out: &mut BytesMut) {
    match text_of(publication) {
        Some(data) => encode_text(&Text::Message { data, own: false }, out),
        None => raw::encode(publication, out),
    }
}

pub(super) fn encode_own(publication: &Publication, out: &mut BytesMut) -> OwnFrame {
    match text_of(publication) {
        Some(data) => {
            encode_text(&Text::Message { data, own: true }, out);
            OwnFrame::Appended
        }
        None => OwnFrame::AsForAll,
    }
}

pub(super) fn encode_hello(node: &str, topic: &Topic, expires: Option<u64>, out: &mut BytesMut) {
    encode_text(&Text::Hello { node, topic: topic.as_str(), expires }, out);
}

pub(super) fn encode_notice(notice: &Notice<'_>, out: &mut BytesMut) {
    let (event, detail) = (notice.event(), &notice.detail());
    let (undelivered, seconds) = (notice.undelivered(), notice.seconds());
    let expires = notice.expires();
    encode_text(&Text::Notice { event, detail, undelivered, seconds, expires }, out);
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Text<'a> {
    Hello {
        node: &'a str,
        topic: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    Message {
        data: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    Notice {
        event: &'a str,
        detail: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        undelivered: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
}

/// The payload of a text.
fn text_of(publication: &Publication) -> Option<&str> {
    match publication.kind {
        // Whoever made the publication has checked it: wire for a client's, the envelope for one
        // from the broker. Were it not so, it would go out as bytes rather than as broken JSON.
        Kind::Text => std::str::from_utf8(&publication.payload).ok(),
        Kind::Binary => None,
    }
}

fn encode_text(text: &Text<'_>, out: &mut BytesMut) {
    let json = serde_json::to_vec(text).expect("texts and numbers are always JSON");
    encode_frame(Opcode::Text, &json, out);
}
