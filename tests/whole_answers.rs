//! What the edge has begun to say arrives whole, however late it is taken.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
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
fn edge_with_long_answers(directory: &std::path::Path) -> (Backend, Tidewire) {
    let long = "x".repeat(BODY_BYTES);
    std::fs::write(directory.join("long.txt"), &long).unwrap();
    let server = Backend::start(script::answers(200, &long));
    let own = format!(
        "[timeout]\nhttp_keep_alive = \"500ms\"\n\
         [[route]]\npath = \"/file/*\"\nstatic = {{ dir = {directory:?} }}\n\
         [[route]]\npath = \"/own\"\nrespond = {{ status = 200, body = \"{long}\" }}\n"
    );
    let config = edge(&[server.address()], &own)
        .replace("[[route]]\nbackend", "[[route]]\npath = \"/served\"\nbackend");
    (server, Tidewire::run(&config))
}

const PATHS: [&str; 3] = ["/own", "/file/long.txt", "/served"];

/// Who asks with `head` and takes the answer when the edge has written what it can.
fn asks(edge: &Tidewire, path: &str, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a.test\r\n{head}\r\n").unwrap();
    stream
}

#[track_caller]
fn check_whole(mut stream: TcpStream, what: &str) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect(what);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{what}");
    assert_eq!(answer.len() - head - 4, BODY_BYTES, "{what}");
}

/// Whatever is written at once is written, and the rest waits.
fn pause() {
    thread::sleep(Duration::from_millis(1200));
}

#[test]
fn an_answer_is_taken_later_than_connections_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let clients = PATHS.map(|path| (path, asks(&edge, path, "")));
    pause();
    clients.into_iter().for_each(|(path, client)| check_whole(client, path));
}

#[test]
fn an_answer_that_closes_its_connection_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let clients = PATHS.map(|path| (path, asks(&edge, path, "Connection: close\r\n")));
    pause();
    clients.into_iter().for_each(|(path, client)| check_whole(client, path));
}

#[test]
fn an_answer_to_a_request_whose_body_never_came_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let own = ["/own", "/file/long.txt"];
    let waiting = own.map(|path| (path, asks(&edge, path, "Content-Length: 100000\r\n")));
    let cut = own.map(|path| {
        let client = asks(&edge, path, "Content-Length: 100000\r\n");
        client.shutdown(Shutdown::Write).unwrap();
        (path, client)
    });
    pause();
    waiting.into_iter().chain(cut).for_each(|(path, client)| check_whole(client, path));
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
    let mut peer = Peer::connect(edge.address());
    peer.send(format!("GET /own HTTP/1.1\r\nHost: a.test\r\n\r\n{}", handshake("/ws")));
    pause();
    assert_eq!(peer.response().expect(200).body.len(), BODY_BYTES);
    peer.response().expect(101);
    let mut socket = WebSocket::opened(peer);
    socket.expect_echo("behind it");
}

#[test]
fn a_drain_waits_for_what_is_not_taken_yet() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, edge) = edge_with_long_answers(directory.path());
    let clients = PATHS.map(|path| (path, asks(&edge, path, "")));
    thread::sleep(Duration::from_millis(300));
    edge.child.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    clients.into_iter().for_each(|(path, client)| check_whole(client, path));
}
