//! Health checks: a server that is down gets no clients, and gets them again when it is back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::WebSocket;

/// An edge that checks its servers, named `server1` and so on, ten times a second.
fn checking(check: &str, servers: &[SocketAddr]) -> Tidewire {
    let pace = "interval = \"100ms\"\ntimeout = \"500ms\"\nrise = 2\nfall = 2";
    checking_as(&format!("{check}\n{pace}"), servers)
}

/// An edge that checks its servers as `check` says.
fn checking_as(check: &str, servers: &[SocketAddr]) -> Tidewire {
    let server = |(index, address): (usize, &SocketAddr)| {
        format!("{{ name = \"server{}\", address = \"{address}\", check = true }},", index + 1)
    };
    let servers: String = servers.iter().enumerate().map(server).collect();
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{servers}]
[backend.check]
{check}
"#
    ))
}

#[track_caller]
fn wait_until(edge: &Tidewire, server: &str, is_up: bool) {
    let label = format!("server=\"{server}\"");
    let expected = f64::from(u8::from(is_up));
    until(&format!("{server} is {}", if is_up { "up" } else { "down" }), || {
        (edge.metric("edge_server_up", &[&label]) == expected).then_some(())
    });
}

/// The clients that a server was given so far.
fn leases(edge: &Tidewire, server: &str) -> f64 {
    edge.metric("edge_server_leases_total", &[&format!("server=\"{server}\"")])
}

#[test]
fn a_server_that_is_down_gets_no_clients_and_gets_them_again_when_it_is_back() {
    let port = free_port();
    let server1 = Backend::start_on(port, script::mirrors);
    let server2 = Backend::start(script::mirrors);
    let mut edge = checking("type = \"tcp\"", &[loopback(port), server2.address()]);
    wait_until(&edge, "server1", true);
    drop(server1);
    wait_until(&edge, "server1", false);
    edge.log_line(&["WARN", "server is down", "server=\"server1\""]);
    let before = leases(&edge, "server1");
    for _ in 0..6 {
        get(edge.address(), "/").expect(200);
    }
    assert!(leases(&edge, "server1") == before, "a server that is down was given a client");
    let server1 = Backend::start_on(port, script::mirrors);
    wait_until(&edge, "server1", true);
    edge.log_line(&["INFO", "server is up", "server=\"server1\""]);
    for _ in 0..4 {
        get(edge.address(), "/").expect(200);
    }
    assert!(!server1.requests().is_empty(), "a server that is back gets nothing");
}

/// A server whose checks `script` answers, while `is_well` says so, and which is otherwise well.
fn ailing(
    is_well: &Arc<AtomicBool>,
    ill: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
) -> Backend {
    let is_well = Arc::clone(is_well);
    Backend::start(move |request, peer| match request.target.as_str() {
        "/check" if !is_well.load(Ordering::SeqCst) => ill(request, peer),
        _ if request.headers.has("upgrade") => script::echoes(request, peer),
        _ => script::mirrors(request, peer),
    })
}

/// A server with an open port is seen to be ill, and to be well again.
#[track_caller]
fn check_seen(kind: &str, ill: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, error: &str) {
    let is_well = Arc::new(AtomicBool::new(true));
    let server = ailing(&is_well, ill);
    let check = format!("type = \"{kind}\"\npath = \"/check\"");
    let mut edge = checking(&check, &[server.address()]);
    until("it was checked", || server.requests().pop());
    wait_until(&edge, "server1", true);
    is_well.store(false, Ordering::SeqCst);
    wait_until(&edge, "server1", false);
    edge.log_line(&["server is down", error]);
    get(edge.address(), "/").expect(503);
    is_well.store(true, Ordering::SeqCst);
    wait_until(&edge, "server1", true);
    get(edge.address(), "/").expect(200);
}

#[test]
fn an_http_check_sees_a_server_that_says_it_is_ill() {
    check_seen("http", script::answers(500, "ill"), "status 500");
}

#[test]
fn an_http_check_sees_a_server_that_does_not_answer() {
    check_seen("http", script::never_answers, "no answer in time");
}

#[test]
fn a_websocket_check_sees_a_server_that_does_not_switch() {
    check_seen("websocket", script::answers_200_to_upgrade, "status 200");
}

#[test]
fn a_websocket_check_sees_a_server_whose_switch_is_wrong() {
    check_seen("websocket", script::wrong_accept, "Sec-WebSocket-Accept");
}

#[test]
fn a_websocket_check_sees_a_server_that_switches_and_is_dead() {
    check_seen("websocket", script::stalls_after_101, "no answer in time");
}

#[test]
fn an_http_check_can_name_the_status_that_is_healthy() {
    let server = Backend::start(script::answers(404, "nothing here, and well"));
    let check = "type = \"http\"\npath = \"/check\"\nhost = \"check.test\"\nstatus = [404]";
    let edge = checking(check, &[server.address()]);
    let request = server.request();
    assert_eq!(
        (request.target.as_str(), request.headers.get("host")),
        ("/check", Some("check.test"))
    );
    for _ in 0..4 {
        server.request();
    }
    wait_until(&edge, "server1", true);
}

#[test]
fn a_websocket_check_is_what_a_client_does() {
    let server = Backend::start(script::echoes);
    let edge = checking("type = \"websocket\"\npath = \"/check\"", &[server.address()]);
    for _ in 0..4 {
        assert_eq!(server.request().target, "/check");
    }
    wait_until(&edge, "server1", true);
    assert!(edge.metric("edge_server_check_failures_total", &[]) == 0.0);
}

#[test]
fn a_hub_node_passes_every_check() {
    let node = Tidewire::run(&tidewire_testkit::tidewire::hub("server1", ""));
    let edge = checking("type = \"websocket\"\npath = \"/ws/check\"", &[node.address()]);
    until("it was checked", || (node.metric("hub_bytes_out_total", &[]) > 0.0).then_some(()));
    wait_until(&edge, "server1", true);
    assert!(edge.metric("edge_server_check_failures_total", &[]) == 0.0);
}

#[test]
fn when_no_server_is_up_clients_and_operators_are_told() {
    let server = Backend::start(script::answers(500, "ill"));
    let edge = checking("type = \"http\"", &[server.address(), loopback(free_port())]);
    wait_until(&edge, "server1", false);
    wait_until(&edge, "server2", false);
    let answer = get(edge.address(), "/").expect(503);
    assert!(answer.text().contains("no server is up"), "{}", answer.text());
    let readiness = edge.readiness().expect(503);
    assert!(readiness.text().contains("backend nodes: no server is up"), "{}", readiness.text());
}

#[test]
fn a_tunnel_to_a_server_that_fails_its_checks_stays() {
    let is_well = Arc::new(AtomicBool::new(true));
    let server = ailing(&is_well, script::answers(500, "ill"));
    let edge = checking("type = \"http\"\npath = \"/check\"", &[server.address()]);
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    is_well.store(false, Ordering::SeqCst);
    wait_until(&edge, "server1", false);
    socket.expect_echo("still here");
}

#[test]
fn going_down_takes_fall_checks_and_coming_back_takes_rise() {
    let is_well = Arc::new(AtomicBool::new(true));
    let answered = Arc::<Mutex<Vec<u16>>>::default();
    let (wellness, answers) = (Arc::clone(&is_well), Arc::clone(&answered));
    let server = Backend::start(move |request, peer| {
        let status = if wellness.load(Ordering::SeqCst) { 200 } else { 500 };
        answers.lock().unwrap().push(status);
        script::answers(status, "")(request, peer);
    });
    let last_in_a_row = |status: u16| {
        answered.lock().unwrap().iter().rev().take_while(|&&found| found == status).count()
    };
    let check = "type = \"http\"\ninterval = \"50ms\"\nrise = 5\nfall = 3";
    let edge = checking_as(check, &[server.address()]);
    until("it was checked", || (last_in_a_row(200) > 0).then_some(()));
    is_well.store(false, Ordering::SeqCst);
    wait_until(&edge, "server1", false);
    assert!(last_in_a_row(500) >= 3, "{answered:?}");
    is_well.store(true, Ordering::SeqCst);
    wait_until(&edge, "server1", true);
    assert!(last_in_a_row(200) >= 5, "{answered:?}");
    assert_eq!(edge.metric("edge_server_downs_total", &["server=\"server1\""]), 1.0);
}

#[test]
fn fewer_failures_in_a_row_than_fall_change_nothing() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let server = Backend::start(move |request, peer| {
        let status = if counted.fetch_add(1, Ordering::SeqCst) % 3 == 2 { 200 } else { 500 };
        script::answers(status, "")(request, peer);
    });
    let edge = checking_as(
        "type = \"http\"\ninterval = \"50ms\"\nrise = 1\nfall = 3",
        &[server.address()],
    );
    until("it was checked often", || (checks.load(Ordering::SeqCst) > 9).then_some(()));
    assert_eq!(edge.metric("edge_server_downs_total", &[]), 0.0);
    assert_eq!(edge.metric("edge_server_up", &[]), 1.0);
}

#[test]
fn a_tcp_check_sees_an_open_port_and_no_more() {
    let server = Backend::start(script::answers_200_to_upgrade);
    let edge = checking("type = \"tcp\"", &[server.address()]);
    until("it was checked often", || (server.accepted() > 4).then_some(()));
    wait_until(&edge, "server1", true);
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);
}

#[test]
fn a_client_that_meets_a_dead_server_before_its_check_does_goes_to_the_next_one() {
    let server = Backend::start(script::echoes);
    let dead = loopback(free_port());
    let check = "interval = \"1h\"\nrise = 1\nfall = 3";
    let edge = checking_as(check, &[dead, server.address()]);
    for _ in 0..4 {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    // The server is taken for up all the time, so its turns came and each was passed on.
    assert_eq!(edge.metric("edge_server_up", &["server=\"server1\""]), 1.0);
    let errors = edge.metric("edge_server_connect_errors_total", &["server=\"server1\""]);
    assert!(errors >= 1.0, "{errors}");
}

#[test]
fn a_websocket_goes_to_no_server_whose_websocket_is_dead() {
    let dead = Backend::start(script::swallows);
    let server = Backend::start(script::echoes);
    let check = "type = \"websocket\"\npath = \"/ws\"";
    let edge = checking(check, &[dead.address(), server.address()]);
    wait_until(&edge, "server1", false);
    let before = leases(&edge, "server1");
    for _ in 0..4 {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    assert_eq!(leases(&edge, "server1"), before);
}
