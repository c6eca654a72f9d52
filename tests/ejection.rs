//! Servers that fail clients get none for a while; clients cannot bring that about.

use std::net::SocketAddr;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::get;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::websocket::{WebSocket, handshake};

fn ejecting(servers: &[SocketAddr], eject: &str) -> Tidewire {
    Tidewire::run(&edge(servers, &format!("eject = {{ {eject} }}\n")))
}

fn is_ejected(edge: &Tidewire, server: &str) -> bool {
    let server = format!("server=\"{server}\"");
    edge.metric("edge_server_state", &[&server, "state=\"ejected\""]) == 1.0
}

#[test]
fn a_server_that_cannot_be_connected_to_gets_nobody_for_a_while() {
    let port = free_port();
    let server = Backend::start(script::mirrors);
    let eject = "connect_errors = 3, base = \"5s\"";
    let mut edge = ejecting(&[loopback(port), server.address()], eject);
    for _ in 0..6 {
        get(edge.address(), "/").expect(200);
    }
    edge.log_line(&["WARN", "server is ejected", "server=\"server1\"", "for 5s"]);
    let errors = || edge.metric("edge_server_connect_errors_total", &["server=\"server1\""]);
    let before = errors();
    for _ in 0..6 {
        get(edge.address(), "/").expect(200);
    }
    assert_eq!(errors(), before, "a server that is ejected was given a client");
    let _back = Backend::start_on(port, script::mirrors);
    until("it is back", || (!is_ejected(&edge, "server1")).then_some(()));
    edge.expect_metric("edge_server_ejections_total", &["server=\"server1\""], 1.0);
}

#[test]
fn the_last_servers_are_not_ejected() {
    let edge = ejecting(&[loopback(free_port()), loopback(free_port())], "connect_errors = 1");
    for _ in 0..6 {
        get(edge.address(), "/").expect(503);
    }
    edge.expect_metric("edge_server_ejections_total", &[], 1.0);
}

#[test]
fn one_client_cannot_eject_a_server() {
    let servers = [(); 2].map(|()| Backend::start(script::closes_before_answer));
    let eject = "handshake_errors = 2, server_errors = true";
    let edge = ejecting(&servers.each_ref().map(Backend::address), eject);
    for _ in 0..10 {
        let peer = Peer::connect(edge.address());
        assert!(WebSocket::try_upgrade(peer, &handshake("/ws")).is_err());
    }
    assert_eq!(edge.metric("edge_server_ejections_total", &[]), 0.0);
}

/// A handshake from the address 127.0.0.`last`, which fails.
fn fail(edge: &Tidewire, last: u8) {
    let peer = Peer::connect_from([127, 0, 0, last].into(), edge.address());
    assert!(WebSocket::try_upgrade(peer, &handshake("/ws")).is_err());
}

#[test]
fn handshakes_of_several_clients_that_fail_eject_a_server() {
    let server = Backend::start(script::answers(500, "ill"));
    let others = [(); 2].map(|()| Backend::start(script::answers(404, "not here")));
    let [second, third] = others.each_ref().map(Backend::address);
    let eject = "handshake_errors = 2, server_errors = true, base = \"1m\", keep = \"1\"";
    let mut edge = ejecting(&[server.address(), second, third], eject);
    for last in 1..=6 {
        fail(&edge, last);
    }
    edge.log_line(&["WARN", "server is ejected", "server=\"server1\""]);
    // A 404 is an answer; whoever asked for what is not there has no say in it.
    for last in 7..=14 {
        fail(&edge, last);
    }
    let ejected = ["server1", "server2", "server3"].map(|server| is_ejected(&edge, server));
    assert_eq!(ejected, [true, false, false]);
}

/// A handshake of `client`, as a proxy says, which fails.
fn fail_for(edge: &Tidewire, client: &str) {
    let said = handshake("/ws").replacen("\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n"), 1);
    assert!(WebSocket::try_upgrade(Peer::connect(edge.address()), &said).is_err());
}

#[test]
fn who_has_a_64_of_ipv6_is_one_client_and_cannot_eject_a_server() {
    let servers = [(); 2].map(|()| Backend::start(script::answers(500, "ill")));
    let eject = "handshake_errors = 3, server_errors = true, base = \"1m\"";
    let config = edge(
        &servers.each_ref().map(Backend::address),
        &format!("balance = \"first\"\neject = {{ {eject} }}\n"),
    );
    let bind = "bind = \"127.0.0.1:0\"\n";
    let trusted = format!("{bind}trusted_proxies = {{ from = \"127.0.0.0/8\" }}\n");
    let mut edge = Tidewire::run(&config.replacen(bind, &trusted, 1));
    for last in 1..=10 {
        fail_for(&edge, &format!("2001:db8:1:2::{last}"));
    }
    assert_eq!(edge.metric("edge_server_ejections_total", &[]), 0.0);
    // With two more clients they are three.
    fail_for(&edge, "2001:db8:1:3::1");
    fail_for(&edge, "192.0.2.1");
    edge.log_line(&["WARN", "server is ejected", "server=\"server1\""]);
}

#[test]
fn a_500_to_a_handshake_ejects_nobody_unless_it_is_to() {
    let servers = [(); 2].map(|()| Backend::start(script::answers(500, "ill")));
    let edge = ejecting(&servers.each_ref().map(Backend::address), "handshake_errors = 1");
    for last in 1..=8 {
        fail(&edge, last);
    }
    assert_eq!(edge.metric("edge_server_ejections_total", &[]), 0.0);
}
