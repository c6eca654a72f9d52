//! One side has said all that it had to say, and the other one has not: what is still said arrives,
//! and arrives whole.
//!
//! Both cases of nginx's `stream_proxy_half_close.t`, in tunnels, with more to deliver than any
//! buffer holds. The last words themselves are in `upgrade.rs`, how long one waits for them is in
//! `tunnel.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::{Authority, Wanted};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command, edge};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, handshake};

/// The frames of a stream that is longer than what sockets and the edge hold of it.
const FRAMES: usize = 256;
const FRAME_BYTES: usize = 32 * 1024;

fn send_all(socket: &mut WebSocket) {
    for index in 0..FRAMES {
        socket.send_frame(Opcode::Binary, &vec![index as u8; FRAME_BYTES]);
    }
}

/// The frames that come before the end.
fn take_all(socket: &mut WebSocket) -> usize {
    let mut count = 0;
    loop {
        match socket.next() {
            Got::Binary(bytes) => {
                assert_eq!(bytes, vec![count as u8; FRAME_BYTES], "frame {count}");
                count += 1;
            }
            Got::End => return count,
            other => panic!("{other:?} behind {count} frames"),
        }
    }
}

/// A server that says its part when it has heard the end of its client's.
fn speaks_last() -> Backend {
    Backend::start(|request, peer| {
        let mut socket = script::accepts(request, peer);
        while socket.next() != Got::End {}
        send_all(&mut socket);
        peer.close();
    })
}

/// A client that has ended its direction gets all that its server says then, though it takes its
/// time.
#[track_caller]
fn check_client_ends(more: &str) {
    let server = speaks_last();
    let edge = Tidewire::run(&edge(&[server.address()], more));
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.peer.finish();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(take_all(&mut socket), FRAMES, "{more}");
}

#[test]
fn what_a_server_says_after_its_client_s_end_arrives_whole() {
    check_client_ends("");
    check_client_ends("[limits]\nprofile = \"off\"");
    check_client_ends("[limits]\nprofile = \"strict\"");
}

/// A server that ends its direction at once, and says how many frames it has heard then.
fn listens_on(heard: mpsc::Sender<usize>) -> Backend {
    Backend::start(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        socket.peer.finish();
        thread::sleep(Duration::from_millis(200));
        let _ = heard.send(take_all(&mut socket));
        peer.close();
    })
}

#[track_caller]
fn check_server_ends(more: &str) {
    let (said, heard) = mpsc::channel();
    let server = listens_on(said);
    let edge = Tidewire::run(&edge(&[server.address()], more));
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    assert_eq!(socket.next(), Got::End);
    send_all(&mut socket);
    socket.peer.finish();
    let heard = heard.recv_timeout(Duration::from_secs(20)).expect("the server hears the end");
    assert_eq!(heard, FRAMES, "{more}");
}

#[test]
fn what_a_client_says_after_its_server_s_end_arrives_whole() {
    check_server_ends("");
    check_server_ends("[limits]\nprofile = \"off\"");
    check_server_ends("[limits]\nprofile = \"strict\"");
}

#[test]
fn a_client_by_tls_ends_its_direction_by_itself_too() {
    let ca = Authority::new("Test CA");
    let directory = tempfile::tempdir().unwrap();
    ca.sign(Wanted::server(&["a.test"])).write(directory.path(), "a");
    let server = speaks_last();
    let bind = "bind = \"127.0.0.1:0\"\n";
    let tls =
        format!("{bind}tls = {{ certificate = [{{ cert = \"a.pem\", key = \"a.key\" }}] }}\n");
    let config = edge(&[server.address()], "").replacen(bind, &tls, 1);
    let edge = Tidewire::run_in(command(), directory, &config);
    let peer = Peer::connect_tls(edge.address(), &TlsClient::new(ca.pem()), "a.test");
    let mut socket = WebSocket::upgrade(peer, &handshake("/ws"));
    socket.peer.finish();
    assert_eq!(take_all(&mut socket), FRAMES);
}

/// A client that has asked and at once ended its direction.
fn asks_and_ends(edge: &Tidewire, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

fn all_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// More than stand in line at once, so that some wait before they are heard.
const AT_ONCE: usize = 40;

#[test]
fn what_the_edge_answers_itself_is_for_clients_that_have_ended_too() {
    let server = Backend::start(script::mirrors);
    let own = "[[route]]\npath = \"/own\"\nrespond = { status = 200, body = \"own\" }\n\
               [[route]]\npath = \"/away\"\nredirect = { to = \"https://b.test/\" }\n";
    let config = edge(&[server.address()], own)
        .replace("[[route]]\nbackend", "[[route]]\npath = \"/served\"\nbackend");
    let edge = Tidewire::run(&config);
    for (path, status) in [("/own", "200"), ("/away", "308"), ("/nowhere", "404")] {
        let clients: Vec<_> = (0..AT_ONCE).map(|_| asks_and_ends(&edge, path)).collect();
        for client in clients {
            let answer = all_of(client);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer:?}");
        }
    }
}

#[test]
fn a_long_file_is_for_clients_that_have_ended_too() {
    let server = Backend::start(script::mirrors);
    let directory = tempfile::tempdir().unwrap();
    let long = "tidewire".repeat(1 << 20);
    std::fs::write(directory.path().join("long.txt"), &long).unwrap();
    let files = format!("[[route]]\npath = \"/*\"\nstatic = {{ dir = {:?} }}\n", directory.path());
    let config = edge(&[server.address()], &files)
        .replace("[[route]]\nbackend", "[[route]]\npath = \"/served\"\nbackend");
    let mut edge = Tidewire::run(&config);
    for _ in 0..4 {
        let client = asks_and_ends(&edge, "/long.txt");
        // It is written as it is taken.
        thread::sleep(Duration::from_millis(50));
        let answer = all_of(client);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(body == long, "{} of {} bytes", body.len(), long.len());
        edge.log_line(&["connection", "by=\"client\"", "reason=\"done\""]);
    }
}

#[test]
fn a_client_that_ends_while_its_server_works_has_left() {
    let (left, has_left) = mpsc::channel();
    let left = Mutex::new(left);
    let server = Backend::start(move |_, peer| {
        // It never answers, and hears at once that nobody waits for it.
        peer.expect_gone();
        let _ = left.lock().unwrap().send(());
    });
    let mut edge = Tidewire::run(&edge(&[server.address()], ""));
    let mut client = Peer::connect(edge.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    server.request();
    client.finish();
    has_left.recv_timeout(Duration::from_secs(20)).expect("the server hears of it");
    edge.log_line(&["connection", "by=\"client\"", "reason=\"eof\"", "phase=\"response\""]);
}
