//! The limit on open files: reaching it pauses what would need more, and nothing else.

use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{self, Tidewire, edge, hub};
use tidewire_testkit::websocket::{Got, WebSocket, handshake};
use tidewire_testkit::{script, skip};

/// An edge whose limit on open files is `limit` (as `prlimit` takes it: soft and hard).
fn with_limit(limit: &str, config: &str) -> Option<Tidewire> {
    if !skip::has("prlimit") {
        return None;
    }
    // Who says nothing keeps its file for as long as a test takes.
    let patience = "http_request = \"60s\"\n";
    let config = match config.contains("[timeout]\n") {
        true => config.replace("[timeout]\n", &format!("[timeout]\n{patience}")),
        false => format!("{config}\n[timeout]\n{patience}"),
    };
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limit}")).arg(tidewire::command().get_program());
    Some(Tidewire::run_by(command, &config))
}

#[test]
fn without_files_accepting_pauses_and_nothing_spins() {
    let server = Backend::start(script::echoes);
    let config = format!("workers = 1\n{}", edge(&[server.address()], ""));
    let Some(mut edge) = with_limit("64:64", &config) else { return };
    let mut socket = WebSocket::connect(edge.address(), "/");
    let mut waiting: Vec<Peer> = (0..100).map(|_| Peer::connect(edge.address())).collect();
    edge.log_line(&["WARN", "accepting pauses"]);
    // What is open goes on, and waiting for files costs nothing.
    socket.expect_echo("still served");
    let spent = edge.cpu_time_during(Duration::from_secs(1));
    assert!(spent < Duration::from_millis(200), "{spent:?} of a second");
    socket.expect_echo("still served");
    let pauses = edge.child.stderr().iter().filter(|line| line.contains("pauses")).count();
    assert_eq!(pauses, 1, "one line says it");
    // The kernel holds who could not be accepted, and they are when others go.
    let mut last = waiting.pop().expect("the one that came last");
    waiting.clear();
    edge.log_line(&["WARN", "accepting again"]);
    last.send(handshake("/"));
    last.response().expect(101);
    let mut last = WebSocket::opened(last);
    last.expect_echo("served at last");
    edge.expect_metric_at_least("runtime_accept_pauses_total", &[], 1.0);
}

#[test]
fn without_files_for_a_server_the_client_is_told() {
    let server = Backend::start(script::echoes);
    let config = format!("workers = 1\n{}", edge(&[server.address()], "[timeout]\nqueue = \"1s\""));
    let Some(edge) = with_limit("64:64", &config) else { return };
    // Each takes a file when it is accepted, and another one when it is a tunnel.
    let mut peers: Vec<Peer> = (0..36).map(|_| Peer::connect(edge.address())).collect();
    let mut refused = 0;
    let mut open = Vec::new();
    for mut peer in peers.drain(..) {
        peer.send(handshake("/"));
        match peer.response().status {
            101 => open.push(WebSocket::opened(peer)),
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert!(refused > 0 && !open.is_empty(), "{refused} refused, {} open", open.len());
    for socket in &mut open {
        socket.expect_echo("not disturbed");
    }
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let server = Backend::start(script::echoes);
    let Some(edge) = with_limit("64:4096", &edge(&[server.address()], "")) else { return };
    let limits = fs::read_to_string(format!("/proc/{}/limits", edge.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limits: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(limits, ["4096", "4096"]);
    let mut sockets: Vec<_> = (0..60).map(|_| WebSocket::connect(edge.address(), "/")).collect();
    for socket in &mut sockets {
        socket.expect_echo("more than 64 files");
    }
}

#[test]
fn a_limit_that_is_too_low_is_said_at_the_start() {
    let server = Backend::start(script::echoes);
    let config = edge(&[server.address()], "");
    let Some(mut low) = with_limit("256:256", &config) else { return };
    low.log_line(&["WARN", "limit=256", "ulimit -n"]);
}

#[test]
fn files_are_given_back_when_connections_end() {
    let server = Backend::start(script::echoes);
    let edge = Tidewire::run(&edge(&[server.address()], ""));
    WebSocket::connect(edge.address(), "/").expect_echo("warm");
    edge.metric("edge_server_up", &[]);
    let before = edge.child.open_files();
    for _ in 0..3 {
        let mut sockets: Vec<_> =
            (0..50).map(|_| WebSocket::connect(edge.address(), "/")).collect();
        for socket in &mut sockets {
            socket.send_close(1000, "");
            assert_eq!(socket.next(), Got::Close(Some(1000), String::new()));
            assert_eq!(socket.next(), Got::End);
        }
    }
    // A worker that was late opens its own files meanwhile, which are fewer than this.
    let most = before + 8;
    until("the files are given back", || (edge.child.open_files() <= most).then_some(()));
}

#[test]
fn a_hub_without_files_serves_whom_it_has() {
    let config = format!("workers = 1\n{}", hub("server1", ""));
    let Some(mut node) = with_limit("64:64", &config) else { return };
    let mut sockets: Vec<_> =
        (0..4).map(|_| WebSocket::connect(node.address(), "/ws/echo")).collect();
    let idle: Vec<Peer> = (0..100).map(|_| Peer::connect(node.address())).collect();
    node.log_line(&["WARN", "accepting pauses"]);
    sockets[0].send("to all");
    for socket in &mut sockets {
        assert_eq!(socket.text(), "Received: to all");
    }
    let spent = node.cpu_time_during(Duration::from_millis(1500));
    assert!(spent < Duration::from_millis(375), "{spent:?} of 1.5 s");
    drop(idle);
    node.log_line(&["WARN", "accepting again"]);
    let mut late = WebSocket::connect(node.address(), "/ws/late");
    late.send("served");
    assert_eq!(late.text(), "Received: served");
}

#[test]
fn clients_that_come_and_go_at_the_limit_do_not_fill_the_log() {
    let server = Backend::start(script::echoes);
    let config = format!("workers = 1\n{}", edge(&[server.address()], ""));
    let Some(mut edge) = with_limit("64:64", &config) else { return };
    let mut socket = WebSocket::connect(edge.address(), "/");
    let mut peers: VecDeque<Peer> = (0..100).map(|_| Peer::connect(edge.address())).collect();
    edge.log_line(&["WARN", "accepting pauses"]);
    // Each that goes makes room for one that waits, and the limit is reached again.
    for _ in 0..15 {
        drop(peers.pop_front());
        socket.expect_echo("still served");
        // The pause between two attempts to accept.
        socket.expect_silence(Duration::from_millis(110));
    }
    let stderr = edge.child.stderr();
    let lines: Vec<_> = stderr.iter().filter(|line| line.contains("accepting")).collect();
    // Not two for each; some, when the machine was busy with something else for seconds.
    assert!(lines.len() <= 10, "{} lines: {lines:#?}", lines.len());
}
