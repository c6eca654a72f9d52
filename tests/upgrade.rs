//! The WebSocket handshake through the edge: what it lets pass, what it refuses, on both sides.
//!
//! A proxy that switches to raw bytes too early, or on the word of one side, lets requests be
//! smuggled past every rule. Each case is one that some proxy has had wrong.

use std::time::Duration;

use tidewire_testkit::backend::Script;
use tidewire_testkit::http::{Headers, Response};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, hub};
use tidewire_testkit::websocket::{
    Got, KEY, Opcode, WebSocket, client_frame, handshake, server_frame, switch,
};

/// The answer to a handshake in which `line` was replaced.
#[track_caller]
fn answer(rig: &Rig, line: &str, replacement: &str) -> Response {
    let text = handshake("/");
    assert!(text.contains(line), "no {line:?} to replace");
    rig.answer(&text.replacen(line, replacement, 1))
}

const CONNECTION: &str = "Connection: Upgrade\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";

// What a client may ask.

/// A handshake in which `line` was replaced is refused, and no server hears of it.
#[track_caller]
fn check_refused(line: &str, replacement: &str, status: u16) -> Headers {
    let rig = Rig::new(script::echoes);
    let answer = answer(&rig, line, replacement).expect(status);
    assert_eq!(rig.server.accepted(), 0, "the server was asked");
    answer.headers
}

#[test]
fn a_handshake_has_exactly_one_key_of_16_bytes() {
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    check_refused(&key, "", 400);
    check_refused(&key, &key.repeat(2), 400);
    check_refused(&key, "Sec-WebSocket-Key: c2hvcnQ=\r\n", 400);
}

#[test]
fn another_version_is_told_which_one_to_use() {
    for version in ["Sec-WebSocket-Version: 777\r\n", "Sec-WebSocket-Version: 8\r\n", ""] {
        let headers = check_refused("Sec-WebSocket-Version: 13\r\n", version, 426);
        assert_eq!(headers.get("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn a_handshake_is_a_get_without_a_body() {
    check_refused("GET", "POST", 405);
    check_refused("GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\n", 400);
    check_refused("Host", "Content-Length: 2\r\nHost", 400);
    check_refused("Host", "Transfer-Encoding: chunked\r\nHost", 400);
    check_refused("Host", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\nHost", 400);
}

/// A handshake in which `line` was replaced reaches the server as plain HTTP: without any sign that
/// protocols could be switched.
#[track_caller]
fn check_plain(line: &str, replacement: &str) {
    let rig = Rig::new(script::mirrors);
    answer(&rig, line, replacement).expect(200);
    let request = rig.server.request();
    for header in ["upgrade", "connection", "http2-settings"] {
        assert!(!request.headers.has(header), "{header} in {:?}", request.headers);
    }
}

#[test]
fn without_the_connection_token_it_is_plain_http() {
    check_plain(CONNECTION, "");
    check_plain(CONNECTION, "Connection: keep-alive\r\n");
}

#[test]
fn tokens_that_are_not_websocket_are_not_passed_on() {
    check_plain(UPGRADE, "Upgrade: foo\r\n");
    check_plain(UPGRADE, "Upgrade: TLS/1.2\r\n");
    check_plain(UPGRADE, "Upgrade: h2c\r\n");
    check_plain(UPGRADE, "Upgrade: h2c\r\nConnection: HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n");
    check_plain("HTTP/1.1", "HTTP/1.0");
}

#[test]
fn websocket_among_other_tokens_is_passed_on_alone() {
    for upgrade in ["Upgrade: websocket, h2c\r\n", "Upgrade: h2c\r\nUpgrade: WebSocket\r\n"] {
        let rig = Rig::new(script::echoes);
        answer(&rig, UPGRADE, upgrade).expect(101);
        assert_eq!(rig.server.request().headers.get("upgrade"), Some("websocket"));
    }
}

#[test]
fn a_token_among_others_in_connection_is_enough() {
    let rig = Rig::new(script::echoes);
    answer(&rig, CONNECTION, "Connection: keep-alive, UPGRADE\r\n").expect(101);
    assert_eq!(rig.server.request().headers.get("connection"), Some("Upgrade"));
}

#[test]
fn what_the_client_nominates_is_dropped_and_what_the_edge_says_stays() {
    let rig = Rig::new(script::echoes);
    let nominated = "Connection: Upgrade, X-Forwarded-For, X-Secret, Sec-WebSocket-Protocol\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Secret: 1\r\nX_Forwarded_For: 6.6.6.6\r\nCookie: a=b\r\n";
    answer(&rig, CONNECTION, nominated).expect(101);
    let headers = rig.server.request().headers;
    assert_eq!(headers.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(headers.get("cookie"), Some("a=b"));
    assert!(!headers.has("x-secret") && !headers.has("x_forwarded_for"), "{headers:?}");
    let nominated = "Connection: Upgrade, X-Forwarded-For, Cookie\r\nCookie: a=b\r\n";
    answer(&rig, CONNECTION, nominated).expect(101);
    let headers = rig.server.request().headers;
    assert_eq!(headers.get("x-forwarded-for"), Some("127.0.0.1"));
    assert!(!headers.has("cookie"), "{headers:?}");
}

#[test]
fn key_subprotocols_and_extensions_reach_the_server_as_they_were_sent() {
    let rig = Rig::new(script::echoes);
    let more = "Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://a.test\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nHost";
    answer(&rig, "Host", more).expect(101);
    let request = rig.server.request();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/"));
    for (name, value) in [
        ("host", "a.test"),
        ("origin", "http://a.test"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ] {
        assert_eq!(request.headers.get(name), Some(value), "{name}");
    }
}

// What a server may answer.

/// A 101 like this is answered 502, and nothing of the server's reaches the client.
#[track_caller]
fn check_bad_switch(script: Script) {
    let rig = Rig::new(script);
    let mut peer = rig.connect();
    peer.send(handshake("/"));
    let answer = peer.response().expect(502);
    assert!(!answer.headers.has("sec-websocket-accept"), "{:?}", answer.headers);
    assert!(answer.text().starts_with("502 Bad Gateway: "), "{}", answer.text());
}

#[test]
fn a_101_that_does_not_answer_the_handshake_is_a_502() {
    check_bad_switch(script::wrong_accept);
    check_bad_switch(script::no_accept);
    check_bad_switch(script::two_accepts);
    check_bad_switch(script::switches_to_foo);
    check_bad_switch(script::switches_to_nothing);
    check_bad_switch(script::switches_without_connection);
    check_bad_switch(script::picks_a_subprotocol_of_its_own);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_502() {
    let rig = Rig::new(script::switches_unasked);
    let mut peer = rig.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peer.response().expect(502);
}

#[test]
fn a_server_that_does_not_speak_http_is_a_502() {
    check_bad_switch(script::speaks_no_http);
    check_bad_switch(script::closes_before_answer);
}

#[test]
fn a_server_that_never_answers_is_a_504() {
    let rig = Rig::with(script::never_answers, "[timeout]\nserver = \"200ms\"");
    answer(&rig, "Host", "Host").expect(504);
}

#[test]
fn an_informational_answer_before_the_101_is_not_the_answer() {
    let rig = Rig::new(script::hints_before_101);
    let mut socket = WebSocket::connect(rig.edge.address(), "/");
    socket.expect_echo("through");
}

#[test]
fn a_server_may_decline_and_the_client_learns_how() {
    let rig = Rig::new(script::declines_with_426);
    answer(&rig, "Host", "Host").expect(426);
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n");
        peer.send("Content-Length: 4\r\n\r\nwho?");
    });
    let answer = answer(&rig, "Host", "Host").expect(401);
    assert_eq!(answer.headers.get("www-authenticate"), Some("Basic"));
    assert_eq!(answer.text(), "who?");
}

#[test]
fn what_follows_a_handshake_that_failed_never_reaches_the_server_as_it_is() {
    let rig = Rig::new(script::answers_200_to_upgrade);
    let mut peer = rig.connect();
    peer.send(format!("{}GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n", handshake("/")));
    peer.response().expect(200);
    assert_eq!(rig.server.request().target, "/");
    // Either it is a request of its own, with its own head, or the connection is over.
    if let Some(head) = peer.take_until(b"\r\n\r\n") {
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let request = rig.server.request();
        assert_eq!(request.headers.get("x-forwarded-for"), Some("127.0.0.1"));
    }
    assert!(rig.server.requests().is_empty());
}

#[test]
fn a_connection_on_which_a_handshake_failed_is_not_used_again() {
    let rig = Rig::new(|request, peer| match request.target.as_str() {
        "/ws" => script::answers_200_to_upgrade(request, peer),
        _ => script::mirrors(request, peer),
    });
    let mut peer = rig.connect();
    peer.send(handshake("/ws"));
    peer.response().expect(200);
    let mut peer = rig.connect();
    peer.send("GET /plain HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peer.response().expect(200);
    assert_eq!(rig.server.accepted(), 2);
}

// Bytes around the 101.

#[test]
fn bytes_behind_the_handshake_wait_for_the_101() {
    let rig = Rig::new(|request, peer| {
        // A byte that comes now breaks the script, and the test with it.
        peer.expect_silence(Duration::from_millis(300));
        script::echoes(request, peer);
    });
    let mut peer = rig.connect();
    peer.send([handshake("/").as_bytes(), &client_frame(Opcode::Text, b"too early")].concat());
    peer.response().expect(101);
    assert_eq!(WebSocket::opened(peer).text(), "too early");
}

#[test]
fn a_handshake_behind_a_request_in_one_piece_opens_a_websocket() {
    let rig = Rig::new(script::serves("a"));
    let mut peer = rig.connect();
    peer.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n{}", handshake("/ws")));
    assert_eq!(peer.response().expect(200).text(), "a");
    peer.response_head().expect(101);
    WebSocket::opened(peer).expect_echo("open");
}

#[test]
fn a_flood_behind_the_handshake_is_held_in_bounded_memory() {
    let rig = Rig::with_one_worker(script::never_answers);
    let frame = client_frame(Opcode::Binary, &[0; 60_000]);
    let flood = || {
        let mut peer = rig.connect();
        peer.send(handshake("/"));
        peer.send_until_stuck(&frame, Duration::from_millis(150));
        peer
    };
    let first = flood();
    let before = rig.edge.child.memory();
    let others: Vec<Peer> = (0..4).map(|_| flood()).collect();
    let each = rig.edge.child.memory().saturating_sub(before) / others.len() as u64;
    assert!(each < 64 << 10, "{each} bytes are held of each flood");
    drop(first);
}

#[test]
fn bytes_glued_to_the_101_are_delivered() {
    let rig = Rig::new(script::glues_bytes_to_101);
    let mut socket = WebSocket::connect(rig.edge.address(), "/");
    assert_eq!(socket.text(), "glued");
    socket.expect_echo("and on");
}

#[test]
fn a_101_of_any_length_is_whole_and_so_is_what_follows_it() {
    let rig = Rig::new(|request, peer| {
        let length: usize = request.target[1..].parse().expect("the length is in the path");
        let key = request.headers.get("sec-websocket-key").expect("a handshake has a key");
        let head = switch(key);
        let fill = length - head.len() - "X: \r\n".len();
        let head = head.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(fill)));
        assert_eq!(head.len(), length);
        peer.send([head.as_bytes(), &server_frame(Opcode::Text, b"handshaked")].concat());
        peer.expect_gone();
    });
    for size in [512, 1024, 2048, 4096, 8192] {
        for length in [size - 13, size - 12, size - 1, size, size + 1] {
            let mut socket = WebSocket::connect(rig.edge.address(), &format!("/{length}"));
            assert_eq!(socket.text(), "handshaked", "a 101 of {length} bytes");
        }
    }
}

#[test]
fn frames_in_a_row_behind_an_early_one_arrive_in_their_order() {
    let rig = Rig::new(script::echoes);
    let mut peer = rig.connect();
    peer.send([handshake("/").as_bytes(), &client_frame(Opcode::Text, b"foo")].concat());
    peer.response().expect(101);
    let mut socket = WebSocket::opened(peer);
    let big = "foo".repeat(16 * 1024);
    let frames = (1..=10).flat_map(|index| [format!("{big}{index}"), format!("bazz{index}")]);
    let frames: Vec<String> = frames.collect();
    for frame in &frames {
        socket.send(frame);
    }
    assert_eq!(socket.text(), "foo");
    for frame in &frames {
        assert!(socket.text() == *frame, "another frame than {}", &frame[frame.len() - 6..]);
    }
}

#[test]
fn what_a_server_says_after_the_client_s_end_is_delivered() {
    let rig = Rig::new(|request, peer| {
        let mut socket = script::accepts(request, peer);
        while socket.next() != Got::End {}
        socket.send("last words");
        peer.close();
    });
    let mut socket = WebSocket::connect(rig.edge.address(), "/");
    socket.peer.finish();
    assert_eq!(socket.text(), "last words");
    assert_eq!(socket.next(), Got::End);
}

#[test]
fn what_a_client_says_after_the_server_s_end_is_delivered() {
    let (said, heard) = std::sync::mpsc::channel();
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        socket.send("bye");
        socket.peer.finish();
        let _ = said.send(socket.text());
        peer.close();
    });
    let mut socket = WebSocket::connect(rig.edge.address(), "/");
    assert_eq!(socket.text(), "bye");
    assert_eq!(socket.next(), Got::End);
    socket.send("last words");
    let heard = heard.recv_timeout(Duration::from_secs(20)).expect("the server hears them");
    assert_eq!(heard, "last words");
}

// A route that ends in the hub keeps the same rules.

#[test]
fn the_hub_refuses_what_is_not_a_handshake() {
    let node = Tidewire::run(&hub("server1", ""));
    for (line, replacement, status) in [
        ("Sec-WebSocket-Key", "X-Key", 400),
        ("Version: 13", "Version: 12", 426),
        ("Host", "Content-Length: 2\r\nHost", 400),
        ("GET", "POST", 405),
        (CONNECTION, "", 426),
        (UPGRADE, "Upgrade: h2c\r\n", 426),
        ("HTTP/1.1", "HTTP/1.0", 426),
        ("/ws/echo", "/ws/", 404),
        ("/ws/echo", "/ws/a/b", 404),
        ("/ws/echo", "/ws/%0a", 400),
    ] {
        let mut peer = Peer::connect(node.address());
        peer.send(handshake("/ws/echo").replacen(line, replacement, 1));
        let answer = peer.response();
        assert_eq!(answer.status, status, "{replacement:?} for {line:?}: {}", answer.text());
    }
}
