//! Health checks: a server that is down gets no clients, and gets them again when it is back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::{DEADLINE, until};
use tidewire_testkit::http::{Request, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{self, Tidewire, hub};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, server_frame, switch};

/// An edge that checks its servers, named `server1` and so on, ten times a second. A server that is
/// well may take its time on a busy machine, where `check` has no timeout of its own.
fn checking(check: &str, servers: &[SocketAddr]) -> Tidewire {
    let timeout = if check.contains("timeout") { "" } else { "timeout = \"10s\"\n" };
    let pace = "interval = \"100ms\"\nrise = 2\nfall = 2";
    checking_as(&format!("{check}\n{timeout}{pace}"), servers)
}

/// An edge that checks its servers as `check` says.
fn checking_as(check: &str, servers: &[SocketAddr]) -> Tidewire {
    let config = tidewire::edge(servers, &format!("[backend.check]\n{check}\n"));
    Tidewire::run(&config.replace(" },", ", check = true },"))
}

#[track_caller]
fn wait_until(edge: &Tidewire, server: &str, is_up: bool) {
    let label = format!("server=\"{server}\"");
    let expected = f64::from(u8::from(is_up));
    until(&format!("{server} is {}", if is_up { "up" } else { "down" }), || {
        (edge.metric("edge_server_up", &[&label]) == expected).then_some(())
    });
}

#[track_caller]
fn wait_for_state(edge: &Tidewire, server: &str, state: &str) {
    let labels = [format!("server=\"{server}\""), format!("state=\"{state}\"")];
    let labels = labels.each_ref().map(String::as_str);
    until(&format!("{server} is in the state {state}"), || {
        (edge.metric("edge_server_state", &labels) == 1.0).then_some(())
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
    let timeout = if error == "no answer in time" { "timeout = \"3s\"" } else { "" };
    let check = format!("type = \"{kind}\"\npath = \"/check\"\n{timeout}");
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
fn a_websocket_check_takes_messages_before_its_pong_however_they_come() {
    let server = Backend::start(|request, peer| {
        let frame = server_frame(Opcode::Binary, &[0xFF; 40]);
        let key = request.headers.get("sec-websocket-key").unwrap_or_default();
        peer.send([switch(key).as_bytes(), &frame[..22]].concat());
        let mut socket = WebSocket::served(peer.take_over());
        let Got::Ping(payload) = socket.next() else { return };
        socket.peer.send(&frame[22..]);
        socket.send_frame(Opcode::Pong, &payload);
        socket.peer.expect_gone();
    });
    let edge = checking("type = \"websocket\"", &[server.address()]);
    for _ in 0..4 {
        server.request();
    }
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);
}

#[test]
fn a_websocket_check_says_goodbye() {
    let (sender, heard) = channel();
    let server = Backend::start(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let Got::Ping(payload) = socket.next() else { return };
        socket.send_frame(Opcode::Pong, &payload);
        let _ = sender.send(socket.next());
    });
    let _edge = checking("type = \"websocket\"", &[server.address()]);
    let last = heard.recv_timeout(DEADLINE).expect("the check is over");
    assert_eq!(last, Got::Close(Some(1000), String::new()));
}

#[test]
fn a_websocket_check_wants_the_pong_of_its_own_ping() {
    let script = |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        socket.send_frame(Opcode::Pong, b"unasked");
        socket.peer.expect_gone();
    };
    check_seen("websocket", script, "no answer in time");
}

#[test]
fn a_websocket_check_sees_a_server_that_closes() {
    let script = |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        socket.send_close(1013, "full");
        socket.peer.expect_gone();
    };
    check_seen("websocket", script, "a Close");
}

#[test]
fn a_hub_node_passes_every_check() {
    let node = Tidewire::run(&hub("server1", ""));
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
    let check = "type = \"http\"\ninterval = \"50ms\"\ntimeout = \"10s\"\nrise = 5\nfall = 3";
    let edge = checking_as(check, &[server.address()]);
    until("it was checked", || (last_in_a_row(200) > 0).then_some(()));
    is_well.store(false, Ordering::SeqCst);
    wait_until(&edge, "server1", false);
    assert!(last_in_a_row(500) >= 3, "{answered:?}");
    is_well.store(true, Ordering::SeqCst);
    wait_until(&edge, "server1", true);
    assert!(last_in_a_row(200) >= 5, "{answered:?}");
    edge.expect_metric("edge_server_downs_total", &["server=\"server1\""], 1.0);
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
        "type = \"http\"\ninterval = \"50ms\"\ntimeout = \"10s\"\nrise = 1\nfall = 3",
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
    let check = "type = \"websocket\"\npath = \"/ws\"\ntimeout = \"3s\"";
    let edge = checking(check, &[dead.address(), server.address()]);
    wait_until(&edge, "server1", false);
    let before = leases(&edge, "server1");
    for _ in 0..4 {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    assert_eq!(leases(&edge, "server1"), before);
}

#[test]
fn an_http_check_sends_what_it_is_told_to_send() {
    let server = Backend::start(script::mirrors);
    let check = "type = \"http\"\npath = \"/check?deep=1\"\nmethod = \"POST\"\nbody = \"ping\"\n\
        headers = { X-Check = \"edge\", User-Agent = \"probe/1\" }\nexpect = \"\\nping\"";
    let edge = checking(check, &[server.address()]);
    let request = server.request();
    let get = |name| request.headers.get(name);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/check?deep=1"));
    assert_eq!((get("x-check"), get("user-agent")), (Some("edge"), Some("probe/1")));
    assert_eq!((get("content-length"), get("connection")), (Some("4"), Some("close")));
    assert_eq!(get("host"), Some(server.address().to_string().as_str()));
    for _ in 0..4 {
        server.request();
    }
    // The body came back, which is what was expected.
    wait_until(&edge, "server1", true);
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);
}

/// What becomes of a server that answers its checks with `text`.
#[track_caller]
fn check_answer(check: &str, status: u16, text: &str, error: &str) {
    let server = Backend::start(script::answers(status, text));
    let mut edge = checking(&format!("type = \"http\"\n{check}"), &[server.address()]);
    if error.is_empty() {
        for _ in 0..4 {
            server.request();
        }
        assert_eq!(edge.metric("edge_server_up", &[]), 1.0, "{check}: {status} {text}");
        assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0, "{check}: {text}");
    } else {
        edge.log_line(&["server is down", error]);
    }
}

#[test]
fn an_http_check_can_name_classes_of_status() {
    check_answer("status = [\"2xx\", 404]", 204, "", "");
    check_answer("status = [\"2xx\", 404]", 404, "", "");
    check_answer("status = [\"2xx\", 404]", 302, "", "status 302");
    check_answer("status = [\"200-204\"]", 205, "", "status 205");
    check_answer("", 302, "", "");
    check_answer("", 404, "", "status 404");
}

#[test]
fn an_http_check_can_expect_a_text() {
    check_answer("expect = \"status: UP\"", 200, "all of it: status: UP, it says", "");
    check_answer("expect = \"status: UP\"", 200, "status: DOWN", "does not have the text");
    // The status counts all the same.
    check_answer("expect = \"UP\"", 500, "UP", "status 500");
}

#[test]
fn an_http_check_reads_a_text_in_chunks_and_waits_for_no_more_than_it_expects() {
    let server = Backend::start(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send("3\r\nsta\r\n4\r\ntus:\r\n3\r\n UP\r\n");
        // It never ends what it says.
        peer.expect_gone();
    });
    let edge = checking("type = \"http\"\nexpect = \"status: UP\"", &[server.address()]);
    for _ in 0..4 {
        server.request();
    }
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);
}

#[test]
fn an_http_check_does_not_read_for_ever() {
    let server = Backend::start(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\n\r\n");
        while peer.try_send(&[b'x'; 8192]).is_ok() {}
    });
    let mut edge = checking("type = \"http\"\nexpect = \"UP\"", &[server.address()]);
    edge.log_line(&["server is down", "does not have the text"]);
}

#[test]
fn an_http_check_sees_what_is_no_http() {
    let server = Backend::start(script::speaks_no_http);
    let mut edge = checking("type = \"http\"", &[server.address()]);
    edge.log_line(&["server is down", "not HTTP"]);
}

#[test]
fn a_server_can_be_checked_at_another_port() {
    let server = Backend::start(script::echoes);
    let admin = Backend::start(script::answers(200, ""));
    let port = admin.address().port();
    let check = format!("type = \"http\"\nport = {port}");
    let edge = checking(&check, &[server.address()]);
    for _ in 0..3 {
        admin.request();
    }
    wait_until(&edge, "server1", true);
    assert_eq!(server.accepted(), 0);
    drop(edge);
    // And each server at an address of its own.
    let config = tidewire::edge(&[server.address()], CHECK_FAST)
        .replace(" },", &format!(", check = true, check_address = \"{}\" }},", admin.address()));
    let edge = Tidewire::run(&config);
    admin.requests();
    for _ in 0..3 {
        admin.request();
    }
    wait_until(&edge, "server1", true);
    assert_eq!(server.accepted(), 0);
}

/// A server that answers `/check` with what is in the cell, and echoes otherwise.
fn saying(answer: &Arc<Mutex<String>>) -> Backend {
    let answer = Arc::clone(answer);
    Backend::start(move |request, peer| match request.target.as_str() {
        "/check" => {
            let head = answer.lock().unwrap().clone();
            peer.send(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"));
        }
        _ if request.headers.has("upgrade") => script::echoes(request, peer),
        _ => script::mirrors(request, peer),
    })
}

/// A server that says by `drain` that it drains, and by `back` that it does not any more.
#[track_caller]
fn check_drain(check: &str, drain: &str, back: &str) {
    let answer = Arc::new(Mutex::new("200 OK".to_owned()));
    let (server1, server2) = (saying(&answer), Backend::start(script::echoes));
    let check = format!("type = \"http\"\npath = \"/check\"\n{check}");
    let config = tidewire::edge(
        &[server1.address(), server2.address()],
        &format!("[backend.check]\n{check}\n{PACE}"),
    );
    let config = config.replacen(" },", ", check = true },", 1);
    let mut edge = Tidewire::run(&config);
    let mut stays = WebSocket::connect(edge.address(), "/ws");
    drop(WebSocket::connect(edge.address(), "/ws"));
    assert_eq!(leases(&edge, "server1"), 1.0);
    *answer.lock().unwrap() = drain.to_owned();
    wait_for_state(&edge, "server1", "drain");
    edge.log_line(&["INFO", "server drains", "server=\"server1\"", "was=\"up\""]);
    assert_eq!(edge.metric("edge_server_up", &["server=\"server1\""]), 0.0);
    for _ in 0..4 {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    assert_eq!(leases(&edge, "server1"), 1.0, "a server that drains was given a client");
    stays.expect_echo("still here");
    *answer.lock().unwrap() = back.to_owned();
    wait_for_state(&edge, "server1", "up");
    *answer.lock().unwrap() = "500 Ill".to_owned();
    wait_for_state(&edge, "server1", "down");
    // Who was down and says that it drains is not up.
    *answer.lock().unwrap() = drain.to_owned();
    wait_for_state(&edge, "server1", "drain");
    stays.expect_echo("still here");
}

#[test]
fn a_server_drains_by_a_status() {
    check_drain("drain_status = [404]", "404 Not Here", "200 OK");
}

#[test]
fn a_server_drains_by_a_header() {
    check_drain("", "503 Not Ready\r\nTidewire-State: drain", "200 OK\r\nTidewire-State: ready");
    check_drain("", "200 OK\r\nTIDEWIRE-state:DRAIN", "200 OK\r\ntidewire-STATE: READY");
}

#[test]
fn a_hub_node_whose_broker_goes_away_drains_until_it_is_back() {
    let Some(mut redis) = tidewire_testkit::redis::RedisServer::start() else { return };
    let broker = format!("broker = \"{}\"\nbroker_timeout = \"15s\"", redis.url());
    let node = Tidewire::run(&hub("server1", &broker));
    node.wait_until_ready();
    assert_eq!(node.readiness().headers.get("tidewire-state"), Some("ready"));
    let check = format!("[backend.check]\ntype = \"http\"\npath = \"/readyz\"\n{PACE}");
    let config = tidewire::edge(&[node.address()], &check)
        .replace(" },", &format!(", check = true, check_address = \"{}\" }},", node.admin()));
    let edge = Tidewire::run(&config);
    wait_for_state(&edge, "server1", "up");
    let mut client = WebSocket::connect(edge.address(), "/ws/topic");
    redis.kill();
    wait_for_state(&edge, "server1", "drain");
    assert_eq!(node.readiness().expect(503).headers.get("tidewire-state"), Some("drain"));
    get(edge.address(), "/").expect(503);
    redis.run();
    wait_for_state(&edge, "server1", "up");
    client.send("still here");
    until("the message arrives", || client.text().contains("still here").then_some(()));
}

#[test]
fn checks_come_faster_while_something_changes_and_slower_when_it_is_down() {
    let is_well = Arc::new(AtomicBool::new(true));
    let server = ailing(&is_well, script::answers(500, "ill"));
    // With `interval` alone, this would take an hour.
    let check = "type = \"http\"\npath = \"/check\"\ninterval = \"500ms\"\ntimeout = \"10s\"\n\
        fast_interval = \"20ms\"\ndown_interval = \"1h\"\nrise = 5\nfall = 60";
    let edge = checking_as(check, &[server.address()]);
    until("it was checked", || server.requests().pop());
    is_well.store(false, Ordering::SeqCst);
    let start = Instant::now();
    wait_until(&edge, "server1", false);
    // 60 failures at the usual pace take 30 seconds.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    server.requests();
    std::thread::sleep(Duration::from_millis(700));
    assert!(server.requests().is_empty(), "a server that is down is checked as if it were up");
}

const PACE: &str = "interval = \"100ms\"\ntimeout = \"10s\"\nrise = 2\nfall = 2\n";
const CHECK_FAST: &str =
    "[backend.check]\ntype = \"http\"\ninterval = \"100ms\"\ntimeout = \"10s\"\n";
