//! Frames that no honest peer sends: whoever sends one is told what is wrong and is gone, and
//! nobody else notices. Floods are in `frame_floods`.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::DEADLINE;
use tidewire_testkit::neighbour::Street;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::raw_frame::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, RawFrame, Side, Spelling, TEXT,
};
use tidewire_testkit::rig::Rig;
use tidewire_testkit::rss::RssWatch;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

/// What a peer sends, and what it has to hear for it.
struct Offence {
    what: &'static str,
    frames: Vec<RawFrame>,
    code: u16,
    /// In the reason of the Close.
    says: &'static str,
}

fn offence(
    what: &'static str,
    frames: impl Into<Vec<RawFrame>>,
    code: u16,
    says: &'static str,
) -> Offence {
    Offence { what, frames: frames.into(), code, says }
}

/// What is wrong in the head of a frame, or in the order of frames.
fn framing() -> Vec<Offence> {
    let text = || RawFrame::new(TEXT, "Hello");
    let ping = |length| RawFrame::new(PING, vec![b'x'; length]);
    let mut offences = vec![
        offence("RSV1", [text().rsv(0b100)], 1002, "reserved bits"),
        offence("RSV2", [text().rsv(0b010)], 1002, "reserved bits"),
        offence("RSV3", [text().rsv(0b001)], 1002, "reserved bits"),
        offence("RSV in a ping", [ping(1).rsv(0b100)], 1002, "reserved bits"),
        offence("a ping of 126 bytes", [ping(126)], 1002, "control frames end at 125"),
        offence(
            "a pong of 2^40 bytes",
            [RawFrame::new(PONG, "x").announcing(1 << 40)],
            1002,
            "control frames end at 125",
        ),
        offence("a ping in fragments", [ping(1).unfinished()], 1002, "in fragments"),
        offence(
            "a Close in fragments",
            [RawFrame::close(1000, "").unfinished()],
            1002,
            "in fragments",
        ),
        offence(
            "a continuation of nothing",
            [RawFrame::new(CONTINUATION, "Hello")],
            1002,
            "no message to continue",
        ),
        offence(
            "a continuation behind a whole message",
            [text(), RawFrame::new(CONTINUATION, "Hello")],
            1002,
            "no message to continue",
        ),
        offence(
            "a text within a message",
            [text().unfinished(), text()],
            1002,
            "before the fragmented message had ended",
        ),
        offence(
            "a binary frame within a message, behind a ping",
            [text().unfinished(), ping(1), RawFrame::new(BINARY, "")],
            1002,
            "before the fragmented message had ended",
        ),
        offence(
            "a length with its highest bit set",
            [RawFrame::new(BINARY, "").announcing(1 << 63)],
            1002,
            "highest bit",
        ),
        offence(
            "a length of all ones",
            [RawFrame::new(BINARY, "").announcing(u64::MAX)],
            1002,
            "highest bit",
        ),
        offence(
            "a short length in 8 bytes",
            [text().spelt(Spelling::Eight)],
            1002,
            "not in its shortest form",
        ),
        offence(
            "a length of 65535 in 8 bytes",
            [RawFrame::new(BINARY, [0; 65535]).spelt(Spelling::Eight)],
            1002,
            "not in its shortest form",
        ),
        offence(
            "a short length in 2 bytes",
            [text().spelt(Spelling::Two)],
            1002,
            "not in its shortest form",
        ),
        // RFC 7692 has RSV1 for them, when it was negotiated.
        offence("a compressed message", [compressed(DEFLATED)], 1002, "reserved bits"),
        offence("a deflate bomb", [compressed(&[0; 60_000])], 1002, "reserved bits"),
    ];
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        let frame = RawFrame::new(opcode, "x");
        offences.push(offence("a reserved opcode", [frame], 1002, "is reserved"));
    }
    offences
}

/// What is wrong in a Close.
fn closes() -> Vec<Offence> {
    let mut offences = vec![
        offence(
            "half a close code",
            [RawFrame::new(CLOSE, [3])],
            1002,
            "a close payload of 1 byte",
        ),
        offence(
            "a reason that is not UTF-8",
            [RawFrame::close(1000, b"bye \xc3\x28")],
            1007,
            "a close reason is not UTF-8",
        ),
    ];
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let frame = RawFrame::close(code, "");
        offences.push(offence("a close code", [frame], 1002, "must not be on the wire"));
    }
    offences
}

/// What an endpoint sees wrong in messages.
fn payloads() -> Vec<Offence> {
    let text = |bytes: &'static [u8]| RawFrame::new(TEXT, bytes);
    let more = |bytes: &'static [u8]| RawFrame::new(CONTINUATION, bytes);
    let not_text = |what, frames| offence(what, frames, 1007, "a text message is not UTF-8");
    vec![
        not_text("a wrong byte", vec![text(b"Hell\xff")]),
        not_text("a surrogate", vec![text(b"\xed\xa0\x80")]),
        not_text("an overlong form", vec![text(b"\xc0\xaf")]),
        not_text("beyond U+10FFFF", vec![text(b"\xf4\x90\x80\x80")]),
        not_text("a character cut by the end", vec![text(b"Hell\xc3")]),
        not_text("a wrong byte in a fragment", vec![text(b"a").unfinished(), more(b"\xff")]),
        not_text(
            "a character cut by the end of the last fragment",
            vec![text(b"\xe2").unfinished(), more(b"\x82")],
        ),
        not_text(
            "a character in two fragments that is none",
            vec![text(b"\xe2\x82").unfinished(), more(b"\x28")],
        ),
        // The rest of the message need not come.
        not_text("a wrong byte at once", vec![text(b"\xff").announcing(60_000)]),
        not_text(
            "a wrong byte in the middle",
            vec![text(b"a").unfinished(), more(b"\xff").unfinished()],
        ),
    ]
}

/// What is bigger than a hub takes by default: 64 KiB in 1024 fragments.
fn sizes() -> Vec<Offence> {
    let announced = |length| RawFrame::new(BINARY, "").announcing(length);
    let over = |what, frames| offence(what, frames, 1009, "the limit is 65536");
    let part = |opcode| RawFrame::new(opcode, vec![0; 40_000]).unfinished();
    let empty = RawFrame::new(CONTINUATION, "").unfinished();
    vec![
        over("a byte too much", vec![announced(65537)]),
        over("4 GiB", vec![announced(1 << 32)]),
        over("2^63 - 1 bytes", vec![announced(i64::MAX as u64)]),
        over("too much in fragments", vec![part(BINARY), part(CONTINUATION)]),
        over(
            "a sum that does not fit 64 bits",
            vec![
                RawFrame::new(TEXT, "x").unfinished(),
                RawFrame::new(CONTINUATION, "").announcing(i64::MAX as u64),
            ],
        ),
        offence(
            "1025 fragments",
            [vec![RawFrame::new(TEXT, "").unfinished()], vec![empty; 1024]].concat(),
            1009,
            "more than 1024 fragments",
        ),
    ]
}

impl Offence {
    fn bytes(&self, side: Side) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes(side)).collect()
    }
}

fn compressed(deflated: &[u8]) -> RawFrame {
    RawFrame::new(TEXT, deflated).rsv(0b100)
}

fn all_of_clients() -> Vec<Offence> {
    let frame = RawFrame::new(TEXT, "Hello").wrongly_masked();
    let mut offences = vec![offence("no mask", [frame], 1002, "not masked")];
    offences.extend(framing());
    offences.extend(closes());
    offences.extend(payloads());
    offences.extend(sizes());
    offences
}

/// "Hello", from RFC 7692, section 7.2.3.1.
const DEFLATED: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// One attack at a time: each has a neighbour whose echoes are timed.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

// The hub.

/// Sends it, hears why it is closed, and finds it so in the log.
#[track_caller]
fn check_in_hub(node: &mut Tidewire, offence: &Offence) {
    let Offence { what, code, says, .. } = offence;
    let mut socket = WebSocket::connect(node.address(), "/ws/offender");
    let client = socket.peer.local_address();
    socket.peer.send(offence.bytes(Side::Client));
    loop {
        match socket.next() {
            Got::Close(found, reason) => {
                assert_eq!(found, Some(*code), "{what}: {reason}");
                assert!(reason.contains(says), "{what}: {reason}");
                break;
            }
            Got::End => panic!("{what}: the end without a Close"),
            Got::Text(_) | Got::Binary(_) | Got::Ping(_) | Got::Pong(_) => {}
        }
    }
    assert_eq!(socket.next(), Got::End, "{what}");
    drop(socket);
    let reason = if *code == 1009 { "too_big" } else { "bad_frame" };
    node.log_line(&[
        "websocket",
        &format!("client={client} "),
        "by=\"client\"",
        &format!("reason=\"{reason}\""),
        &format!("code={code}"),
    ]);
}

/// A hub with one worker, which the neighbour shares with whoever attacks.
fn one_hub(more: &str) -> (Tidewire, Street) {
    let node = Tidewire::run(&format!("workers = 1\n{}", hub("server1", more)));
    let street = Street::start(&node, "/ws/neighbour", "Received: ");
    (node, street)
}

#[test]
fn a_hub_tells_who_sends_what_is_no_frame_and_closes_it() {
    let _alone = alone();
    let (mut node, street) = one_hub("");
    let offences = all_of_clients();
    check_in_hub(&mut node, &offences[0]);
    let rss = RssWatch::start(&node.child);
    street.is_calm_during("what is no frame, in the hub", || {
        offences.iter().for_each(|offence| check_in_hub(&mut node, offence));
    });
    // What the least of the announced sizes would take: 4 GiB, or all there is.
    assert!(rss.growth() < 4 << 20, "{} bytes more", rss.growth());
}

#[test]
fn what_a_client_said_before_its_offence_is_published() {
    let node = Tidewire::run(&hub("server1", ""));
    let mut hears = WebSocket::connect(node.address(), "/ws/room");
    let mut socket = WebSocket::connect(node.address(), "/ws/room");
    let said = RawFrame::new(TEXT, "last words").bytes(Side::Client);
    let offence = RawFrame::new(0x3, "").bytes(Side::Client);
    let behind = RawFrame::new(TEXT, "not said").bytes(Side::Client);
    socket.peer.send([said, offence, behind].concat());
    assert_eq!(hears.text(), "Received: last words");
    assert_eq!(socket.text(), "Received: last words");
    assert!(matches!(socket.next(), Got::Close(Some(1002), _)));
    hears.expect_silence(Duration::from_millis(200));
}

#[test]
fn a_hub_accepts_no_compression() {
    let node = Tidewire::run(&hub("server1", ""));
    let offer =
        "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\n\r\n";
    let text = handshake("/ws/room").replace("\r\n\r\n", offer);
    let mut socket = WebSocket::upgrade(Peer::connect(node.address()), &text);
    let response = socket.response.as_ref().expect("it was the client");
    assert!(!response.headers.has("sec-websocket-extensions"), "{:?}", response.headers);
    socket.send("plain");
    assert_eq!(socket.text(), "Received: plain");
    socket.peer.send(compressed(DEFLATED).bytes(Side::Client));
    assert!(matches!(socket.next(), Got::Close(Some(1002), _)));
}

#[test]
fn who_is_told_of_its_offence_and_stays_is_cut() {
    let mut node = Tidewire::run(&hub("server1", "close_timeout = \"300ms\""));
    let mut socket = WebSocket::connect(node.address(), "/ws/room");
    socket.peer.send(RawFrame::new(0x3, "").bytes(Side::Client));
    assert!(matches!(socket.next(), Got::Close(Some(1002), _)));
    assert_eq!(socket.next(), Got::End);
    // It goes on sending, and nobody is there any more.
    let junk = vec![0; 16 << 10];
    while socket.peer.try_send(&junk).is_ok() {}
    node.log_line(&["websocket", "reason=\"bad_frame\"", "code=1002"]);
}

// Tunnels without limits.

/// Takes what comes over its WebSockets, as it came, until they end.
fn takes_everything() -> (Backend, Receiver<Vec<u8>>) {
    let (taken, all) = channel();
    let server = Backend::start(move |request, peer| {
        let mut peer = script::accepts(request, peer).peer;
        let _ = taken.send(peer.rest());
        peer.close();
    });
    (server, all)
}

#[test]
fn a_tunnel_without_limits_passes_offences_on_as_they_are() {
    let (server, taken) = takes_everything();
    let edge = Tidewire::run(&edge(&[server.address()], "[limits]\nprofile = \"off\""));
    let offences = all_of_clients();
    for offence in &offences {
        let mut peer = Peer::connect(edge.address());
        peer.send(handshake("/ws"));
        assert_eq!(peer.response_head().status, 101);
        let sent = offence.bytes(Side::Client);
        peer.send(&sent);
        peer.finish();
        let got = taken.recv_timeout(DEADLINE).expect("the server hears it");
        assert!(got == sent, "{}: {} bytes of {}", offence.what, got.len(), sent.len());
        peer.expect_gone();
    }
}

#[test]
fn a_tunnel_without_limits_passes_a_servers_offences_on_as_they_are() {
    let rig = Rig::with(
        |request, peer| {
            let index: usize = request.target[1..].parse().expect("a number");
            let mut peer = script::accepts(request, peer).peer;
            peer.send(all_of_servers()[index].bytes(Side::Server));
            peer.close();
        },
        "[limits]\nprofile = \"off\"",
    );
    for (index, offence) in all_of_servers().iter().enumerate() {
        let mut peer = rig.connect();
        peer.send(handshake(&format!("/{index}")));
        assert_eq!(peer.response_head().status, 101);
        let (got, sent) = (peer.rest(), offence.bytes(Side::Server));
        assert!(got.starts_with(&sent), "{}: {} bytes", offence.what, got.len());
    }
}

fn all_of_servers() -> Vec<Offence> {
    let frame = RawFrame::new(TEXT, "Hello").wrongly_masked();
    let mut offences = vec![offence("a mask", [frame], 1002, "masked")];
    offences.extend(framing());
    offences.extend(closes());
    offences
}

// Tunnels as they are.

/// What a tunnel judges, which is the heads of frames: text and reasons are the receiver's.
fn judged(offences: Vec<Offence>) -> impl Iterator<Item = Offence> {
    offences.into_iter().filter(|it| it.code == 1002)
}

#[test]
fn a_tunnel_tells_a_client_what_is_no_frame_and_its_server_that_it_is_gone() {
    let _alone = alone();
    let (heard, hears) = channel();
    let server = Backend::start(move |request, peer| match request.target.as_str() {
        "/neighbour" => script::echoes(request, peer),
        _ => {
            let mut socket = script::accepts(request, peer);
            loop {
                match socket.next() {
                    Got::Close(code, _) => break heard.send(code).expect("the test listens"),
                    Got::End => break heard.send(None).expect("the test listens"),
                    _ => {}
                }
            }
            peer.close();
        }
    });
    let mut edge = Tidewire::run(&format!("workers = 1\n{}", edge(&[server.address()], "")));
    let street = Street::start(&edge, "/neighbour", "");
    let rss = RssWatch::start(&edge.child);
    street.is_calm_during("what is no frame, through a tunnel", || {
        for offence in judged(all_of_clients()) {
            let mut socket = WebSocket::connect(edge.address(), "/attacker");
            let client = format!("client={} ", socket.peer.local_address());
            socket.peer.send(offence.bytes(Side::Client));
            let what = offence.what;
            let Got::Close(code, reason) = socket.next() else { panic!("{what}: no Close") };
            assert_eq!(code, Some(offence.code), "{what}: {reason}");
            assert!(reason.contains(offence.says), "{what}: {reason}");
            let told = hears.recv_timeout(DEADLINE).expect("the server is told");
            assert_eq!(told, Some(1001), "{what}");
            drop(socket);
            let parts =
                ["websocket", &client, "by=\"client\"", "reason=\"bad_frame\"", "code=1002"];
            edge.log_line(&parts);
        }
    });
    assert!(rss.growth() < 4 << 20, "{} bytes more", rss.growth());
}

#[test]
fn a_tunnel_tells_a_server_what_is_no_frame_and_its_client_that_it_is_gone() {
    let (heard, hears) = channel();
    let mut rig = Rig::new(move |request, peer| {
        let index: usize = request.target[1..].parse().expect("a number");
        let mut socket = script::accepts(request, peer);
        socket.peer.send(judged(all_of_servers()).nth(index).expect("as many").bytes(Side::Server));
        let _ = heard.send(socket.next());
        peer.close();
    });
    for (index, offence) in judged(all_of_servers()).enumerate() {
        let what = offence.what;
        let mut socket = WebSocket::connect(rig.edge.address(), &format!("/{index}"));
        let client = format!("client={} ", socket.peer.local_address());
        assert_eq!(close_of(&mut socket), Some(1001), "{what}");
        let told = hears.recv_timeout(DEADLINE).expect("the server is told");
        let Got::Close(code, reason) = told else { panic!("{what}: {told:?}") };
        assert_eq!(code, Some(offence.code), "{what}: {reason}");
        assert!(reason.contains(offence.says), "{what}: {reason}");
        drop(socket);
        let parts = ["websocket", &client, "by=\"server\"", "reason=\"bad_frame\"", "code=1002"];
        rig.edge.log_line(&parts);
    }
}

/// The code of the next Close, whatever comes before it.
#[track_caller]
fn close_of(socket: &mut WebSocket) -> Option<u16> {
    loop {
        match socket.next() {
            Got::Close(code, _) => return code,
            Got::End => panic!("the end without a Close"),
            _ => {}
        }
    }
}
