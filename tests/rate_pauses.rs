//! Who is not read for a while, as it was faster than it may, and ends meanwhile: it keeps nothing,
//! and what it said is not lost for that.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::{DEADLINE, until};
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge_of};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, client_frame, handshake, server_frame};

/// An edge with one server, which takes one client at a time.
fn narrow(server: &Backend, more: &str) -> Tidewire {
    Tidewire::run(&edge_of(&[("server1", server.address(), ", maxconn = 1")], more))
}

/// A client that has to wait for an hour, with something behind it that nobody has read.
fn paused(edge: &Tidewire) -> WebSocket {
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    let text = client_frame(Opcode::Text, b"too much");
    socket.peer.send(text.repeat(5400));
    edge.expect_metric_at_least("edge_tunnel_waits_total", &["direction=\"from_client\""], 1.0);
    socket.peer.send(&text);
    socket
}

/// The one place is free again.
fn expect_place(edge: &Tidewire) {
    until("the server has room", || {
        let peer = Peer::connect(edge.address());
        peer.wait_up_to(DEADLINE);
        WebSocket::try_upgrade(peer, &handshake("/ws")).ok()
    });
}

#[test]
fn who_waits_for_its_rate_and_is_gone_holds_no_place() {
    let server = Backend::start(script::swallows);
    let mut edge = narrow(&server, "[limits]\nclient = { messages = \"1/h\" }\n");
    paused(&edge).peer.reset();
    expect_place(&edge);
    edge.log_line(&["websocket", "by=\"client\"", "reason=\"broken\""]);
}

#[test]
fn who_waits_for_its_rate_and_hangs_up_has_client_fin_for_the_rest() {
    let server = Backend::start(script::swallows);
    let more = "[timeout]\nclient_fin = \"1s\"\n[limits]\nclient = { messages = \"1/h\" }\n";
    let mut edge = narrow(&server, more);
    let mut socket = paused(&edge);
    socket.peer.finish();
    expect_place(&edge);
    edge.log_line(&["websocket", "by=\"edge\"", "reason=\"client_fin_timeout\""]);
    let told = until("it is told", || match socket.next() {
        Got::Close(code, reason) => Some((code, reason)),
        Got::End => panic!("the end without a Close"),
        _ => None,
    });
    assert_eq!(told, (Some(1001), "client_fin_timeout".to_owned()));
}

#[test]
fn a_server_that_waits_for_its_rate_and_hangs_up_has_server_fin_for_the_rest() {
    let server = Backend::start(|request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        socket.peer.send(server_frame(Opcode::Text, b"too much").repeat(100));
        assert_eq!(socket.text(), "you may go");
        // The last word is read by nobody.
        socket.send("unread");
        socket.peer.finish();
        while socket.next() != Got::End {}
    });
    let more = "[timeout]\nserver_fin = \"1s\"\n[limits]\nserver = { messages = \"1/h\" }\n";
    let mut edge = narrow(&server, more);
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    edge.expect_metric_at_least("edge_tunnel_waits_total", &["direction=\"to_client\""], 1.0);
    socket.send("you may go");
    edge.log_line(&["websocket", "by=\"edge\"", "reason=\"server_fin_timeout\""]);
}

/// All of it arrives, at the pace, though its sender has hung up behind it.
#[test]
fn what_was_said_before_the_end_is_delivered_at_its_pace() {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let server = Backend::start(move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let texts = std::iter::from_fn(|| match socket.next() {
            Got::Text(text) => Some(text),
            _ => None,
        });
        let _ = sender.lock().unwrap().send(texts.collect::<Vec<_>>());
    });
    let edge = narrow(&server, "[limits]\nclient = { messages = \"100/s\" }\n");
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.peer.send(client_frame(Opcode::Text, b"at once").repeat(250));
    edge.expect_metric_at_least("edge_tunnel_waits_total", &["direction=\"from_client\""], 1.0);
    socket.peer.send(client_frame(Opcode::Text, b"behind"));
    socket.peer.finish();
    let texts =
        heard.recv_timeout(DEADLINE + Duration::from_secs(10)).expect("it hears of the end");
    assert_eq!((texts.len(), texts.last().map(String::as_str)), (251, Some("behind")));
}
