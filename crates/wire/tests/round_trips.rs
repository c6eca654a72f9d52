//! What is sent is what comes out: any messages, in any fragments, with control frames between
//! them, masked or not, in pieces of any size.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_wire::ws::close::{CloseCode, REASON_BYTES_MAX, encode_close};
use tidewire_wire::ws::cursor::Cursor;
use tidewire_wire::ws::frame::{FrameHeader, Opcode};
use tidewire_wire::ws::mask::apply_mask;
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};

/// A message and how it is sent.
#[derive(Clone, Debug)]
struct Sent {
    opcode: Opcode,
    payload: Vec<u8>,
    /// Where it is cut into fragments; places past its end give empty ones.
    cuts: Vec<usize>,
    /// A Ping between the first two fragments, if there are two.
    ping: Option<Vec<u8>>,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let text = any::<String>().prop_map(|text| (Opcode::Text, text.into_bytes()));
    let binary = vec(any::<u8>(), 0..300).prop_map(|bytes| (Opcode::Binary, bytes));
    // Beyond 16 bits of length, without the cost of drawing each byte.
    let long = (60_000..80_000_usize).prop_map(|length| (Opcode::Binary, vec![7; length]));
    let message = prop_oneof![8 => text, 8 => binary, 1 => long];
    let ping = proptest::option::of(vec(any::<u8>(), 0..=125));
    (message, vec(0..400_usize, 0..4), ping).prop_map(|((opcode, payload), mut cuts, ping)| {
        cuts.iter_mut().for_each(|cut| *cut = payload.len().min(*cut));
        cuts.sort_unstable();
        Sent { opcode, payload, cuts, ping }
    })
}

/// Adds one frame and notes where it ends.
fn put(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Stream) {
    let length = payload.len() as u64;
    FrameHeader { fin, rsv: 0, opcode: opcode.into(), mask, length }.encode(&mut out.bytes);
    let start = out.bytes.len();
    out.bytes.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out.bytes[start..], mask, 0);
    }
    out.boundaries.push(out.bytes.len());
}

#[derive(Debug, Default)]
struct Stream {
    bytes: BytesMut,
    boundaries: Vec<usize>,
}

fn put_message(sent: &Sent, mask: Option<[u8; 4]>, out: &mut Stream) {
    let mut start = 0;
    let mut opcode = sent.opcode;
    for cut in &sent.cuts {
        put(false, opcode, &sent.payload[start..*cut], mask, out);
        if let (Some(ping), false) = (&sent.ping, opcode == Opcode::Continuation) {
            put(true, Opcode::Ping, ping, mask, out);
        }
        start = *cut;
        opcode = Opcode::Continuation;
    }
    put(true, opcode, &sent.payload[start..], mask, out);
}

/// What the decoder should say, in its order: a Ping comes before the message it interrupts.
fn expected(sent: &[Sent]) -> Vec<(Opcode, Vec<u8>)> {
    let mut events = Vec::new();
    for message in sent {
        if let (Some(ping), false) = (&message.ping, message.cuts.is_empty()) {
            events.push((Opcode::Ping, ping.clone()));
        }
        events.push((message.opcode, message.payload.clone()));
    }
    events
}

fn decode(role: Role, stream: &mut [u8], pieces: &[usize]) -> Vec<(Opcode, Vec<u8>)> {
    let mut decoder = Decoder::new(role, LIMITS);
    let mut events = Vec::new();
    let mut pieces = pieces.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let length = pieces.next().map_or(rest.len(), |piece| rest.len().min(*piece));
        let (mut piece, after) = rest.split_at_mut(length);
        while let Some(event) = decoder.next(&mut piece).expect("a stream without violations") {
            events.push(match event {
                Event::Text(payload) => (Opcode::Text, payload.to_vec()),
                Event::Binary(payload) => (Opcode::Binary, payload.to_vec()),
                Event::Ping(payload) => (Opcode::Ping, payload.to_vec()),
                other => panic!("{other:?} was not sent"),
            });
        }
        rest = after;
    }
    assert!(decoder.is_idle());
    events
}

proptest! {
    #[test]
    fn what_is_sent_comes_out(
        sent in vec(any_sent(), 0..6),
        mask in proptest::option::of(any::<[u8; 4]>()),
        pieces in vec(1..200_usize, 0..5),
    ) {
        let mut stream = Stream::default();
        sent.iter().for_each(|message| put_message(message, mask, &mut stream));
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        prop_assert_eq!(decode(role, &mut stream.bytes, &pieces), expected(&sent));
    }

    #[test]
    fn a_cursor_knows_the_boundaries_and_the_messages(
        sent in vec(any_sent(), 0..6),
        mask in proptest::option::of(any::<[u8; 4]>()),
        pieces in vec(1..200_usize, 1..5),
    ) {
        let mut stream = Stream::default();
        sent.iter().for_each(|message| put_message(message, mask, &mut stream));
        let mut cursor = Cursor::new();
        let mut at = 0;
        for piece in pieces.iter().cycle() {
            let end = stream.bytes.len().min(at + piece);
            cursor.advance(&stream.bytes[at..end]);
            at = end;
            let is_boundary = at == 0 || stream.boundaries.contains(&at);
            prop_assert_eq!(cursor.is_at_boundary(), is_boundary, "at {}", at);
            if at == stream.bytes.len() {
                break;
            }
        }
        prop_assert_eq!(cursor.messages(), sent.len() as u64);

        let mut cursor = Cursor::new();
        let mut at = 0;
        for boundary in &stream.boundaries {
            at += cursor.advance_frame(&stream.bytes[at..]);
            prop_assert_eq!(at, *boundary);
        }
    }

    #[test]
    fn a_close_says_its_code_and_what_fits_of_its_reason(
        code in prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16],
        reason in any::<String>(),
        mask in proptest::option::of(any::<[u8; 4]>()),
    ) {
        let mut bytes = BytesMut::new();
        encode_close(CloseCode::new(code), &reason, mask, &mut bytes);
        let mut cursor = Cursor::new();
        cursor.advance(&bytes);
        prop_assert_eq!(cursor.close_code(), Some(code));

        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let event = Decoder::new(role, LIMITS).next(&mut bytes.as_mut());
        let Ok(Some(Event::Close { code: found, reason: read })) = event else {
            panic!("{event:?}");
        };
        prop_assert_eq!(found, Some(CloseCode::new(code)));
        prop_assert!(reason.starts_with(&*read));
        prop_assert!(read.len() == reason.len() || read.len() > REASON_BYTES_MAX - 4);
    }
}

const LIMITS: Limits =
    Limits { frame_bytes_max: 80_000, message_bytes_max: 80_000, fragments_max: 5 };
