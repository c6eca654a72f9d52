//! A WebSocket ends when the credential that opened it does: in time, in good order, for good.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::json;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::DEADLINE;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::token::{USERS, handshake_with, now, since, token};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, client_frame, server_frame};

/// An edge that asks for tokens, before one server.
struct Rig {
    edge: Tidewire,
    _server: Backend,
}

impl Rig {
    fn new(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        let server = Backend::start(script);
        let timeouts = format!("{USERS}[timeout]\nclient_fin = \"4s\"\n");
        let config = edge(&[server.address()], &timeouts);
        let config =
            config.replace("backend = \"nodes\"\n", "backend = \"nodes\"\nauth = \"users\"\n");
        Self { edge: Tidewire::run(&config), _server: server }
    }

    /// A client whose token ends at `expires`: seconds later, as a busy machine may take some to let
    /// it in and to carry what it says first.
    #[track_caller]
    fn open(&self, expires: u64) -> WebSocket {
        let text = handshake_with("/ws", &token(&json!({ "exp": expires })), false);
        WebSocket::upgrade(Peer::connect(self.edge.address()), &text)
    }
}

/// A server that tells all that it gets, frame by frame as it comes.
fn witness() -> (impl Fn(&Request, &mut Peer) + Send + Sync + 'static, Receiver<Got>) {
    let (sender, receiver): (Sender<Got>, _) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        loop {
            let got = socket.next();
            let is_over = matches!(got, Got::Close(..) | Got::End);
            let _ = sender.lock().unwrap().send(got);
            if is_over {
                return;
            }
        }
    };
    (script, receiver)
}

#[track_caller]
fn expect_expired(got: &Got, expires: u64) {
    assert_eq!(*got, Got::Close(Some(3000), "token expired".to_owned()));
    let late = since(expires);
    assert!(now() >= expires && late < LATEST, "{late:?} late");
}

#[test]
fn a_tunnel_under_traffic_ends_in_the_second_of_its_token() {
    let rig = Rig::new(script::echoes);
    let expires = now() + 4;
    let mut socket = rig.open(expires);
    let mut echoes = 0;
    let end = loop {
        socket.send("hi");
        match socket.next() {
            Got::Text(_) => echoes += 1,
            other => break other,
        }
    };
    expect_expired(&end, expires);
    assert!(echoes > 20, "{echoes} echoes");
    socket.send_close(3000, "");
    assert_eq!(socket.next(), Got::End);
    let mut edge = rig.edge;
    edge.log_line(&["websocket", "by=\"edge\"", "reason=\"expired\"", "code=3000"]);
    edge.expect_metric("edge_ends_total", &["reason=\"expired\""], 1.0);
}

#[test]
fn an_idle_tunnel_ends_too_and_one_with_time_left_does_not() {
    let rig = Rig::new(script::echoes);
    let expires = now() + 4;
    let (mut short, mut long) = (rig.open(expires), rig.open(expires + 600));
    expect_expired(&short.next(), expires);
    long.expect_echo("still here");
}

#[test]
fn nothing_that_a_client_says_after_its_end_reaches_the_server() {
    let (script, seen) = witness();
    let rig = Rig::new(script);
    let expires = now() + 4;
    let mut socket = rig.open(expires);
    socket.send("before");
    expect_expired(&socket.next(), expires);
    // It does not care for the Close, and goes on, if it is not cut off yet.
    for _ in 0..50 {
        let _ = socket.peer.try_send(&client_frame(Opcode::Text, b"after"));
    }
    let first = seen.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first, Got::Text("before".to_owned()));
    let rest: Vec<Got> = seen.iter().take(1).collect();
    assert_eq!(rest, [Got::Close(Some(1001), String::new())]);
    // One that never answers is cut off in the end.
    socket.peer.expect_gone();
    assert!(since(expires) < CUT_BY, "{:?}", since(expires));
    let mut edge = rig.edge;
    edge.log_line(&["websocket", "by=\"edge\"", "reason=\"expired\"", "code=3000"]);
    drop(edge);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), []);
}

/// The two bytes that begin a frame: an unfinished message, or the middle of one.
fn fragment(opcode: Opcode, payload: &[u8], is_first: bool) -> Vec<u8> {
    let mut frame = client_frame(opcode, payload);
    frame[0] = if is_first { opcode as u8 } else { 0 };
    frame
}

#[test]
fn a_client_in_the_middle_of_a_message_is_cut_at_the_end_of_its_frame() {
    let (sender, raw) = channel();
    let sender = Mutex::new(sender);
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let bytes = socket.peer.rest();
        let _ = sender.lock().unwrap().send(bytes);
    });
    let expires = now() + 4;
    let mut socket = rig.open(expires);
    let first = fragment(Opcode::Binary, &[1; 70_000], true);
    let second = fragment(Opcode::Binary, &[2; 70_000], false);
    socket.peer.send(&first);
    socket.peer.send(&second[..1_000]);
    expect_expired(&socket.next(), expires);
    // The rest of the frame passes, and nothing behind it.
    socket.peer.send([&second[1_000..], &fragment(Opcode::Binary, &[3; 100], false)].concat());
    socket.send_close(3000, "");
    let bytes = raw.recv_timeout(DEADLINE).unwrap();
    let whole = first.len() + second.len();
    assert!(bytes[..whole] == [first, second].concat(), "both frames as they were sent");
    assert_eq!(
        (bytes.len() - whole, bytes[whole]),
        (8, 0x88),
        "and a Close with its mask and code"
    );
}

#[test]
fn a_frame_that_is_never_finished_is_not_waited_for() {
    let rig = Rig::new(script::swallows);
    let expires = now() + 4;
    let mut socket = rig.open(expires);
    socket.peer.send(&client_frame(Opcode::Binary, &[1; 70_000])[..1_000]);
    expect_expired(&socket.next(), expires);
    socket.peer.expect_gone();
    assert!(since(expires) < CUT_BY, "{:?}", since(expires));
}

#[test]
fn a_server_in_the_middle_of_a_frame_finishes_it_before_the_close() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let frame = server_frame(Opcode::Text, b"one frame, in two halves");
        socket.peer.send(&frame[..10]);
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
        socket.peer.send([&frame[10..], &server_frame(Opcode::Text, b"late")].concat());
        socket.peer.expect_gone();
    });
    let expires = now() + 4;
    let mut socket = rig.open(expires);
    let head = socket.peer.take(10);
    tidewire_testkit::deadline::until("it has expired", || {
        (since(expires) > Duration::from_millis(400)).then_some(())
    });
    go.send(()).unwrap();
    let rest = socket.peer.take(16);
    assert_eq!([head, rest].concat()[2..], *b"one frame, in two halves");
    expect_expired(&socket.next(), expires);
}

/// A hub node that asks for tokens.
fn hub_node(more: &str) -> Tidewire {
    let config = hub("server1", &format!("close_timeout = \"1s\"\n{more}")) + USERS;
    Tidewire::run(&config.replace("path = ", "auth = \"users\"\npath = "))
}

#[track_caller]
fn join(node: &Tidewire, claims: &serde_json::Value, is_v1: bool) -> WebSocket {
    let text = handshake_with("/ws/echo", &token(claims), is_v1);
    WebSocket::upgrade(Peer::connect(node.address()), &text)
}

#[test]
fn a_hub_client_hears_of_its_end_and_what_it_says_later_is_not_published() {
    let node = hub_node("renew_notice = \"4s\"");
    let mut other = join(&node, &json!({ "sub": "bob" }), false);
    let expires = now() + 7;
    let mut client = join(&node, &json!({ "exp": expires }), true);
    let mut plain = join(&node, &json!({ "exp": expires }), false);
    assert_eq!(client.json()["expires"], expires);
    let notice = client.json();
    assert_eq!((&notice["event"], &notice["expires"]), (&"expiring".into(), &expires.into()));
    assert!(matches!(notice["seconds"].as_u64(), Some(1..=4)), "{notice}");
    expect_expired(&client.next(), expires);
    expect_expired(&plain.next(), expires);
    client.send("after");
    client.peer.expect_gone();
    other.expect_silence(Duration::from_millis(200));
    node.expect_metric("edge_ends_total", &["reason=\"expired\""], 2.0);
}

#[test]
fn a_client_that_renews_stays() {
    let node = hub_node("renew_notice = \"4s\"");
    let expires = now() + 7;
    let mut client = join(&node, &json!({ "exp": expires }), true);
    assert_eq!(client.json()["expires"], expires);
    assert_eq!(client.json()["event"], "expiring");
    let renew = |token: &str| json!({ "tidewire": "renew", "token": token }).to_string();
    let refused = [
        renew("junk"),
        renew(&token(&json!({ "sub": "bob" }))),
        renew(&token(&json!({ "exp": 1_000_000_000 }))),
    ];
    // After three there is one too many, which comes with them: after a while it would not be.
    let later = expires + 4;
    let one_more = renew(&token(&json!({ "exp": later })));
    let texts = refused.iter().chain([&one_more]);
    let frames = texts.map(|text| client_frame(Opcode::Text, text.as_bytes()));
    client.peer.send(frames.collect::<Vec<_>>().concat());
    for _ in &refused {
        let answer = client.json();
        assert_eq!(answer["event"], "renewal_refused", "{answer}");
        assert_eq!(answer["expires"], expires, "{answer}");
    }
    assert!(client.json()["detail"].as_str().unwrap().contains("too many"));
    let mut again = join(&node, &json!({ "exp": expires }), true);
    assert_eq!(again.json()["type"], "hello");
    let answer = loop {
        let told = again.json();
        if told["event"] == "expiring" {
            again.send(&renew(&token(&json!({ "exp": later }))));
        } else {
            break told;
        }
    };
    assert_eq!((&answer["event"], &answer["expires"]), (&"renewed".into(), &later.into()));
    expect_expired(&client.next(), expires);
    again.send("still here");
    // The next end comes near before or after that.
    let told = [again.json(), again.json()];
    assert!(told.iter().any(|it| it["data"] == "Received: still here"), "{told:?}");
    assert!(told.iter().any(|it| it["event"] == "expiring"), "{told:?}");
    expect_expired(&again.next(), later);
    node.expect_metric("hub_renewals_total", &["refused"], 4.0);
    node.expect_metric("hub_renewals_total", &["renewed"], 1.0);
}

#[test]
fn a_token_never_becomes_a_message() {
    let node = hub_node("");
    let (mut client, mut other) =
        (join(&node, &json!({}), true), join(&node, &json!({ "sub": "bob" }), false));
    assert_eq!(client.json()["type"], "hello");
    for text in [
        "{\"tidewire\":\"renew\",\"token\":1}",
        "{ \"tidewire\" : \"renew\" , \"token\": \"secret\"",
    ] {
        client.send(text);
        let answer = client.json();
        assert_eq!(answer["event"], "renewal_refused", "{answer}");
        assert!(!answer.to_string().contains("secret"), "{answer}");
    }
    other.expect_silence(Duration::from_millis(200));
    // A client without the subprotocol has no such message.
    other.send("{\"tidewire\":\"renew\"}");
    assert_eq!(client.json()["data"], "Received: {\"tidewire\":\"renew\"}");
}

/// How late an end may be told on a busy machine.
const LATEST: Duration = Duration::from_secs(6);
/// When who does not answer is gone for certain: some time after `client_fin`, and before the ten
/// seconds that it is where nobody sets it.
const CUT_BY: Duration = Duration::from_secs(9);
