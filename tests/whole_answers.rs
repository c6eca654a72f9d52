//! What the edge has begun to say arrives whole, however late it is taken.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::child::Signal;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::websocket::{WebSocket, handshake};

/// More than sockets hold of it.
const BODY_BYTES: usize = 7 << 20;

/// An edge that has a long answer of its own, in one piece, a long file, and a long answer of a
/// server.
fn edge_with_long_answers(directory: &Path) -> (Backend, Tidewire) {
    let long = "x".repeat(BODY_BYTES);
    std::fs::write(directory.join("long.txt"), &long).unwrap();
    let server = Backend::start(script::answers(200, &long));
    let own = format!(
        "[timeout]\nhttp_keep_alive = \"2500ms\"\n\
         [[route]]\npath = \"/file/*\"\nstatic = {{ dir = {directory:?} }}\n\
         [[route]]\npath = \"/own\"\nrespond = {{ status = 200, body = \"{long}\" }}\n\
         [[route]]\npath = \"/short\"\nrespond = {{ status = 200, body = \"short\" }}\n"
    );
    let config = edge(&[server.address()], &own)
        .replace("[[route]]\nbackend", "[[route]]\npath = \"/served\"\nbackend");
    (server, Tidewire::run(&config))
}

const OWN: [&str; 2] = ["/own", "/file/long.txt"];

/// Who takes little at a time.
fn connects(edge: &Tidewire) -> Peer {
    Peer::connect_with_buffer(edge.address(), 64 << 10)
}

fn head(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n")
}

/// Who asks, and takes nothing of the answer yet.
fn asks(edge: &Tidewire, path: &str, more: &str) -> Peer {
    let mut peer = connects(edge);
    peer.send(head(path, more));
    peer
}

/// All of the answer comes, and then the connection ends.
#[track_caller]
fn check_whole(mut peer: Peer, what: &str) {
    let answer = peer.rest();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect(what);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{what}");
    assert_eq!(answer.len() - head - 4, BODY_BYTES, "{what}");
}

/// What can be written is written meanwhile, and connections are kept for less.
fn pause() {
    thread::sleep(Duration::from_millis(3500));
}

#[test]
fn an_answer_is_taken_later_than_connections_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let clients = [OWN[0], OWN[1], "/served"].map(|path| (path, asks(&edge, path, "")));
    let closing = OWN.map(|path| (path, asks(&edge, path, "Connection: close\r\n")));
    pause();
    clients.into_iter().chain(closing).for_each(|(path, client)| check_whole(client, path));
}

#[test]
fn an_answer_to_a_request_whose_body_never_came_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let body = "Content-Length: 100000\r\n";
    let waiting = OWN.map(|path| (path, asks(&edge, path, body)));
    let cut = OWN.map(|path| {
        let mut client = asks(&edge, path, body);
        client.finish();
        (path, client)
    });
    // Who has asked for another protocol before, and has got none.
    let refused = OWN.map(|path| {
        let mut client = asks(&edge, "/short", "Connection: Upgrade\r\nUpgrade: h2c\r\n");
        client.response().expect(200);
        client.send(head(path, body));
        (path, client)
    });
    pause();
    let clients = waiting.into_iter().chain(cut).chain(refused);
    clients.for_each(|(path, client)| check_whole(client, path));
}

#[test]
fn a_switch_behind_an_answer_that_is_not_taken_yet_is_whole() {
    let server = Backend::start(script::echoes);
    let long = "x".repeat(BODY_BYTES);
    let own =
        format!("[[route]]\npath = \"/own\"\nrespond = {{ status = 200, body = \"{long}\" }}\n");
    let config = edge(&[server.address()], &own)
        .replace("[[route]]\nbackend", "[[route]]\npath = \"/ws\"\nbackend");
    let edge = Tidewire::run(&config);
    let mut peer = connects(&edge);
    peer.send(head("/own", "") + &handshake("/ws"));
    pause();
    assert_eq!(peer.response().expect(200).body.len(), BODY_BYTES);
    peer.response().expect(101);
    WebSocket::opened(peer).expect_echo("behind it");
}

#[test]
fn a_drain_waits_for_what_is_not_taken_yet() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let mut clients = [OWN[0], OWN[1], "/served"].map(|path| (path, asks(&edge, path, "")));
    for (_, client) in &mut clients {
        client.wait().expect("the edge has begun to answer");
    }
    edge.child.signal(Signal::TERM);
    pause();
    clients.into_iter().for_each(|(path, client)| check_whole(client, path));
}
