//! What an endpoint accepts, as events, and what it refuses, as the exact violation: RFC 6455 in
//! tables. Every input is also given cut at each byte, with the same outcome.

use tidewire_wire::Violation;
use tidewire_wire::ws::close::CloseCode;
use tidewire_wire::ws::frame::{FrameHeader, HEADER_BYTES_MAX, Opcode};
use tidewire_wire::ws::message::{Decoder, Event, Limits, Payload, Role};

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// The events up to the end, and the violation that was the end.
type Outcome = (Vec<Said>, Option<Violation>);

fn said(event: Event<'_>) -> Said {
    match event {
        Event::Text(payload) => Said::Text(payload.to_vec()),
        Event::Binary(payload) => Said::Binary(payload.to_vec()),
        Event::Ping(payload) => Said::Ping(payload.to_vec()),
        Event::Pong(payload) => Said::Pong(payload.to_vec()),
        Event::Close { code, reason } => {
            Said::Close(code.map(CloseCode::as_u16), reason.into_owned())
        }
    }
}

fn decode<'p>(role: Role, pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut decoder = Decoder::new(role, LIMITS);
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match decoder.next(&mut input) {
                Ok(Some(event)) => events.push(said(event)),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty(), "None means that the input is used up");
    }
    (events, None)
}

/// Whole, cut in two at each byte, and byte by byte.
fn check(role: Role, bytes: &[u8], expected: &Outcome) {
    for cut in 0..=bytes.len() {
        let outcome = decode(role, [&bytes[..cut], &bytes[cut..]]);
        assert_eq!(&outcome, expected, "{bytes:x?} cut at {cut}");
    }
    assert_eq!(&decode(role, bytes.chunks(1)), expected, "{bytes:x?} byte by byte");
}

fn accepts(bytes: &[u8], events: &[Said]) {
    let expected = (events.to_vec(), None);
    check(Role::Client, bytes, &expected);
    check(Role::Server, &masked(bytes), &expected);
}

fn refuses(bytes: &[u8], violation: Violation) {
    let (events, found) = decode(Role::Client, [bytes]);
    assert_eq!(found, Some(violation), "{bytes:x?}");
    check(Role::Client, bytes, &(events, Some(violation)));
}

/// The same frames as a client would send them.
fn masked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    while !bytes.is_empty() {
        let (header, header_bytes) = FrameHeader::parse(bytes).unwrap().expect("whole frames");
        let end = header_bytes + header.length as usize;
        let mask = [0x12, 0x34, 0x56, 0x78];
        FrameHeader { mask: Some(mask), ..header }.encode(&mut out);
        let payload = bytes[header_bytes..end].iter().zip(mask.iter().cycle());
        out.extend(payload.map(|(byte, mask)| byte ^ mask));
        bytes = &bytes[end..];
    }
    out.to_vec()
}

fn text(text: &str) -> Said {
    Said::Text(text.as_bytes().to_vec())
}

fn binary(bytes: &[u8]) -> Said {
    Said::Binary(bytes.to_vec())
}

#[test]
fn whole_frames_are_messages() {
    accepts(b"", &[]);
    accepts(b"\x81\x05Hello", &[text("Hello")]);
    accepts(b"\x81\x00", &[text("")]);
    accepts(b"\x82\x03\x00\xFF\x80", &[binary(b"\x00\xFF\x80")]);
    accepts(b"\x82\x01a\x81\x02\xC3\xA9\x82\x00", &[binary(b"a"), text("é"), binary(b"")]);
}

#[test]
fn lengths_of_every_form_are_read() {
    for length in [125, 126, 127, 200] {
        let mut bytes = bytes::BytesMut::new();
        let payload = vec![b'x'; length];
        tidewire_wire::ws::frame::encode_frame(Opcode::Binary, &payload, &mut bytes);
        accepts(&bytes, &[binary(&payload)]);
    }
}

#[test]
fn fragments_are_joined_and_control_frames_pass_between_them() {
    accepts(b"\x01\x03Hel\x80\x02lo", &[text("Hello")]);
    accepts(b"\x02\x01a\x00\x01b\x00\x00\x80\x01c", &[binary(b"abc")]);
    accepts(b"\x01\x00\x80\x00", &[text("")]);
    accepts(
        b"\x01\x01a\x89\x02hi\x00\x01b\x8A\x00\x80\x01c\x81\x01d",
        &[Said::Ping(b"hi".to_vec()), Said::Pong(vec![]), text("abc"), text("d")],
    );
}

#[test]
fn a_character_may_be_cut_between_fragments() {
    // U+1D11E in 4 bytes, one a fragment.
    accepts(b"\x01\x01\xF0\x00\x01\x9D\x00\x01\x84\x80\x01\x9E", &[text("𝄞")]);
    accepts(b"\x01\x02a\xC3\x89\x01\xC3\x80\x02\xA9b", &[Said::Ping(vec![0xC3]), text("aéb")]);
}

#[test]
fn a_close_is_the_last_event() {
    accepts(b"\x88\x00", &[Said::Close(None, String::new())]);
    accepts(b"\x88\x02\x03\xE8", &[Said::Close(Some(1000), String::new())]);
    accepts(b"\x88\x06\x0F\xA0b\xC3\xA9!", &[Said::Close(Some(4000), "bé!".into())]);
    // What follows is thrown away, even if it would be wrong.
    accepts(b"\x88\x02\x03\xE8\x81\x01a", &[Said::Close(Some(1000), String::new())]);
    accepts(b"\x88\x00\xF3\x00", &[Said::Close(None, String::new())]);
    // It may come before a message has ended.
    accepts(b"\x01\x01a\x88\x00\x80\x01b", &[Said::Close(None, String::new())]);
}

#[test]
fn what_no_extension_has_given_a_meaning_is_refused() {
    refuses(b"\xC1\x00", Violation::ReservedBits(0b100));
    refuses(b"\xA1\x00", Violation::ReservedBits(0b010));
    refuses(b"\x99\x00", Violation::ReservedBits(0b001));
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        refuses(&[0x80 | opcode, 0], Violation::ReservedOpcode(opcode));
        refuses(&[opcode, 0], Violation::ReservedOpcode(opcode));
    }
}

#[test]
fn clients_mask_and_servers_do_not() {
    refuses(b"\x81\x81\x00\x00\x00\x00a", Violation::Masked);
    check(Role::Server, b"\x81\x01a", &(vec![], Some(Violation::NotMasked)));
    check(Role::Server, b"\x89\x00", &(vec![], Some(Violation::NotMasked)));
}

#[test]
fn control_frames_are_short_and_whole() {
    refuses(b"\x09\x00", Violation::ControlFragmented(Opcode::Ping));
    refuses(b"\x08\x00", Violation::ControlFragmented(Opcode::Close));
    let too_long = |opcode| Violation::ControlTooLong { opcode, length: 126 };
    refuses(b"\x8A\x7E\x00\x7E", too_long(Opcode::Pong));
    refuses(b"\x88\x7E\x00\x7E", too_long(Opcode::Close));
    accepts(&[&[0x89, 125][..], &[b'x'; 125]].concat(), &[Said::Ping(vec![b'x'; 125])]);
}

#[test]
fn a_message_ends_before_the_next_begins() {
    refuses(b"\x80\x00", Violation::ContinuationWithoutStart);
    refuses(b"\x81\x00\x00\x01a", Violation::ContinuationWithoutStart);
    refuses(b"\x01\x01a\x80\x00\x80\x00", Violation::ContinuationWithoutStart);
    refuses(b"\x01\x01a\x81\x01b", Violation::MessageNotFinished(Opcode::Text));
    refuses(b"\x02\x00\x02\x00", Violation::MessageNotFinished(Opcode::Binary));
}

#[test]
fn a_length_has_one_spelling() {
    refuses(b"\x81\x7E\x00\x01a", Violation::LengthNotMinimal(1));
    refuses(b"\x89\x7E\x00\x00", Violation::LengthNotMinimal(0));
    refuses(b"\x82\x7F\x80\0\0\0\0\0\0\0", Violation::LengthOverflow(1 << 63));
}

#[test]
fn limits_hold_before_a_byte_of_payload_has_come() {
    let frame = |length| Violation::FrameTooBig { length, max: LIMITS.frame_bytes_max };
    refuses(b"\x82\x7E\x01\x00", frame(256));
    refuses(b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", frame((1 << 63) - 1));

    let fragment = [&[0x02, 126, 0, 200][..], &[0; 200]].concat();
    let message = |length| Violation::MessageTooBig { length, max: LIMITS.message_bytes_max };
    refuses(&[&fragment[..], b"\x80\x7E\x00\x97"].concat(), message(351));
    let last = [&[0x80, 126, 0, 150][..], &[0; 150]].concat();
    accepts(&[fragment, last].concat(), &[binary(&[0; 350])]);
    accepts(&[&[0x82, 126, 0, 255][..], &[0; 255]].concat(), &[binary(&[0; 255])]);

    let many = [b"\x01\x00".to_vec(), b"\x00\x00".repeat(4)].concat();
    refuses(&many, Violation::TooManyFragments { max: LIMITS.fragments_max });
    let enough = [b"\x01\x00".to_vec(), b"\x00\x00".repeat(2), b"\x80\x00".to_vec()].concat();
    accepts(&enough, &[text("")]);
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    refuses(b"\x81\x01\xFF", Violation::TextNotUtf8);
    refuses(b"\x81\x02\xC3a", Violation::TextNotUtf8);
    // Cut off at the end of the message.
    refuses(b"\x81\x02\xE2\x82\x81\x00", Violation::TextNotUtf8);
    refuses(b"\x81\x01\xC3", Violation::TextNotUtf8);
    refuses(b"\x01\x01\xC3\x80\x00", Violation::TextNotUtf8);
    // An overlong form, a surrogate, a character past the last.
    refuses(b"\x81\x02\xC0\xAF", Violation::TextNotUtf8);
    refuses(b"\x81\x03\xED\xA0\x80", Violation::TextNotUtf8);
    refuses(b"\x81\x04\xF4\x90\x80\x80", Violation::TextNotUtf8);
    // A cut character that a fragment does not go on with.
    refuses(b"\x01\x01\xC3\x80\x01a", Violation::TextNotUtf8);
}

#[test]
fn text_that_cannot_become_utf_8_is_refused_before_its_frame_has_ended() {
    for payload in [&b"\xFF"[..], b"ab\xC3a", b"\xED\xA0", b"\xF4\x90", b"\xE0\x80"] {
        let bytes = [&[0x81, 100], payload].concat();
        check(Role::Client, &bytes, &(vec![], Some(Violation::TextNotUtf8)));
    }
    for payload in [&b"\xC3"[..], b"\xED\x9F", b"\xF4\x8F\xBF", b"ab\xE2\x82"] {
        let bytes = [&[0x81, 100], payload].concat();
        check(Role::Client, &bytes, &(vec![], None));
    }
}

#[test]
fn a_close_says_a_valid_code_and_a_reason_in_utf_8() {
    refuses(b"\x88\x01\x03", Violation::ClosePayloadCut);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535_u16] {
        let [high, low] = code.to_be_bytes();
        refuses(&[0x88, 2, high, low], Violation::CloseCodeInvalid(code));
    }
    refuses(b"\x88\x03\x03\xE8\xFF", Violation::CloseReasonNotUtf8);
    refuses(b"\x88\x04\x03\xE8\xE2\x82", Violation::CloseReasonNotUtf8);
}

#[test]
fn every_violation_has_the_close_code_of_its_kind() {
    let check = |violation: Violation, code| assert_eq!(violation.close_code(), code);
    check(Violation::NotMasked, CloseCode::PROTOCOL_ERROR);
    check(Violation::LengthOverflow(1 << 63), CloseCode::PROTOCOL_ERROR);
    check(Violation::TextNotUtf8, CloseCode::INVALID_PAYLOAD);
    check(Violation::CloseReasonNotUtf8, CloseCode::INVALID_PAYLOAD);
    check(Violation::FrameTooBig { length: 2, max: 1 }, CloseCode::TOO_BIG);
    check(Violation::TooManyFragments { max: 1 }, CloseCode::TOO_BIG);
}

#[test]
fn a_whole_message_is_borrowed_and_leaves_nothing_behind() {
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let mut bytes = masked(b"\x81\x05Hello\x89\x02hi");
    let mut input = bytes.as_mut_slice();
    let event = decoder.next(&mut input);
    assert!(matches!(event, Ok(Some(Event::Text(Payload::Borrowed(b"Hello"))))), "{event:?}");
    let event = decoder.next(&mut input);
    assert!(matches!(event, Ok(Some(Event::Ping(Payload::Borrowed(b"hi"))))), "{event:?}");
    assert!(decoder.is_idle());
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}

#[test]
fn what_is_incomplete_is_held_until_it_is_whole_and_no_longer() {
    let bytes = b"\x01\x03Hel\x89\x01x\x80\x02lo";
    for cut in 1..bytes.len() {
        let mut decoder = Decoder::new(Role::Client, LIMITS);
        let (mut first, mut second) = (bytes[..cut].to_vec(), bytes[cut..].to_vec());
        let mut input = first.as_mut_slice();
        while decoder.next(&mut input).unwrap().is_some() {}
        assert!(!decoder.is_idle(), "cut at {cut}");
        let mut input = second.as_mut_slice();
        while decoder.next(&mut input).unwrap().is_some() {}
        assert!(decoder.is_idle(), "cut at {cut}");
    }
}

#[test]
fn memory_grows_with_what_has_come_not_with_what_was_promised() {
    const MEBIBYTE: usize = 1 << 20;
    let limits = Limits {
        frame_bytes_max: 100 * MEBIBYTE as u64,
        message_bytes_max: 100 * MEBIBYTE as u64,
        fragments_max: 1 << 20,
    };
    let mut decoder = Decoder::new(Role::Client, limits);
    let mut header = bytes::BytesMut::with_capacity(HEADER_BYTES_MAX);
    let length = MEBIBYTE as u64 + 1;
    FrameHeader { fin: true, rsv: 0, opcode: 2, mask: None, length }.encode(&mut header);
    assert_eq!(decoder.next(&mut header.as_mut()), Ok(None));
    assert_eq!(decoder.next(&mut &mut [7; 1000][..]), Ok(None));
    assert_eq!(decoder.next(&mut &mut vec![7; 699_000][..]), Ok(None));
    let mut rest = vec![7; MEBIBYTE + 1 - 700_000];
    let mut input = rest.as_mut_slice();
    let Ok(Some(Event::Binary(Payload::Assembled(bytes)))) = decoder.next(&mut input) else {
        panic!("an assembled message");
    };
    assert_eq!((bytes.len(), bytes.capacity()), (MEBIBYTE + 1, MEBIBYTE + 1));
}

#[test]
fn a_violation_ends_the_stream() {
    let mut decoder = Decoder::new(Role::Client, LIMITS);
    let mut bytes = b"\x01\x01a\x01\x00\x80\x01b".to_vec();
    let mut input = bytes.as_mut_slice();
    assert_eq!(decoder.next(&mut input), Err(Violation::MessageNotFinished(Opcode::Text)));
    assert!(decoder.is_over() && decoder.is_idle());
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert!(input.is_empty());
}

const LIMITS: Limits = Limits { frame_bytes_max: 255, message_bytes_max: 350, fragments_max: 4 };
