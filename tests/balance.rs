//! Which server gets a request, when there is another one to try, and what the client is told when
//! none can answer.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tidewire_testkit::backend::{Backend, NeverAccepts, Script};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{ask, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn servers_take_turns_by_their_weights() {
    let servers = ["a", "b", "c"].map(|name| Backend::start(script::answers(200, name)));
    let [a, b, c] = servers.each_ref().map(Backend::address);
    let edge = Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
balance = "roundrobin"
server = [
  {{ name = "a", address = "{a}", weight = 2 }},
  {{ name = "b", address = "{b}" }},
  {{ name = "c", address = "{c}", weight = 0 }},
]
"#
    ));
    let mut said: Vec<String> = (0..9).map(|_| get(edge.address(), "/").text()).collect();
    said.sort();
    assert_eq!(said, ["a", "a", "a", "a", "a", "a", "b", "b", "b"]);
}

/// An edge before a server that takes one request at a time and answers when it is told to.
fn full_server(more: &str) -> (Tidewire, Backend, Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let server = Backend::start(move |request, peer| {
        let _ = wait.lock().expect("one request at a time").recv_timeout(Duration::from_secs(60));
        script::answers(200, "served")(request, peer);
    });
    let edge = Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{}", maxconn = 1 }}]
{more}
"#,
        server.address()
    ));
    (edge, server, go)
}

/// A client that has asked, and is not answered yet.
fn asking(edge: &Tidewire) -> Peer {
    let mut peer = Peer::connect(edge.address());
    peer.send(GET);
    peer
}

#[test]
fn who_finds_the_server_full_waits_for_room() {
    let (edge, server, go) = full_server("queue = 1\ntimeout = { queue = \"60s\" }");
    let mut first = asking(&edge);
    server.request();
    let mut second = asking(&edge);
    until("one waits", || (edge.metric("edge_backend_queue", &[]) == 1.0).then_some(()));
    // There is room for one to wait; the next one is told at once.
    let answer = asking(&edge).response().expect(503);
    assert!(answer.text().contains("queue"), "{}", answer.text());
    second.expect_silence(Duration::from_millis(50));
    go.send(()).expect("the server waits");
    go.send(()).expect("the server waits");
    assert_eq!(first.response().expect(200).text(), "served");
    assert_eq!(second.response().expect(200).text(), "served");
}

#[test]
fn who_waits_too_long_for_room_is_told() {
    let (edge, server, _go) = full_server("timeout = { queue = \"200ms\" }");
    let _first = asking(&edge);
    server.request();
    let answer = asking(&edge).response().expect(503);
    assert!(answer.text().contains("in time"), "{}", answer.text());
}

#[test]
fn a_client_that_leaves_the_queue_leaves_its_place() {
    let (edge, server, go) = full_server("queue = 1\ntimeout = { queue = \"60s\" }");
    let mut first = asking(&edge);
    server.request();
    let leaver = asking(&edge);
    let queue = || edge.metric("edge_backend_queue", &[]);
    until("one waits", || (queue() == 1.0).then_some(()));
    drop(leaver);
    until("nobody waits", || (queue() == 0.0).then_some(()));
    go.send(()).expect("the server waits");
    first.response().expect(200);
}

#[test]
fn what_went_wrong_is_told_apart() {
    let refuses = loopback(free_port());
    let edge_before = |server, more: &str| Tidewire::run(&edge(&[server], more));
    let answer = |edge: &Tidewire| ask(edge.address(), GET);
    answer(&edge_before(refuses, "")).expect(503);
    for (script, more, status) in [
        (script::closes_before_answer as Script, "", 502),
        (script::speaks_no_http, "", 502),
        (script::never_answers, "[timeout]\nserver = \"200ms\"", 504),
    ] {
        let server = Backend::start(script);
        let edge = edge_before(server.address(), more);
        let answer = answer(&edge).expect(status);
        assert!(answer.text().starts_with(&status.to_string()), "{}", answer.text());
        assert!(!answer.text().contains("127.0.0.1"), "it says where: {}", answer.text());
    }
}

#[test]
fn a_server_that_cannot_be_reached_in_time_is_a_504() {
    let server = NeverAccepts::start();
    let edge = Tidewire::run(&edge(&[server.address()], "[timeout]\nconnect = \"200ms\""));
    ask(edge.address(), GET).expect(504);
}

#[test]
fn when_connecting_fails_the_next_server_is_asked() {
    let refuses = loopback(free_port());
    let server = Backend::start(script::mirrors);
    let edge = Tidewire::run(&edge(&[refuses, server.address()], ""));
    for _ in 0..4 {
        ask(edge.address(), GET).expect(200);
        ask(edge.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").expect(200);
    }
}

#[test]
fn a_request_that_a_server_has_seen_is_not_sent_to_another() {
    let first = Backend::start(script::closes_before_answer);
    let second = Backend::start(script::closes_before_answer);
    let edge = Tidewire::run(&edge(&[first.address(), second.address()], ""));
    ask(edge.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").expect(502);
    assert_eq!(first.requests().len() + second.requests().len(), 1);
}

#[test]
fn a_server_that_stalls_in_its_body_ends_the_response() {
    let rig = Rig::with(script::stalls_in_its_body, "[timeout]\nserver = \"3s\"");
    let mut peer = rig.connect();
    peer.send(GET);
    assert_eq!(peer.response_head().status, 200);
    assert_eq!(peer.take(10), b"0123456789");
    peer.expect_gone();
}
