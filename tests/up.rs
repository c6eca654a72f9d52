//! `tidewire up`: the whole picture, from one command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tidewire_testkit::child::Child;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::get;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::redis::RedisServer;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::{Got, WebSocket};

/// A client of the topic `echo`, and the server that it is on.
fn join(up: &Tidewire, topic: &str) -> (WebSocket, String) {
    let mut client = WebSocket::connect_v1(up.address(), &format!("/ws/{topic}"));
    let hello = client.json();
    assert_eq!((&hello["type"], &hello["topic"]), (&"hello".into(), &topic.into()), "{hello}");
    let server = hello["node"].as_str().expect("a server has a name").to_owned();
    (client, server)
}

/// The next message that a client of `tidewire.v1` gets.
fn message(client: &mut WebSocket) -> String {
    let message = client.json();
    assert_eq!(message["type"], "message", "{message}");
    message["data"].as_str().expect("a message has data").to_owned()
}

#[test]
fn it_says_where_to_look_and_what_runs() {
    let mut up = Tidewire::up(&[]);
    // The last line.
    up.log_line(&["Ctrl-C"]);
    let said = up.child.stdout().join("\n");
    for what in ["page", "topics", "server1", "server2", "memory", "/metrics", "Ctrl-C"] {
        assert!(said.contains(what), "no {what} in\n{said}");
    }
    assert!(said.contains(&format!("ws://{}/ws/{{topic}}", up.address())), "{said}");
    up.wait_until_ready();
}

#[test]
fn the_page_is_whole_and_its_policy_lets_nothing_else_run() {
    let up = Tidewire::up(&[]);
    let page = get(up.address(), "/").expect(200);
    assert_eq!(page.headers.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.headers.get("x-content-type-options"), Some("nosniff"));
    let policy = page.headers.get("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.text().contains(outside), "the page loads {outside}");
    }
    get(up.address(), "/elsewhere").expect(404);
}

#[test]
fn clients_are_given_to_the_servers_in_turn() {
    let up = Tidewire::up(&[]);
    let clients: Vec<_> = (0..4).map(|_| join(&up, "echo")).collect();
    let servers: Vec<&str> = clients.iter().map(|(_, server)| server.as_str()).collect();
    assert!(
        servers == ["server1", "server2", "server1", "server2"]
            || servers == ["server2", "server1", "server2", "server1"],
        "{servers:?}"
    );
}

#[test]
fn a_message_reaches_the_clients_of_the_other_server() {
    let up = Tidewire::up(&[]);
    let (mut one, first) = join(&up, "echo");
    let (mut other, second) = join(&up, "echo");
    assert_ne!(first, second);
    one.send("hello");
    assert_eq!(message(&mut one), "Received: hello");
    assert_eq!(message(&mut other), "Received: hello");
    other.send("hello yourself");
    assert_eq!(message(&mut one), "Received: hello yourself");
}

#[test]
fn a_client_without_a_subprotocol_gets_the_article_s_answer() {
    let up = Tidewire::up(&[]);
    let mut client = WebSocket::connect(up.address(), "/ws/echo");
    client.send("Client connected!");
    assert_eq!(client.text(), "Received: Client connected!");
}

#[test]
fn topics_do_not_mix() {
    let up = Tidewire::up(&[]);
    let mut clients: Vec<_> =
        ["tea", "tea", "coffee", "coffee"].iter().map(|topic| join(&up, topic).0).collect();
    clients[0].send("green");
    clients[2].send("black");
    for (client, expected) in clients.iter_mut().zip(["green", "green", "black", "black"]) {
        assert_eq!(message(client), format!("Received: {expected}"));
        client.expect_silence(Duration::from_millis(50));
    }
}

#[test]
fn there_are_as_many_servers_as_asked_for() {
    let up = Tidewire::up(&["--nodes", "3"]);
    let mut clients: Vec<_> = (0..3).map(|_| join(&up, "echo")).collect();
    let mut servers: Vec<String> = clients.iter().map(|(_, server)| server.clone()).collect();
    servers.sort();
    assert_eq!(servers, ["server1", "server2", "server3"]);
    clients[0].0.send("to all");
    for (client, _) in &mut clients {
        assert_eq!(message(client), "Received: to all");
    }
}

#[test]
fn two_of_them_hear_each_other_through_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let first = Tidewire::up(&["--broker", &redis.url()]);
    let second = Tidewire::up(&["--broker", &redis.url(), "--nodes", "1"]);
    first.wait_until_ready();
    second.wait_until_ready();
    let (mut here, _) = join(&first, "echo");
    let (mut there, _) = join(&second, "echo");
    here.send("far away");
    assert_eq!(message(&mut there), "Received: far away");
}

#[test]
fn a_redis_password_is_not_shown() {
    let mut up = Tidewire::up(&["--broker", "redis://user:secret@127.0.0.1:1"]);
    up.log_line(&["Ctrl-C"]);
    let said = [up.child.stdout(), up.child.stderr()].concat().join("\n");
    assert!(said.contains("redis://127.0.0.1:1"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(up.readiness().status, 503);
}

#[test]
fn ctrl_c_closes_clients_in_good_order_and_ends_with_0() {
    check_end(Tidewire::interrupt, "SIGINT");
}

#[test]
fn sigterm_closes_clients_in_good_order_and_ends_with_0() {
    check_end(Tidewire::terminate, "SIGTERM");
}

fn check_end(ask: fn(&Tidewire), signal: &str) {
    let up = Tidewire::up(&[]);
    let address = up.address();
    let (mut one, _) = join(&up, "echo");
    let (mut other, _) = join(&up, "echo");
    let mut idle = Peer::connect(address);
    idle.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    idle.response().expect(200);
    ask(&up);
    one.expect_close(1001);
    other.expect_close(1001);
    idle.expect_end();
    let ended = up.wait();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    assert!(ended.has_line(&[signal, "draining"]), "{:#?}", ended.stderr);
    assert!(Peer::try_connect(address).is_err(), "something still listens");
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_clients() {
    let up = Tidewire::up(&[]);
    let (mut client, _) = join(&up, "echo");
    up.interrupt();
    // The Close is there and is not answered: the drain would wait for its deadline.
    assert!(matches!(client.next(), Got::Close(Some(1001), _)));
    let start = Instant::now();
    up.interrupt();
    let ended = up.wait();
    assert!(start.elapsed() < Duration::from_secs(4), "it waited {:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_client_that_does_not_answer_cannot_hold_up_the_end() {
    let up = Tidewire::up(&[]);
    let (mut client, _) = join(&up, "echo");
    let start = Instant::now();
    up.interrupt();
    assert!(matches!(client.next(), Got::Close(Some(1001), _)));
    let ended = up.wait();
    assert!(start.elapsed() < Duration::from_secs(15), "it waited {:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let up = Tidewire::up(&[]);
    let address = up.address().to_string();
    let mut second = command();
    second.args(["up", "--listen", &address]);
    let ended = Child::spawn(second).wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.has_line(&[&address, "in use"]), "{:#?}", ended.stderr);
    assert!(ended.stdout.is_empty(), "it says that it is up: {:#?}", ended.stdout);
}

#[test]
fn the_page_opens_when_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let (opener, opened) = (directory.path().join("xdg-open"), directory.path().join("opened"));
    fs::write(&opener, format!("#!/bin/sh\necho \"$1\" > {}\n", opened.display())).unwrap();
    fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut up = command();
    up.args(["up", "--listen", "127.0.0.1:0", "--open"]).env("PATH", path);
    let mut up = Child::spawn(up);
    let page = up.line("it says where the page is", |line| {
        line.trim().strip_prefix("page").map(|rest| rest.trim().to_owned())
    });
    let url = until("the browser is started", || {
        fs::read_to_string(&opened).ok().filter(|url| url.ends_with('\n'))
    });
    assert_eq!(url.trim(), page);
}
