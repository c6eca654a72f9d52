//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` runs them for as long as one likes, led by coverage. The tests at the foot replay its
//! seeds and a bounded, repeatable run of mutations of them, so that `cargo test` knows them too.
//!
//! To add one: a function here, its line in [`TARGETS`], a file in `fuzz/fuzz_targets/` and one in
//! `fuzz/Cargo.toml`, and a folder in `fuzz/seeds/`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::Violation;
use crate::http::framing::fault::FramingFault;
use crate::http::framing::{Follower, HeadLimits};
use crate::http::{forwarded, hop, said, tokens};
use crate::proxy_protocol::header::HeaderVersion;
use crate::proxy_protocol::{HeaderFault, Reader, Said};
use crate::ws::cursor::{Cursor, HEAD_BYTES_MAX};
use crate::ws::frame::{FrameHeader, HEADER_BYTES_MAX};
use crate::ws::handshake::{self, Classified, Offer};
use crate::ws::judge::{Framing, Judge, Rest, Rules};
use crate::ws::message::{Decoder, Event, Limits, Role};
use crate::ws::rules::Extensions;

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target.
pub const TARGETS: [(&str, Body); 9] = [
    ("frame_header", frame_header),
    ("message_decoder", message_decoder),
    ("cursor", cursor),
    ("judge", judge),
    ("handshake", handshake),
    ("header_lists", header_lists),
    ("said", said),
    ("request_framing", request_framing),
    ("proxy_header", proxy_header),
];

/// A header is read the same with more bytes behind it, and written back as it was.
pub fn frame_header(input: &[u8]) {
    let whole = FrameHeader::parse(input);
    for cut in 0..input.len().min(HEADER_BYTES_MAX + 1) {
        let part = FrameHeader::parse(&input[..cut]);
        assert!(part == Ok(None) || part == whole, "{part:?} at {cut}, {whole:?} in the end");
    }
    let Ok(Some((header, header_bytes))) = whole else {
        return;
    };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    assert_eq!(out[..], input[..header_bytes], "{header:?}");
}

/// A header of the PROXY protocol is read the same wherever it is cut, and nothing behind it is
/// taken. Written again, it says the same.
pub fn proxy_header(input: &[u8]) {
    let whole = announced(input.chunks(input.len().max(1)));
    assert_eq!(announced(input.chunks(1)), whole);
    for cut in 0..input.len().min(300) {
        assert_eq!(announced([&input[..cut], &input[cut..]].into_iter()), whole, "cut at {cut}");
    }
    let Ok((Some(said), taken)) = whole else { return };
    let mut more = input[..taken].to_vec();
    assert_eq!(announced([&more[..]].into_iter()), Ok((Some(said), taken)));
    more.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(announced([&more[..]].into_iter()), Ok((Some(said), taken)));
    if let Said::Client(ends) = said {
        assert!(!ends.source.ip().to_canonical().is_unspecified());
    }
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let written = said.header(version);
        let again = announced([&written[..]].into_iter());
        let Ok((Some(read), length)) = again else { panic!("{again:?} of what was written") };
        assert_eq!((length, canonical(read)), (written.len(), canonical(said)));
    }
}

/// With IPv4 as that, however it was written.
fn canonical(said: Said) -> Option<[(IpAddr, u16); 2]> {
    let Said::Client(ends) = said else { return None };
    Some([ends.source, ends.destination].map(|it| (it.ip().to_canonical(), it.port())))
}

/// What a header says, and how long it is.
fn announced<'p>(
    pieces: impl Iterator<Item = &'p [u8]>,
) -> Result<(Option<Said>, usize), HeaderFault> {
    let mut reader = Reader::default();
    let mut length = 0;
    for piece in pieces {
        let (taken, said) = reader.read(piece)?;
        length += taken;
        if said.is_some() {
            return Ok((said, length));
        }
        assert_eq!(taken, piece.len(), "what is not the header's is not waited for");
    }
    Ok((None, length))
}

/// A stream gives the same events however it is cut, and none above the limits.
pub fn message_decoder(input: &[u8]) {
    let Some((role, cuts, stream)) = split_stream(input) else {
        return;
    };
    let whole = decode(role, [stream]);
    assert_eq!(decode(role, Pieces { stream, cuts: cuts.iter().cycle() }), whole);
    assert_eq!(decode(role, stream.chunks(1)), whole);
}

/// The cursor is where a naive walk is, however the stream is cut, and counts what the decoder
/// decodes.
pub fn cursor(input: &[u8]) {
    let Some((role, cuts, stream)) = split_stream(input) else {
        return;
    };
    let expected = walk(stream);
    let known = |cursor: &Cursor| Walked {
        messages: cursor.messages(),
        close_code: cursor.close_code(),
        has_close: cursor.has_close(),
        is_lost: cursor.is_lost(),
        is_at_boundary: cursor.is_at_boundary(),
    };
    let mut whole = Cursor::new();
    whole.advance(stream);
    assert_eq!(known(&whole), expected);
    let mut cut = Cursor::new();
    Pieces { stream, cuts: cuts.iter().cycle() }.for_each(|piece| cut.advance(piece));
    assert_eq!(known(&cut), expected);

    let (events, violation) = decode(role, [stream]);
    let is_close = |event: &String| event.starts_with("Close");
    if violation.is_none() && !events.iter().any(is_close) {
        let is_message = |event: &&String| event.starts_with("Text") || event.starts_with("Binary");
        assert_eq!(whole.messages(), events.iter().filter(is_message).count() as u64);
        assert!(!whole.is_lost());
    }
}

/// A judge lets the same pass however the stream is cut, agrees with the decoder on what is wrong,
/// and stops where a Close can be put.
pub fn judge(input: &[u8]) {
    let Some((role, cuts, stream)) = split_stream(input) else {
        return;
    };
    let (passed, rest) = judged(role, [stream]);
    for pieces in
        [Pieces { stream, cuts: cuts.iter().cycle() }, Pieces { stream, cuts: [].iter().cycle() }]
    {
        assert_eq!(judged(role, pieces), (passed, rest));
    }
    let (_, violation) = decode(role, [stream]);
    let is_of_endpoints = |violation| {
        matches!(violation, Some(Violation::TextNotUtf8 | Violation::CloseReasonNotUtf8))
    };
    match rest {
        _ if is_of_endpoints(violation) => {}
        Rest::Refused(Violation::ClosePayloadCut | Violation::CloseCodeInvalid(_)) => {
            // An endpoint waits for the whole Close.
            assert!(violation.is_none() || rest == Rest::Refused(violation.expect("it is some")));
        }
        Rest::Refused(refused) => assert_eq!(violation, Some(refused)),
        Rest::Held => {
            let waits = matches!(
                violation,
                None | Some(Violation::LengthNotMinimal(_) | Violation::LengthOverflow(_))
            );
            let is_close = stream[passed] & 0x0F == 0x08;
            assert!(waits || is_close, "{violation:?} is held");
        }
        Rest::None | Rest::AfterClose => assert_eq!(violation, None),
    }
    let mut cursor = Cursor::new();
    cursor.advance(&stream[..passed]);
    assert!(rest == Rest::None || cursor.is_at_boundary(), "{rest:?} within a frame");
}

/// How much of a stream passes, and what the rest is. What is held back is given again.
fn judged<'p>(role: Role, pieces: impl IntoIterator<Item = &'p [u8]>) -> (usize, Rest) {
    let rules = Rules { framing: Framing::Strict, limits: LIMITS, ..Rules::NONE };
    let (mut judge, mut cursor) = (Judge::new(role, Extensions::None), Cursor::new());
    let (mut passed, mut rest) = (0, Rest::None);
    let mut given = Vec::new();
    for piece in pieces {
        given.extend_from_slice(piece);
        let now;
        (now, rest) = judge.pass(&mut cursor, &given, &rules, |_| Ok(()));
        passed += now;
        given.drain(..now);
        match rest {
            Rest::None => assert!(given.is_empty()),
            Rest::Held => assert!(given.len() < HEAD_BYTES_MAX),
            Rest::AfterClose | Rest::Refused(_) => return (passed, rest),
        }
    }
    (passed, rest)
}

/// Only a handshake that is whole becomes an offer, and only its own answer is a switch.
pub fn handshake(input: &[u8]) {
    let [method, version, lines @ ..] = input else {
        return;
    };
    let method = [Method::GET, Method::POST][usize::from(method % 2)].clone();
    let version = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2][usize::from(version % 3)];
    let headers = parse_headers(lines);
    let plain = Offer::plain(*b"dGhlIHNhbXBsZSBub25jZQ==");
    if handshake::check_switch(StatusCode::SWITCHING_PROTOCOLS, &headers, &plain).is_ok() {
        assert_eq!(headers[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    }
    match handshake::classify(&method, version, &headers) {
        Classified::NotWebSocket => {}
        Classified::Refused(refusal) => assert!(refusal.status().is_client_error()),
        Classified::WebSocket(offer) => {
            assert_eq!((method, version), (Method::GET, Version::HTTP_11));
            assert_eq!(headers[header::SEC_WEBSOCKET_KEY], offer.key[..]);
            assert!(!headers.contains_key(header::TRANSFER_ENCODING));
            check_answers(&offer);
        }
    }
}

/// Lists are read one way, and no header of the hop or of a forged name is left.
pub fn header_lists(input: &[u8]) {
    let mut headers = parse_headers(input);
    let found: Vec<_> = tokens::tokens(&headers, &header::CONNECTION).collect();
    for token in &found {
        assert!(!token.is_empty() && !token.contains(&b','));
        assert!(![token[0], token[token.len() - 1]].iter().any(|byte| b" \t".contains(byte)));
    }
    let nominated: Vec<HeaderName> =
        found.iter().filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
    for value in headers.values() {
        check_forwarded(value);
    }
    hop::strip_hop_by_hop(&mut headers);
    hop::remove_where(&mut headers, hop::is_aliased);
    for name in headers.keys() {
        assert!(hop::END_TO_END.contains(name) || !nominated.contains(name), "{name}");
        assert!(!["connection", "upgrade", "te", "transfer-encoding"].contains(&name.as_str()));
        assert!(!name.as_str().contains(['_', '.']), "{name}");
    }
    let once = headers.clone();
    hop::strip_hop_by_hop(&mut headers);
    assert_eq!(headers, once);
}

/// What proxies have said is read as a plain reading has it, an address is one however it is
/// written, and whatever a client says in front of it, what a proxy adds is the last or nothing is.
///
/// A line for the `Host` that the client asks for, the rest are lines that came with its request.
pub fn said(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let host = lines.next().and_then(Result::ok);
    let mut headers: HeaderMap =
        lines.filter_map(|line| Some((header::FORWARDED, line.ok()?))).collect();
    check_members(&headers);
    for peer in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut headers = headers.clone();
        let hop = forwarded::Hop { peer, host: host.as_ref(), scheme: "https" };
        let element = forwarded::forwarded_element(&hop);
        forwarded::append_element(&mut headers, &header::FORWARDED, element);
        let Ok(all) = said::elements(&headers, &header::FORWARDED) else { continue };
        let last = all.last().expect("one was added");
        let node = last.node.as_deref().map(said::node);
        assert_eq!(node, Some(Ok(SocketAddr::new(peer, 0))), "{all:?}");
        assert_eq!(last.host.as_deref(), host.as_ref().and_then(|it| it.to_str().ok()));
        assert_eq!(last.proto.as_deref(), Some("https"));
    }
    headers.append(header::FORWARDED, HeaderValue::from_static("for=192.0.2.9"));
    if let Ok(all) = said::elements(&headers, &header::FORWARDED) {
        assert_eq!(all.last().and_then(|it| it.node.as_deref()), Some("192.0.2.9"));
    }
}

/// Lists are read as they are when all is there, turned round; and addresses that are read are
/// written and read again.
fn check_members(headers: &HeaderMap) {
    let mut expected = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        match line.to_str() {
            Ok(line) => expected.extend(line.split(',').map(|it| Ok(it.trim_matches([' ', '\t'])))),
            Err(_) => expected.push(Err(said::Unreadable)),
        }
    }
    expected.retain(|it| *it != Ok(""));
    expected.reverse();
    let found: Vec<_> = said::from_the_right(headers, &header::FORWARDED).collect();
    assert_eq!(found, expected);
    for text in found.into_iter().flatten() {
        let Ok(address) = said::node(text) else { continue };
        assert!(!address.ip().to_canonical().is_unspecified(), "{text}");
        assert_eq!(said::node(&address.to_string()), Ok(address), "{text}");
        let bare = SocketAddr::new(address.ip(), 0);
        assert_eq!(said::node(&address.ip().to_string()), Ok(bare), "{text}");
        assert_eq!(said::node(&format!("{text} ")), Err(said::Unreadable));
    }
}

/// Requests are followed the same however the stream is cut, and what is said to be good is.
pub fn request_framing(input: &[u8]) {
    let [cuts, rest @ ..] = input else {
        return;
    };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(cuts % 8)) else {
        return;
    };
    let mut whole = Follower::new(HEAD_LIMITS);
    let followed = whole.follow(stream);
    let known = |follower: &Follower| (follower.request(), follower.is_beyond());
    let expected = (known(&whole), followed.fault);
    assert_eq!(follow(Pieces { stream, cuts: cuts.iter().cycle() }), expected);
    assert_eq!(follow(stream.chunks(1)), expected);
    if let Some(fault) = followed.fault {
        assert!(fault.status().is_client_error() || fault.status().is_server_error());
        // A request is begun in what is not good any more, and it has the fault.
        let mut good = Follower::new(HEAD_LIMITS);
        assert_eq!(good.follow(&stream[..followed.good]).fault, None);
        assert_eq!(good.request() + 1, whole.request());
    }
}

fn follow<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> ((u32, bool), Option<FramingFault>) {
    let mut follower = Follower::new(HEAD_LIMITS);
    let faults: Vec<_> = pieces.filter_map(|piece| follower.follow(piece).fault).collect();
    assert!(faults.len() < 2, "{faults:?}");
    ((follower.request(), follower.is_beyond()), faults.first().copied())
}

/// Small ones, so that inputs reach them.
const HEAD_LIMITS: HeadLimits = HeadLimits { request_line: 40, head: 160, headers: 5, header: 60 };

/// The first byte gives the role, the second how many bytes after it give the pieces' lengths.
fn split_stream(input: &[u8]) -> Option<(Role, &[u8], &[u8])> {
    let [role, cuts, rest @ ..] = input else {
        return None;
    };
    let role = [Role::Server, Role::Client][usize::from(role % 2)];
    let (cuts, stream) = rest.split_at_checked(usize::from(cuts % 8))?;
    Some((role, cuts, stream))
}

/// A stream in pieces whose lengths come round.
struct Pieces<'s> {
    stream: &'s [u8],
    cuts: std::iter::Cycle<std::slice::Iter<'s, u8>>,
}

impl<'s> Iterator for Pieces<'s> {
    type Item = &'s [u8];

    fn next(&mut self) -> Option<&'s [u8]> {
        if self.stream.is_empty() {
            return None;
        }
        // At least a byte, or the stream would not end.
        let length = self.cuts.next().map_or(1, |cut| usize::from(*cut));
        let (piece, rest) = self.stream.split_at(length.clamp(1, self.stream.len()));
        self.stream = rest;
        Some(piece)
    }
}

/// The events as text, which compares easily and owns what it says.
fn decode<'p>(
    role: Role,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<String>, Option<Violation>) {
    let mut decoder = Decoder::new(role, LIMITS);
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match decoder.next(&mut input) {
                Ok(Some(event)) => events.push(describe(event)),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty());
    }
    (events, None)
}

fn describe(event: Event<'_>) -> String {
    match event {
        Event::Text(payload) => {
            assert!(payload.len() as u64 <= LIMITS.message_bytes_max);
            format!("Text {:?}", std::str::from_utf8(&payload).expect("text is UTF-8"))
        }
        Event::Binary(payload) => {
            assert!(payload.len() as u64 <= LIMITS.message_bytes_max);
            format!("Binary {:?}", &payload[..])
        }
        Event::Ping(payload) => format!("Ping {:?}", &payload[..]),
        Event::Pong(payload) => format!("Pong {:?}", &payload[..]),
        Event::Close { code, reason } => {
            assert!(code.is_none_or(|code| code.is_sendable()));
            format!("Close {code:?} {reason}")
        }
    }
}

/// What a cursor should know.
#[derive(Debug, Default, PartialEq)]
struct Walked {
    messages: u64,
    close_code: Option<u16>,
    has_close: bool,
    is_lost: bool,
    is_at_boundary: bool,
}

/// A cursor written for plainness, over a stream that is all there.
fn walk(stream: &[u8]) -> Walked {
    let mut walked = Walked::default();
    let mut at = 0;
    let byte = |at: usize| stream.get(at).map(|byte| u64::from(*byte));
    let number = |at: usize, count: usize| {
        (at..at + count).try_fold(0, |number, at| Some(number << 8 | byte(at)?))
    };
    while at < stream.len() {
        let (Some(first), Some(second)) = (byte(at), byte(at + 1)) else {
            return walked;
        };
        let length_bytes = [0, 2, 8][(second as usize & 0x7F).saturating_sub(125)];
        let Some(long) = number(at + 2, length_bytes) else {
            return walked;
        };
        let length = if length_bytes == 0 { second & 0x7F } else { long };
        let mask_at = at + 2 + length_bytes;
        let payload_at = mask_at + if second & 0x80 == 0 { 0 } else { 4 };
        if stream.len() < payload_at {
            return walked;
        }
        if length >> 63 == 1 {
            return Walked { is_lost: true, ..walked };
        }
        if first & 0x0F == 8 {
            let mask = if payload_at == mask_at { 0 } else { number(mask_at, 2).unwrap_or(0) };
            let code_bytes = length.min(2) as usize;
            let Some(code) = number(payload_at, code_bytes) else {
                return walked;
            };
            if !walked.has_close {
                walked.has_close = true;
                walked.close_code = match code_bytes {
                    0 => Some(1005),
                    1 => None,
                    _ => Some((code ^ mask) as u16).filter(|code| *code != 0),
                };
            }
        }
        if ((stream.len() - payload_at) as u64) < length {
            return walked;
        }
        walked.messages += u64::from(first & 0x80 != 0 && first & 0x0F <= 2);
        at = payload_at + length as usize;
    }
    Walked { is_at_boundary: true, ..walked }
}

/// Lines of `name: value`; what is not one is passed over.
fn parse_headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = halves.next().map(HeaderName::from_bytes);
        let value = halves.next().map(HeaderValue::from_bytes);
        if let (Some(Ok(name)), Some(Ok(value))) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The answer to an offer is taken, and not with another key or an unasked subprotocol.
fn check_answers(offer: &Offer) {
    let accept = handshake::accept_key(&offer.key);
    let mut answer = HeaderMap::new();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let accept = HeaderValue::from_bytes(&accept).expect("base64 is a header value");
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(first) = offer.subprotocols.first() {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, first.clone());
    }
    let switch = |answer: &HeaderMap, offer: &Offer| {
        handshake::check_switch(StatusCode::SWITCHING_PROTOCOLS, answer, offer)
    };
    let subprotocol = offer.subprotocols.first().cloned();
    assert_eq!(
        switch(&answer, offer),
        Ok(handshake::Switch { subprotocol, extensions: Extensions::None })
    );

    let mut other = offer.clone();
    other.key[0] ^= 1;
    assert!(switch(&answer, &other).is_err());
    answer.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("not/offered"));
    assert!(switch(&answer, offer).is_err());
}

/// Whatever the host, the element has three pairs, and the host reads back as it was.
fn check_forwarded(host: &HeaderValue) {
    let peer = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let hop = forwarded::Hop { peer, host: Some(host), scheme: "http" };
    let element = forwarded::forwarded_element(&hop);
    let inner = element.as_bytes().strip_prefix(b"for=\"[::1]\";host=".as_slice());
    let inner = inner.and_then(|rest| rest.strip_suffix(b";proto=http".as_slice()));
    let word = inner.expect("three pairs");
    let read = match word.strip_prefix(b"\"".as_slice()) {
        None => word.to_vec(),
        Some(quoted) => unquote(quoted),
    };
    assert_eq!(read, host.as_bytes());
}

/// The text of a quoted string that ends with its input, and not before.
fn unquote(quoted: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut bytes = quoted.iter().copied();
    loop {
        match bytes.next().expect("a closing quote") {
            b'"' => break,
            b'\\' => text.extend(bytes.next()),
            byte => text.push(byte),
        }
    }
    assert_eq!(bytes.next(), None, "the quoted string ended early");
    text
}

/// Small, so that inputs of a few bytes reach them.
const LIMITS: Limits = Limits { frame_bytes_max: 300, message_bytes_max: 400, fragments_max: 5 };

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_keeps_the_promises() {
        replay::run_seeds(&TARGETS, |body, input| body(input));
    }

    #[test]
    fn mutated_seeds_keep_the_promises() {
        let piece = |random: &mut replay::Random| vec![*random.one_of(&TELLING)];
        replay::run_mutations(&TARGETS, |_| 5_000, piece, |body, input| body(input));
    }

    /// Bytes that stand for something in a frame or a header.
    const TELLING: [u8; 16] = *b"\x00\x01\x80\x81\x82\x88\x89\x7E\x7F\xFE\xFF:,\n \"";
}
