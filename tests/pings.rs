//! Pings by the edge: whoever is there answers and is left alone, no answer is passed on, and who
//! is gone is found in time.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::certs::Authority;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{
    Got, Opcode, WebSocket, client_frame, handshake, server_frame, switch,
};

/// The edge's configuration before `servers`, with these pings on its route.
fn pinging(servers: &Backend, ping: &str, more: &str) -> String {
    let config = edge(&[servers.address()], more);
    config.replace("[[route]]", &format!("[[route]]\nname = \"all\"\nping = {ping}"))
}

fn rig(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, ping: &str) -> Rig {
    rig_with(script, ping, "")
}

fn rig_with(
    script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ping: &str,
    more: &str,
) -> Rig {
    let server = Backend::start(script);
    let edge = Tidewire::run(&pinging(&server, ping, more));
    Rig { server, edge }
}

/// A server that tells what it gets, and answers a text with itself.
fn tells() -> (impl Fn(&Request, &mut Peer) + Send + Sync + 'static, Receiver<Got>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        loop {
            let got = socket.next();
            match &got {
                Got::Text(text) => socket.send(text),
                Got::Ping(payload) => socket.send_frame(Opcode::Pong, payload),
                Got::Close(code, _) => socket.send_close(code.unwrap_or(1000), ""),
                Got::End => socket.peer.close(),
                _ => {}
            }
            let is_end = got == Got::End;
            let _ = sender.lock().unwrap().send(got);
            if is_end {
                return;
            }
        }
    };
    (script, receiver)
}

fn next(receiver: &Receiver<Got>) -> Got {
    receiver.recv_timeout(Duration::from_secs(20)).expect("the server gets something")
}

/// Sends a 101 and `bytes` in one piece: before them the edge has no time to ping anybody.
fn accepts_with(request: &Request, peer: &mut Peer, bytes: &[u8]) -> WebSocket {
    let key = request.headers.get("sec-websocket-key").expect("a handshake has a key");
    peer.send([switch(key).as_bytes(), bytes].concat());
    WebSocket::served(peer.take_over())
}

/// The payload of the next ping.
#[track_caller]
fn ping(socket: &mut WebSocket) -> Vec<u8> {
    match socket.next() {
        Got::Ping(payload) => payload,
        other => panic!("{other:?}, not a ping"),
    }
}

const QUICK: &str = "{ client = \"300ms\", pong = \"5s\" }";
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_silent_client_is_pinged_and_no_server_hears_of_its_answers() {
    let (script, got) = tells();
    let rig = rig(script, QUICK);
    let mut socket = rig.open();
    let mut payloads = Vec::new();
    for _ in 0..3 {
        let payload = ping(&mut socket);
        assert_eq!(payload.len(), 8);
        assert!(!payloads.contains(&payload), "each ping is known by its number");
        socket.send_frame(Opcode::Pong, &payload);
        payloads.push(payload);
    }
    socket.send("after all that");
    assert_eq!(next(&got), Got::Text("after all that".into()));
    assert_eq!(socket.text(), "after all that");
    let metric = |name: &str| rig.edge.metric(name, &["route=\"all\"", "peer=\"client\""]);
    assert!(metric("edge_pings_total") >= 3.0);
    let peer = ["route=\"all\"", "peer=\"client\""];
    rig.edge.expect_metric_at_least("edge_pongs_total", &peer, 3.0);
    assert!(metric("edge_ping_rtt_microseconds_total") > 0.0);
    assert_eq!(metric("edge_ping_timeouts_total"), 0.0);
    // What is not passed on is not counted as if it were.
    let bytes = ["route=\"all\"", "direction=\"from_client\""];
    rig.edge.expect_metric("edge_tunnel_bytes_total", &bytes, 6.0 + 14.0);
    assert!(!rig.edge.metrics().contains("peer=\"server\""), "servers are not pinged here");
}

#[test]
fn a_pong_is_taken_out_of_whatever_is_around_it_and_however_it_comes() {
    let (script, got) = tells();
    let rig = rig(script, QUICK);
    let mut socket = rig.open();
    let mut first = client_frame(Opcode::Text, b"in ");
    first[0] &= 0x7F; // Not the final one.
    let last = client_frame(Opcode::Continuation, b"pieces");
    // In one write, between the fragments of a message and with a pong that is the client's own.
    let payload = ping(&mut socket);
    let pong = client_frame(Opcode::Pong, &payload);
    let own = client_frame(Opcode::Pong, b"my own..");
    socket.peer.send([&first[..], &pong, &own, &last].concat());
    assert_eq!(next(&got), Got::Pong(b"my own..".to_vec()));
    assert_eq!(next(&got), Got::Text("in pieces".into()));
    assert_eq!(socket.text(), "in pieces");
    // Byte by byte, with the beginning of the next frame behind it.
    let payload = ping(&mut socket);
    let pong = client_frame(Opcode::Pong, &payload);
    for byte in [&first[..], &pong, &last].concat() {
        socket.peer.send([byte]);
    }
    assert_eq!(next(&got), Got::Text("in pieces".into()));
    assert_eq!(socket.text(), "in pieces");
}

#[test]
fn a_client_that_never_answers_is_given_up_and_its_server_is_told_1001() {
    let (script, got) = tells();
    let mut rig = rig(script, "{ client = \"500ms\", pong = \"700ms\" }");
    let start = Instant::now();
    let mut socket = rig.open();
    assert_eq!(next(&got), Got::Close(Some(1001), String::new()));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < PATIENCE, "{took:?}");
    ping(&mut socket);
    socket.peer.expect_gone();
    let line = rig.edge.log_line(&["websocket", "reason=\"ping_timeout\""]);
    assert!(line.contains("by=\"client\""), "{line}");
    let peer = ["route=\"all\"", "peer=\"client\""];
    rig.edge.expect_metric("edge_ping_timeouts_total", &peer, 1.0);
    let ends = ["by=\"client\"", "reason=\"ping_timeout\""];
    rig.edge.expect_metric("edge_ends_total", &ends, 1.0);
}

#[test]
fn a_server_that_never_answers_is_given_up_and_its_client_is_told_1001() {
    let script = |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let ping = socket.peer.take(14);
        assert_eq!(ping[..2], [0x89, 0x88], "a ping to a server has a mask");
        socket.peer.expect_gone();
    };
    let mut rig = rig(script, "{ server = \"500ms\", pong = \"700ms\" }");
    let start = Instant::now();
    rig.open().expect_close(1001);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < PATIENCE, "{took:?}");
    rig.edge.log_line(&["websocket", "by=\"server\"", "reason=\"ping_timeout\""]);
    let peer = ["route=\"all\"", "peer=\"server\""];
    rig.edge.expect_metric("edge_ping_timeouts_total", &peer, 1.0);
}

#[test]
fn both_are_pinged_and_neither_hears_the_others_answers() {
    let (script, got) = tells();
    let rig = rig(script, "{ client = \"300ms\", server = \"300ms\", pong = \"5s\" }");
    let mut socket = rig.open();
    for _ in 0..3 {
        let payload = ping(&mut socket);
        socket.send_frame(Opcode::Pong, &payload);
        assert!(matches!(next(&got), Got::Ping(payload) if payload.len() == 8));
    }
    // The next thing is a ping of ours or the echo, never a pong.
    socket.send("hello");
    loop {
        match socket.next() {
            Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
            other => break assert_eq!(other, Got::Text("hello".into())),
        }
    }
    loop {
        match next(&got) {
            Got::Ping(_) => {}
            other => break assert_eq!(other, Got::Text("hello".into())),
        }
    }
}

#[test]
fn whoever_talks_is_not_pinged() {
    let (script, got) = tells();
    // Longer than somebody may be held up: the first time it is half of it, at the least.
    let rig = rig(script, "{ client = \"6s\", pong = \"6s\" }");
    let mut socket = rig.open();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        socket.expect_echo("still here");
        next(&got);
        socket.expect_silence(Duration::from_millis(100));
    }
    let peer = ["route=\"all\"", "peer=\"client\""];
    assert_eq!(rig.edge.metric("edge_pings_total", &peer), 0.0);
}

#[test]
fn pings_of_one_side_are_answered_by_the_other() {
    let (pong, answered) = channel();
    let pong = Mutex::new(pong);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        loop {
            socket.send_frame(Opcode::Ping, b"of yours");
            loop {
                match socket.next() {
                    Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
                    Got::Pong(payload) => break pong.lock().unwrap().send(payload).unwrap(),
                    other => return assert!(matches!(other, Got::Close(..) | Got::End)),
                }
            }
            std::thread::sleep(Duration::from_millis(120));
        }
    };
    let rig = rig(script, "{ client = \"300ms\", server = \"300ms\", pong = \"20s\" }");
    let mut socket = rig.open();
    for round in 0..20 {
        socket.send_frame(Opcode::Ping, b"of mine.");
        let mut has_pong = false;
        while !has_pong {
            match socket.next() {
                Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
                Got::Pong(payload) => has_pong = payload == b"of mine.",
                other => panic!("{other:?} in round {round}"),
            }
        }
    }
    for payload in answered.try_iter() {
        assert_eq!(payload, b"of yours");
    }
}

/// A peer may answer only the last of several pings (RFC 6455, section 5.5.3).
#[test]
fn while_the_other_side_waits_for_an_answer_the_edge_asks_no_second_question() {
    let script = |request: &Request, peer: &mut Peer| {
        let mut socket = accepts_with(request, peer, &server_frame(Opcode::Ping, b"there?"));
        assert_eq!(socket.next(), Got::Close(Some(1001), String::new()));
        socket.peer.close();
    };
    let mut rig = rig(script, "{ client = \"1s\", pong = \"1s\" }");
    let mut socket = rig.open();
    assert_eq!(ping(&mut socket), b"there?");
    // It is given up all the same, without a ping of ours.
    socket.peer.expect_gone();
    rig.edge.log_line(&["websocket", "by=\"client\"", "reason=\"ping_timeout\""]);
    let peer = ["route=\"all\"", "peer=\"client\""];
    assert_eq!(rig.edge.metric("edge_pings_total", &peer), 0.0);
}

#[test]
fn within_a_frame_nobody_is_pinged() {
    let script = |request: &Request, peer: &mut Peer| {
        let frame = server_frame(Opcode::Binary, &[0x89; 100]);
        let mut socket = accepts_with(request, peer, &frame[..50]);
        std::thread::sleep(Duration::from_millis(1500));
        socket.peer.send(&frame[50..]);
        socket.peer.expect_gone();
    };
    let rig = rig(script, QUICK);
    let mut socket = rig.open();
    assert_eq!(socket.next(), Got::Binary(vec![0x89; 100]));
    assert_eq!(ping(&mut socket).len(), 8);
}

#[test]
fn a_client_that_the_edge_does_not_read_is_not_given_up() {
    // The server takes nothing for longer than ping and pong together, so the client is not read.
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
        while !matches!(socket.next(), Got::Close(..) | Got::End) {}
        socket.send_close(1000, "");
        socket.peer.close();
    };
    let rig = rig(script, "{ client = \"2s\", pong = \"2s\" }");
    let frame = client_frame(Opcode::Binary, &[7; 50_000]);
    let frames = frame.repeat(400);
    let mut socket = rig.open();
    // Somebody who is held up for a while is not stuck.
    let sent = socket.peer.send_until_stuck(&frames, Duration::from_millis(2500));
    assert!(sent < frames.len(), "it is stuck");
    socket.expect_stuck_for(Duration::from_millis(4500), &rig.edge);
    go.send(()).unwrap();
}

trait Stuck {
    fn expect_stuck_for(&mut self, time: Duration, edge: &Tidewire);
}

impl Stuck for WebSocket {
    /// It is still open after that time, whatever pings have come.
    fn expect_stuck_for(&mut self, time: Duration, edge: &Tidewire) {
        let start = Instant::now();
        while start.elapsed() < time {
            let peer = ["route=\"all\"", "peer=\"client\""];
            assert_eq!(edge.metric("edge_ping_timeouts_total", &peer), 0.0);
            assert_eq!(edge.metric("edge_websockets", &["route=\"all\""]), 1.0);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn answers_are_not_counted_against_the_limits_of_clients() {
    let (script, got) = tells();
    let limits =
        "[limits]\nprofile = \"strict\"\nclient = { control = \"2/m\", over_rate = \"close\" }";
    let rig = rig_with(script, "{ client = \"200ms\", pong = \"5s\" }", limits);
    let mut socket = rig.open();
    for _ in 0..5 {
        let payload = ping(&mut socket);
        for byte in client_frame(Opcode::Pong, &payload) {
            socket.peer.send([byte]);
        }
    }
    socket.send("good");
    assert_eq!(next(&got), Got::Text("good".into()));
}

#[test]
fn an_idle_tunnel_that_is_pinged_still_ends_by_its_timeout() {
    let (script, _got) = tells();
    let mut rig =
        rig_with(script, "{ client = \"200ms\", pong = \"5s\" }", "[timeout]\ntunnel = \"1s\"");
    let mut socket = rig.open();
    loop {
        match socket.next() {
            Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
            other => break assert!(matches!(other, Got::Close(Some(1001), _)), "{other:?}"),
        }
    }
    rig.edge.log_line(&["websocket", "by=\"edge\"", "reason=\"tunnel_timeout\""]);
}

#[test]
fn nobody_is_pinged_behind_a_close() {
    let script = |request: &Request, peer: &mut Peer| {
        let close = server_frame(Opcode::Close, &4000_u16.to_be_bytes());
        let mut socket = accepts_with(request, peer, &close);
        std::thread::sleep(Duration::from_millis(900));
        assert_eq!(socket.next(), Got::End);
    };
    let rig = rig(script, "{ client = \"200ms\", server = \"200ms\", pong = \"300ms\" }");
    let mut socket = rig.open();
    assert_eq!(socket.next(), Got::Close(Some(4000), String::new()));
    socket.expect_silence(Duration::from_millis(800));
    socket.peer.close();
}

#[test]
fn under_tls_it_is_the_same() {
    let authority = Authority::new("Test CA");
    let directory = tempfile::tempdir().unwrap();
    authority.server(&["localhost"]).write(directory.path(), "edge");
    let client = TlsClient::new(authority.pem());
    let (script, got) = tells();
    let server = Backend::start(script);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let tls = format!(
        "bind = \"127.0.0.1:0\"\ntls = {{ certificate = [{{ cert = \"{}\", key = \"{}\" }}] }}",
        path("edge.pem"),
        path("edge.key")
    );
    let config = pinging(&server, "{ client = \"300ms\", pong = \"5s\" }", "");
    let mut edge = Tidewire::run(&config.replace("bind = \"127.0.0.1:0\"", &tls));
    let peer = Peer::connect_tls(edge.address(), &client, "localhost");
    let mut socket = WebSocket::upgrade(peer, &handshake("/"));
    for _ in 0..3 {
        let payload = ping(&mut socket);
        socket.send_frame(Opcode::Pong, &payload);
    }
    socket.send("sealed");
    assert_eq!(next(&got), Got::Text("sealed".into()));
    assert_eq!(socket.text(), "sealed");
    // And now it says nothing more.
    assert_eq!(next(&got), Got::Close(Some(1001), String::new()));
    edge.log_line(&["websocket", "by=\"client\"", "reason=\"ping_timeout\""]);
}

#[test]
fn browsers_answer_by_themselves_and_their_pages_notice_nothing() {
    let (socket, got) = tells();
    let script = move |request: &Request, peer: &mut Peer| match request.headers.has("upgrade") {
        true => socket(request, peer),
        false => script::answers(200, "a page")(request, peer),
    };
    let rig = rig(script, "{ client = \"200ms\", pong = \"20s\" }");
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("http://{}/", rig.edge.address()));
    let url = format!("ws://{}/ws", rig.edge.address());
    let open = "window.got = []; window.ws = new WebSocket(arguments[0].url); \
        ws.onmessage = (e) => got.push(e.data); ws.onclose = (e) => got.push(e.code); \
        ws.onopen = () => got.push('open'); return null;";
    browser.run(open, &json!({ "url": url }));
    let peer = ["route=\"all\"", "peer=\"client\""];
    rig.edge.expect_metric_at_least("edge_pongs_total", &peer, 4.0);
    browser.run("ws.send('hello'); return null;", &json!({}));
    let heard = until("the echo comes", || {
        let got = browser.run("return got;", &json!({}));
        (got.as_array()?.len() > 1).then_some(got)
    });
    assert_eq!(heard, json!(["open", "hello"]));
    assert_eq!(next(&got), Got::Text("hello".into()));
}
