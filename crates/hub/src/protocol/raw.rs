//! The protocol without a name: plain messages.

use bytes::BytesMut;
use serde::Serialize;
use tidewire_wire::ws::frame::{Opcode, encode_frame};

use crate::notice::Notice;
use crate::publication::{Kind, Publication};

pub(super) fn encode(publication: &Publication, out: &mut BytesMut) {
    encode_frame(opcode(publication.kind), &publication.payload, out);
}

pub(super) fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

/// A notice among plain messages has to be told from them: it is an object with `tidewire` first.
pub(super) fn encode_notice(notice: &Notice<'_>, out: &mut BytesMut) {
    let text = Text {
        tidewire: notice.event(),
        detail: &notice.detail(),
        undelivered: notice.undelivered(),
    };
    let text = serde_json::to_vec(&text).expect("texts and numbers are always JSON");
    encode_frame(Opcode::Text, &text, out);
}

#[derive(Serialize)]
struct Text<'a> {
    tidewire: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered: Option<u32>,
}
