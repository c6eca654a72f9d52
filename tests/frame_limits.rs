//! Limits on frames in a tunnel: who breaks one is told so, the other side is told in good order,
//! and nothing of the frame reaches it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::Authority;
use tidewire_testkit::deadline::{DEADLINE, until};
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::rss::RssWatch;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command, edge};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{
    Got, Opcode, WebSocket, client_frame, handshake, server_frame, switch,
};

/// What is said, of which `passes` bytes may, and what its sender is told.
#[derive(Clone)]
struct Case {
    said: Vec<u8>,
    passes: usize,
    code: u16,
    why: &'static str,
    reason: &'static str,
}

fn case(
    good: &[Vec<u8>],
    bad: Vec<u8>,
    (code, reason): (u16, &'static str),
    why: &'static str,
) -> Case {
    let good = good.concat();
    Case { passes: good.len(), said: [good, bad].concat(), code, why, reason }
}

const BAD_FRAME: (u16, &str) = (1002, "bad_frame");
const TOO_BIG: (u16, &str) = (1009, "too_big");

/// `frame` with other bits in its first two bytes.
fn bent(mut frame: Vec<u8>, first: u8, second: u8) -> Vec<u8> {
    frame[0] ^= first;
    frame[1] ^= second;
    frame
}

/// What is wrong in either direction. `frame` makes a frame of the sender.
fn wrong_in_any_framing(frame: fn(Opcode, &[u8]) -> Vec<u8>) -> Vec<Case> {
    let hello = frame(Opcode::Text, b"hello");
    let part = bent(frame(Opcode::Text, b"par"), 0x80, 0);
    let mut long = frame(Opcode::Binary, &[7; 300]);
    long[2..4].copy_from_slice(&[0, 100]); // Of a length that one byte could say.
    let mut huge = vec![0x82, 0x7F | hello[1] & 0x80];
    huge.extend([0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4]);
    let before = std::slice::from_ref(&hello);
    vec![
        case(before, bent(hello.clone(), 0x40, 0), BAD_FRAME, "reserved bits"),
        case(before, bent(hello.clone(), 0x10, 0), BAD_FRAME, "reserved bits"),
        case(before, bent(hello.clone(), 0x02, 0), BAD_FRAME, "opcode 0x3 is reserved"),
        case(
            before,
            bent(frame(Opcode::Ping, b"!"), 0x80, 0),
            BAD_FRAME,
            "a ping frame came in fragments",
        ),
        case(before, frame(Opcode::Ping, &[1; 126]), BAD_FRAME, "control frames end at 125"),
        case(before, frame(Opcode::Continuation, b"x"), BAD_FRAME, "no message to continue"),
        case(&[part], hello.clone(), BAD_FRAME, "before the fragmented message had ended"),
        case(before, long, BAD_FRAME, "not in its shortest form"),
        case(before, huge, BAD_FRAME, "has its highest bit set"),
        case(before, frame(Opcode::Close, &[3]), BAD_FRAME, "a close payload of 1 byte"),
        case(
            before,
            frame(Opcode::Close, &[3, 0xED]),
            BAD_FRAME,
            "close code 1005 must not be on the wire",
        ),
        case(&[], frame(Opcode::Close, &[0, 0]), BAD_FRAME, "close code 0 must not be on the wire"),
    ]
}

fn too_big(frame: fn(Opcode, &[u8]) -> Vec<u8>) -> Vec<Case> {
    let small = frame(Opcode::Binary, &[1; 1000]);
    let first = bent(small.clone(), 0x80, 0);
    let next = bent(first.clone(), 0x02, 0);
    let empty = bent(frame(Opcode::Continuation, b""), 0x80, 0);
    let ping = frame(Opcode::Ping, b"between");
    let good = [small.clone(), first.clone(), ping, next.clone()];
    let many = [vec![first], vec![empty.clone(); 9]].concat();
    vec![
        case(
            &[small],
            frame(Opcode::Binary, &[2; 1001]),
            TOO_BIG,
            "a frame of 1001 bytes came; the limit is 1000",
        ),
        case(&good, next, TOO_BIG, "a message of at least 3000 bytes came; the limit is 2500"),
        case(&many, empty, TOO_BIG, "a message came in more than 10 fragments"),
        case(&[], frame(Opcode::Text, &[b'a'; 70_000]), TOO_BIG, "a frame of 70000 bytes came"),
    ]
}

fn refused(frame: fn(Opcode, &[u8]) -> Vec<u8>) -> Vec<Case> {
    let text = frame(Opcode::Text, b"this is taken");
    vec![case(
        &[text],
        frame(Opcode::Binary, b"this is not"),
        (1003, "opcode"),
        "a binary message came",
    )]
}

const SIZES: &str = "{ max_frame = \"1000B\", max_message = \"2500B\", max_fragments = 10 }";

/// A server that tells, for each client, all bytes up to the Close that it gets.
fn witness() -> (impl Fn(&Request, &mut Peer) + Send + Sync + 'static, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let bytes = until_close(&mut socket, 0x82);
        socket.send_close(1001, "");
        socket.peer.close();
        let _ = sender.lock().unwrap().send(bytes);
    };
    (script, receiver)
}

/// All bytes before a Close 1001 without a reason, whose second byte is `second`.
#[track_caller]
fn until_close(socket: &mut WebSocket, second: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let close_bytes = if second & 0x80 == 0 { 4 } else { 8 };
    loop {
        let more = socket.peer.take_some();
        assert!(!more.is_empty(), "the end, after {bytes:x?}");
        bytes.extend(more);
        let Some(at) = bytes.len().checked_sub(close_bytes) else { continue };
        let [0x88, length, payload @ ..] = &bytes[at..] else { continue };
        let code = match payload {
            [one, two, _, _, high, low] => [one ^ high, two ^ low],
            other => [other[0], other[1]],
        };
        if (*length, code) == (second, [0x03, 0xE9]) {
            bytes.truncate(at);
            return bytes;
        }
    }
}

/// How a test sends its bytes.
#[derive(Clone, Copy, Debug)]
enum Sent {
    WithHandshake,
    Whole,
    ByteByByte,
    CutInTheBadHeader,
}

const WAYS: [Sent; 4] =
    [Sent::WithHandshake, Sent::Whole, Sent::ByteByByte, Sent::CutInTheBadHeader];

/// Sends it, behind `before`, which the other side reads first.
fn send(peer: &mut Peer, case: &Case, sent: Sent) {
    match sent {
        Sent::WithHandshake | Sent::Whole => peer.send(&case.said),
        Sent::ByteByByte => {
            let slow = case.said.len().min(case.passes + 20);
            let quick = case.passes.saturating_sub(20);
            peer.send(&case.said[..quick]);
            case.said[quick..slow].iter().for_each(|byte| peer.send([*byte]));
        }
        Sent::CutInTheBadHeader => {
            peer.send(&case.said[..case.passes + 1]);
            std::thread::sleep(Duration::from_millis(20));
            peer.send(&case.said[case.passes + 1..]);
        }
    }
}

/// The Close that a case is answered with comes next, then the end.
#[track_caller]
fn expect_refusal(socket: &mut WebSocket, case: &Case) {
    let Got::Close(code, why) = socket.next() else { panic!("no Close: {}", case.why) };
    assert_eq!(code, Some(case.code), "{why} is not {}", case.why);
    assert!(why.contains(case.why), "{why} is not {}", case.why);
    socket.send_close(case.code, "");
    assert_eq!(socket.next(), Got::End, "{}", case.why);
}

#[track_caller]
fn check_clients(limits: &str, cases: &[Case]) {
    let (script, heard) = witness();
    let mut rig = Rig::with(script, &format!("[limits]\nclient = {limits}"));
    for (index, case) in cases.iter().enumerate() {
        for sent in WAYS {
            let mut socket = match sent {
                Sent::WithHandshake => {
                    let mut peer = rig.connect();
                    peer.send([handshake("/ws").into_bytes(), case.said.clone()].concat());
                    peer.response_head();
                    WebSocket::opened(peer)
                }
                _ => {
                    let mut socket = rig.open();
                    send(&mut socket.peer, case, sent);
                    socket
                }
            };
            expect_refusal(&mut socket, case);
            let bytes = heard.recv_timeout(DEADLINE).expect(case.why);
            assert!(bytes == case.said[..case.passes], "case {index}, {sent:?}: {}", case.why);
        }
        let code = format!("code={}", case.code);
        let reason = format!("reason=\"{}\"", case.reason);
        rig.edge.log_line(&["websocket", "by=\"client\"", &reason, &code, "error=", case.why]);
    }
    let reason = format!("reason=\"{}\"", cases[0].reason);
    let all = (cases.len() * WAYS.len()) as f64;
    until("all ends are counted", || {
        let ends = rig.edge.metric("edge_ends_total", &[&reason, "by=\"client\""]);
        (ends == all).then_some(())
    });
}

#[test]
fn a_client_s_bad_frames_are_closed_with_1002_and_reach_no_server() {
    let mut cases = wrong_in_any_framing(client_frame);
    let hello = client_frame(Opcode::Text, b"hello");
    cases.push(case(&[hello], server_frame(Opcode::Text, b"bare"), BAD_FRAME, "not masked"));
    check_clients("{}", &cases);
}

#[test]
fn a_client_s_big_messages_are_closed_with_1009_before_they_pass() {
    check_clients(SIZES, &too_big(client_frame));
}

#[test]
fn a_client_s_message_of_another_kind_is_closed_with_1003() {
    check_clients("{ opcodes = [\"text\"] }", &refused(client_frame));
}

#[test]
fn limits_hold_under_tls_as_without() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("ca");
    ca.server(&["a.test"]).write(directory.path(), "a");
    let (script, heard) = witness();
    let server = Backend::start(script);
    let tls = "bind = \"127.0.0.1:0\"\ntls.certificate = [{ cert = \"a.pem\", key = \"a.key\" }]\n";
    let config = edge(&[server.address()], &format!("[limits]\nclient = {SIZES}"));
    let config = config.replacen("bind = \"127.0.0.1:0\"\n", tls, 1);
    let mut edge = Tidewire::run_in(command(), directory, &config);
    let client = TlsClient::new(ca.pem());
    // A byte in a record of its own, and frames that records cut.
    let cases = [too_big(client_frame), wrong_in_any_framing(client_frame)].concat();
    for case in &cases {
        for sent in [Sent::Whole, Sent::ByteByByte, Sent::CutInTheBadHeader] {
            let peer = Peer::connect_tls(edge.address(), &client, "a.test");
            let mut socket = WebSocket::upgrade(peer, &handshake("/ws"));
            send(&mut socket.peer, case, sent);
            expect_refusal(&mut socket, case);
            let bytes = heard.recv_timeout(DEADLINE).expect(case.why);
            assert!(bytes == case.said[..case.passes], "{sent:?}: {}", case.why);
        }
    }
    edge.log_line(&["websocket", "by=\"client\"", "reason=\"too_big\"", "code=1009"]);
}

#[track_caller]
fn check_servers(limits: &str, cases: Vec<Case>) {
    for case in cases {
        let (said, reason, code, why) = (case.said.clone(), case.reason, case.code, case.why);
        let passing = said[..case.passes].to_vec();
        for sent in WAYS {
            let (told, heard) = channel();
            let told = Mutex::new(told);
            let case = Case { said: said.clone(), ..case };
            let script = move |request: &Request, peer: &mut Peer| {
                let mut socket = match sent {
                    Sent::WithHandshake => {
                        let key = request.headers.get("sec-websocket-key").expect("it has a key");
                        peer.send([switch(key).into_bytes(), case.said.clone()].concat());
                        WebSocket::served(peer.another())
                    }
                    _ => {
                        let mut socket = script::accepts(request, peer);
                        send(&mut socket.peer, &case, sent);
                        socket
                    }
                };
                let got = socket.next();
                socket.send_close(1000, "");
                let _ = told.lock().unwrap().send(got);
                peer.close();
            };
            let mut rig = Rig::with(script, &format!("[limits]\nserver = {limits}"));
            let mut socket = rig.open();
            let bytes = until_close(&mut socket, 0x02);
            assert!(bytes == passing, "{sent:?}: {why}");
            socket.send_close(1001, "");
            assert_eq!(socket.next(), Got::End);
            match heard.recv_timeout(DEADLINE).expect("the server hears of it") {
                Got::Close(got, text) => {
                    assert_eq!(got, Some(code), "{text} is not {why}");
                    assert!(text.contains(why), "{text} is not {why}");
                }
                other => panic!("{other:?} for {why}"),
            }
            let reason = format!("reason=\"{reason}\"");
            rig.edge.log_line(&["websocket", "by=\"server\"", &reason, "error=", why]);
        }
    }
}

#[test]
fn a_server_s_bad_frames_are_closed_with_1002_and_reach_no_client() {
    let mut cases = wrong_in_any_framing(server_frame);
    cases.push(case(&[], client_frame(Opcode::Text, b"masked"), BAD_FRAME, "a masked frame"));
    check_servers("{}", cases);
}

#[test]
fn a_server_s_big_messages_are_closed_with_1009_before_they_pass() {
    check_servers(SIZES, too_big(server_frame));
}

#[test]
fn a_server_s_message_of_another_kind_is_closed_with_1003() {
    check_servers("{ opcodes = [\"text\"] }", refused(server_frame));
}

#[test]
fn what_is_within_the_limits_passes_however_it_comes() {
    let rig = Rig::with(script::echoes, &format!("[limits]\nclient = {SIZES}\nserver = {SIZES}"));
    let mut socket = rig.open();
    for length in [0, 1, 125, 126, 1000] {
        let payload = vec![length as u8; length];
        let frame = client_frame(Opcode::Binary, &payload);
        for cut in [1, 2, 3, 5, 7, frame.len().min(13)] {
            let cut = cut.min(frame.len());
            socket.peer.send(&frame[..cut]);
            std::thread::sleep(Duration::from_millis(2));
            socket.peer.send(&frame[cut..]);
            assert_eq!(socket.next(), Got::Binary(payload.clone()), "{length} cut at {cut}");
        }
    }
    // Limits are per message.
    for _ in 0..50 {
        socket.send_frame(Opcode::Binary, &[1; 1000]);
        assert_eq!(socket.next(), Got::Binary(vec![1; 1000]));
    }
    socket.send_close(4000, "bye");
    assert_eq!(socket.next(), Got::Close(Some(4000), "bye".to_owned()));
}

#[test]
fn what_follows_a_close_reaches_nobody() {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let tell = |bytes| _ = sender.lock().unwrap().send(bytes);
        tell(socket.peer.take(8));
        // By then all that may follow has followed.
        tell(socket.peer.take_until(b"never").unwrap_or_default());
    });
    let mut socket = rig.open();
    let close = client_frame(Opcode::Close, &[3, 0xE8]);
    socket.peer.send([&close[..], &client_frame(Opcode::Text, b"late")].concat());
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(close));
    socket.peer.send(client_frame(Opcode::Text, b"later"));
    socket.peer.finish();
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(Vec::new()));
    let mut edge = rig.edge;
    edge.log_line(&["websocket", "by=\"client\"", "reason=\"close\"", "code=1000"]);
}

#[test]
fn with_the_profile_off_everything_passes() {
    let (script, heard) = witness();
    let rig = Rig::with(script, "[limits]\nprofile = \"off\"");
    for case in wrong_in_any_framing(client_frame) {
        // Where the frame of a length of 64 bits ends nobody can say, and a Close ends all.
        if case.why.contains("highest bit") || case.why.contains("close") {
            continue;
        }
        let mut socket = rig.open();
        socket.peer.send(&case.said);
        socket.send_close(1001, "");
        assert_eq!(socket.next(), Got::Close(Some(1001), String::new()), "{}", case.why);
        let bytes = heard.recv_timeout(DEADLINE).expect(case.why);
        assert!(bytes == case.said, "{}", case.why);
    }
}

#[test]
fn the_strict_profile_takes_a_mebibyte_of_clients_and_refuses_compression() {
    let (script, heard) = witness();
    let rig = Rig::with(script, "[limits]\nprofile = \"strict\"");
    let mut peer = rig.connect();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: websocket";
    peer.send(handshake("/ws").replace("Upgrade: websocket", offer));
    peer.response_head();
    let mut socket = WebSocket::opened(peer);
    let most = client_frame(Opcode::Binary, &vec![1; 1 << 20]);
    let more = client_frame(Opcode::Binary, &vec![1; (1 << 20) + 1]);
    socket.peer.send([most.clone(), more].concat());
    assert!(matches!(socket.next(), Got::Close(Some(1009), _)));
    socket.send_close(1009, "");
    let bytes = heard.recv_timeout(DEADLINE).expect("the server hears of it");
    assert!(bytes == most);
    let request = rig.server.request();
    assert!(!request.headers.has("sec-websocket-extensions"), "{request:?}");
}

#[test]
fn compressed_messages_pass_where_both_sides_agreed_on_them() {
    let script = |request: &Request, peer: &mut Peer| {
        let key = request.headers.get("sec-websocket-key").expect("it has a key");
        let more = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        peer.send(switch(key).replace("\r\n\r\n", more));
        let mut bytes = Vec::new();
        while bytes.len() < 24 {
            bytes.extend(peer.take_some());
        }
        // Back as it came, without the mask.
        let first = bent(server_frame(Opcode::Text, b"part"), 0xC0, 0);
        peer.send([first, server_frame(Opcode::Continuation, b"rest")].concat());
        let rest = peer.take_some();
        peer.send(server_frame(Opcode::Close, &[3, 0xE8]));
        assert_eq!(rest[0], 0x88, "{rest:x?}");
        peer.close();
    };
    let mut rig = Rig::new(script);
    let mut peer = rig.connect();
    let offer = "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate";
    peer.send(handshake("/ws").replace("Upgrade: websocket", offer));
    peer.response_head();
    let first = bent(client_frame(Opcode::Text, b"part"), 0xC0, 0);
    peer.send([first, client_frame(Opcode::Continuation, b"compressed")].concat());
    assert_eq!(peer.take(12), b"\x41\x04part\x80\x04rest");
    // On a fragment that is not the first, the bit means nothing.
    peer.send(bent(client_frame(Opcode::Ping, b"!"), 0x40, 0));
    let close = peer.take(4);
    assert_eq!((close[0], &close[2..]), (0x88, [0x03, 0xEA].as_slice()));
    rig.edge.log_line(&["websocket", "by=\"client\"", "reason=\"bad_frame\"", "reserved bits"]);
}

#[test]
fn who_floods_and_does_not_answer_its_close_is_cut_off() {
    let (script, heard) = witness();
    let more = "[timeout]\nclient-fin = \"1s\"\n[limits]\nclient = { max_message = \"1KiB\" }";
    let rig = Rig::with(script, more);
    let mut socket = rig.open();
    let start = Instant::now();
    socket.peer.send(client_frame(Opcode::Binary, &[1; 2000]));
    assert!(matches!(socket.next(), Got::Close(Some(1009), _)));
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(Vec::new()));
    let mut flood = socket.peer.another();
    let flooding = std::thread::spawn(move || {
        let frame = client_frame(Opcode::Binary, &[1; 60_000]);
        flood.send_until_stuck(&frame, Duration::from_millis(300))
    });
    socket.peer.expect_gone();
    // Earlier than after the ten seconds that it would be without `client_fin`.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    let _ = flooding.join();
}

/// Whoever sent a message that was too big may have the rest of it under way, and is to get to its
/// Close: so some is read and dropped. It is not kept, and there is an end to it.
#[test]
fn of_a_flood_behind_a_close_16_mib_are_read_and_nothing_is_kept() {
    let (script, _heard) = witness();
    let more = "[timeout]\nclient-fin = \"8s\"\n[limits]\nclient = { max_message = \"1KiB\" }";
    let mut rig = Rig::with(script, more);
    let mut socket = rig.open();
    let client = format!("client={} ", socket.peer.local_address());
    let rss = RssWatch::start(&rig.edge.child);
    socket.peer.send(client_frame(Opcode::Binary, &[1; 2000]));
    assert!(matches!(socket.next(), Got::Close(Some(1009), _)));
    let frame = client_frame(Opcode::Binary, &[1; 60_000]);
    while socket.peer.try_send(&frame).is_ok() {}
    let line = rig.edge.log_line(&["websocket", &client, "reason=\"too_big\""]);
    let (_, field) = line.split_once(" bytes_in=").expect("the line has it");
    let read: u64 = field.split(' ').next().unwrap().parse().expect("a number");
    // The last read of those may be of 32 KiB; the handshake and the first frame are not dropped.
    let (least, most) = (16 << 20, (16 << 20) + (32 << 10) + 4000);
    assert!((least..=most).contains(&read), "{read} bytes are read");
    let growth = rss.growth();
    assert!(growth <= 2 << 20, "{growth} bytes more");
}

// How fast, how long, and who takes nothing.

/// What reaches the server of a client that sends `count` small messages in one go.
fn flood(frame: &[u8], count: usize, limits: &str) -> (Got, Vec<u8>, Rig) {
    let (script, heard) = witness();
    let rig = Rig::with(script, &format!("[limits]\nclient = {limits}"));
    let mut socket = rig.open();
    socket.peer.send(frame.repeat(count));
    let got = socket.next();
    socket.send_close(1008, "");
    (got, heard.recv_timeout(DEADLINE).expect("the server hears of it"), rig)
}

#[test]
fn who_is_faster_than_it_may_is_closed_with_1008_where_that_is_set() {
    let text = client_frame(Opcode::Text, b"chatter");
    let limits = "{ messages = \"50/s\", over_rate = \"close\" }";
    let (got, bytes, mut rig) = flood(&text, 100, limits);
    let Got::Close(Some(1008), why) = got else { panic!("{got:?}") };
    assert_eq!(why, "messages came faster than they may");
    // All that may come at once, and what a tenth of a second more allows if it came in two reads.
    let messages = bytes.len() / text.len();
    assert!((50..=60).contains(&messages) && bytes == text.repeat(messages), "{messages}");
    rig.edge.log_line(&["websocket", "by=\"client\"", "reason=\"rate\"", "code=1008", "messages"]);

    let ping = client_frame(Opcode::Ping, b"");
    let limits = "{ messages = \"1/h\", control = \"20/s\", over_rate = \"close\" }";
    let (got, bytes, _) = flood(&ping, 100, limits);
    assert!(
        matches!(&got, Got::Close(Some(1008), why) if why.contains("control frames")),
        "{got:?}"
    );
    assert!((20..=24).contains(&(bytes.len() / ping.len())), "{}", bytes.len());

    let limits = "{ bytes = \"1KiB/s\", over_rate = \"close\" }";
    let (got, bytes, _) = flood(&client_frame(Opcode::Binary, &[1; 600]), 10, limits);
    assert!(matches!(&got, Got::Close(Some(1008), why) if why.contains("bytes")), "{got:?}");
    assert_eq!(bytes.len() / 608, 2, "the second still began within the rate");
}

#[test]
fn who_is_faster_than_it_may_waits_and_loses_nothing() {
    let more = "[limits]\nclient = { messages = \"100/s\" }";
    let rig = Rig::with(script::echoes, more);
    let mut socket = rig.open();
    // Within the rate nobody waits.
    (0..50).for_each(|_| socket.expect_echo("at ease"));
    assert_eq!(rig.edge.metric("edge_tunnel_waits_total", &[]), 0.0);
    let start = Instant::now();
    socket.peer.send(client_frame(Opcode::Text, b"x").repeat(250));
    (0..250).for_each(|_| assert_eq!(socket.text(), "x"));
    socket.expect_echo("after the wait");
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(1_500), "{waited:?} for twice what may come");
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    rig.edge.expect_metric_at_least("edge_tunnel_waits_total", &["direction=\"from_client\""], 1.0);
    assert_eq!(rig.edge.metric("edge_tunnel_waits_total", &["direction=\"to_client\""]), 0.0);
}

/// Also what came with the handshake, and the wait is counted once.
#[test]
fn what_is_taken_of_who_has_to_wait_reaches_its_server_at_once() {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let _ = sender.lock().unwrap().send((socket.next(), socket.next()));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(20));
            socket.send("heard");
        }
        socket.peer.expect_gone();
    };
    let rig = Rig::with(script, "[limits]\nclient = { messages = \"1/h\" }");
    let texts = [client_frame(Opcode::Text, b"one"), client_frame(Opcode::Text, b"two")];
    let mut peer = rig.connect();
    peer.send([handshake("/ws").into_bytes(), texts.concat()].concat());
    peer.response_head();
    let text = |text: &str| Got::Text(text.to_owned());
    assert_eq!(heard.recv_timeout(DEADLINE), Ok((text("one"), text("two"))));
    let mut socket = WebSocket::opened(peer);
    (0..5).for_each(|_| assert_eq!(socket.text(), "heard"));
    rig.edge.expect_metric("edge_tunnel_waits_total", &["direction=\"from_client\""], 1.0);
}

#[test]
fn a_message_counts_once_whatever_its_fragments_and_a_close_does_not() {
    let limits = "[limits]\nclient = { messages = \"2/h\", over_rate = \"close\" }";
    let rig = Rig::with(script::echoes, limits);
    let mut socket = rig.open();
    let first = bent(client_frame(Opcode::Text, b"a"), 0x80, 0);
    let next = bent(client_frame(Opcode::Continuation, b"b"), 0x80, 0);
    let last = client_frame(Opcode::Continuation, b"c");
    socket.peer.send([first, next.repeat(5), last].concat());
    assert_eq!(socket.text(), "abbbbbc");
    socket.expect_echo("the second");
    socket.send_close(4000, "");
    assert_eq!(socket.next(), Got::Close(Some(4000), String::new()));
}

#[test]
fn bytes_pass_at_their_rate_also_within_one_frame() {
    let more = "workers = 1\n";
    let limits = "[limits]\nserver = { bytes = \"100KiB/s\" }";
    let server = tidewire_testkit::backend::Backend::start(|request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        socket.peer.send(server_frame(Opcode::Binary, &vec![1; 300 << 10]));
        socket.peer.expect_gone();
    });
    let config = tidewire_testkit::tidewire::edge(&[server.address()], limits);
    let edge = tidewire_testkit::tidewire::Tidewire::run(&format!("{more}{config}"));
    let start = Instant::now();
    let mut socket = WebSocket::connect(edge.address(), "/");
    assert!(matches!(socket.next(), Got::Binary(bytes) if bytes.len() == 300 << 10));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1_200) && took < Duration::from_secs(15), "{took:?}");
    let spent = edge.cpu_time_during(Duration::from_millis(500));
    assert!(spent < Duration::from_millis(100), "{spent:?}");
}

#[test]
fn a_websocket_that_is_old_enough_ends_in_good_order_and_not_all_at_once() {
    let (script, heard) = witness();
    let rig = Rig::with(script, "[limits]\nlifetime = \"10s\"");
    let start = Instant::now();
    let mut sockets: Vec<WebSocket> = (0..8).map(|_| rig.open()).collect();
    for socket in &mut sockets {
        // The test's patience is shorter than their lives.
        until("it ends", || socket.peer.wait().ok());
    }
    for socket in &mut sockets {
        assert_eq!(socket.next(), Got::Close(Some(1001), "lifetime".to_owned()));
        socket.send_close(1001, "");
        assert_eq!(heard.recv_timeout(DEADLINE), Ok(Vec::new()));
    }
    assert!(start.elapsed() > Duration::from_secs(9) && start.elapsed() < Duration::from_secs(40));
    let life = |line: &String| {
        let is_one = line.contains("reason=\"lifetime\"") && line.contains("by=\"edge\"");
        is_one.then(|| line.split_once("duration_ms=").expect("it lived").1.to_owned())
    };
    let mut lives = until("all are logged", || {
        let lives: Vec<String> = rig.edge.child.stderr().iter().filter_map(life).collect();
        (lives.len() == 8).then_some(lives)
    });
    lives.sort_unstable();
    lives.dedup();
    assert!(lives.len() > 2, "{lives:?}");
}

#[test]
fn one_that_waits_for_its_rate_still_ends_in_time() {
    let (script, heard) = witness();
    let more = "[limits]\nlifetime = \"3s\"\nclient = { messages = \"1/h\" }";
    let rig = Rig::with(script, more);
    let mut socket = rig.open();
    let texts = [client_frame(Opcode::Text, b"one"), client_frame(Opcode::Text, b"two")];
    socket.peer.send(texts.concat());
    assert_eq!(socket.next(), Got::Close(Some(1001), "lifetime".to_owned()));
    let spent = rig.edge.cpu_time_during(Duration::from_millis(300));
    assert!(spent < Duration::from_millis(100), "{spent:?}");
    socket.send_close(1001, "");
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(texts.concat()));
    assert_eq!(socket.next(), Got::End);
}

/// Its last frame is under way when its time is over, as the server has not taken it yet.
#[test]
fn who_hangs_up_behind_its_last_frame_has_it_delivered_and_its_server_told() {
    const LENGTH: usize = 16 << 20;
    let (go, wait) = channel::<()>();
    let (sender, heard) = channel();
    let (wait, sender) = (Mutex::new(wait), Mutex::new(sender));
    let rig = Rig::with(
        move |request, peer| {
            let mut socket = script::accepts(request, peer);
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
            let is_whole = matches!(socket.next(), Got::Binary(bytes) if bytes.len() == LENGTH);
            let _ = sender.lock().unwrap().send((is_whole, socket.next()));
        },
        "[limits]\nlifetime = \"3s\"",
    );
    let mut socket = rig.open();
    let mut other = socket.peer.another();
    let sending = std::thread::spawn(move || {
        other.send(client_frame(Opcode::Binary, &vec![1; LENGTH]));
        other.finish();
    });
    assert_eq!(socket.next(), Got::Close(Some(1001), "lifetime".to_owned()));
    go.send(()).expect("the server waits for it");
    let heard = heard.recv_timeout(DEADLINE);
    assert_eq!(heard, Ok((true, Got::Close(Some(1001), String::new()))));
    sending.join().expect("all of it was taken");
}

#[test]
fn a_server_that_takes_nothing_is_slow_and_its_client_is_told() {
    let mut rig = Rig::with(script::stalls_after_101, "[limits]\nstall = \"1s\"");
    let mut socket = rig.open();
    let frame = client_frame(Opcode::Binary, &[0; 60_000]);
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        socket.peer.send_until_stuck(&frame, Duration::from_millis(500))
    }));
    assert_eq!(socket.next(), Got::Close(Some(1001), String::new()));
    rig.edge.log_line(&["websocket", "by=\"server\"", "reason=\"slow\""]);
}

#[test]
fn a_client_that_takes_nothing_is_slow_and_its_server_is_told() {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let frame = server_frame(Opcode::Binary, &[0; 60_000]);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            socket.peer.send_until_stuck(&frame, Duration::from_millis(500))
        }));
        let _ = sender.lock().unwrap().send(socket.next());
    };
    let mut rig = Rig::with(script, "[limits]\nstall = \"1s\"");
    let mut peer = Peer::connect_with_buffer(rig.edge.address(), 16 << 10);
    peer.send(handshake("/"));
    peer.response_head();
    let told = heard.recv_timeout(DEADLINE).expect("the server hears of it");
    assert_eq!(told, Got::Close(Some(1001), String::new()));
    rig.edge.log_line(&["websocket", "by=\"client\"", "reason=\"slow\""]);
    drop(peer);
}

#[test]
fn who_takes_little_by_little_is_not_slow() {
    let script = |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        socket.peer.send(server_frame(Opcode::Binary, &vec![0; 4 << 20]));
        socket.peer.expect_gone();
    };
    let rig = Rig::with(script, "[limits]\nstall = \"4s\"");
    let mut peer = Peer::connect_with_buffer(rig.edge.address(), 16 << 10);
    peer.send(handshake("/"));
    peer.response_head();
    let mut rest = (4 << 20) + 10;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        rest -= peer.take_some().len();
        std::thread::sleep(Duration::from_millis(100));
    }
    peer.take(rest);
}
