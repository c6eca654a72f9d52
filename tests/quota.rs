//! How many connections somebody may have, and how often they may come: at a route, at a listener.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tidewire_testkit::attack::raise_open_files;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::Authority;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script::{declines_with_426, echoes, never_answers};
use tidewire_testkit::tidewire::{Tidewire, command, edge, hub};
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

/// The answer to a handshake that is not to become a WebSocket.
#[track_caller]
fn refused(edge: &Tidewire) -> Response {
    let answer = WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws/a"));
    *answer.map(|_| ()).expect_err("a refusal").0
}

/// Opens one as soon as there is room.
#[track_caller]
fn opens(edge: &Tidewire) -> WebSocket {
    until("there is room again", || {
        WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws/a")).ok()
    })
}

/// Waits until nothing is counted any more.
#[track_caller]
fn nothing_is_held(edge: &Tidewire) {
    until("nothing is counted", || (edge.metric("edge_quota_held", &[]) == 0.0).then_some(()));
}

fn limits(text: &str) -> String {
    format!("\n[limits]\nprofile = \"off\"\n{text}\n")
}

#[test]
fn an_address_has_no_more_websockets_than_it_may() {
    let more = limits("per_address = { connections = 2 }");
    let Rig { edge, server } = Rig::with(echoes, &more);
    let mut first = WebSocket::connect(edge.address(), "/ws/a");
    let second = WebSocket::connect(edge.address(), "/ws/a");
    let answer = refused(&edge).expect(429);
    assert_eq!(answer.headers.get("retry-after"), Some("5"));
    assert!(answer.text().contains("too many connections from your address"), "{}", answer.text());
    // Nobody was asked for it.
    assert_eq!(server.accepted(), 2);
    drop(second);
    let third = opens(&edge);
    first.send("still here");
    assert_eq!(first.text(), "still here");
    drop((first, third));
    nothing_is_held(&edge);
    let labels = ["at=\"route\"", "limit=\"per_address.connections\""];
    edge.expect_metric_at_least("edge_refused_total", &labels, 1.0);
}

#[test]
fn the_clients_of_a_hub_are_counted_until_they_end() {
    let config = hub("a", "") + &limits("total = { connections = 2 }");
    let edge = Tidewire::run(&config);
    let first = WebSocket::connect(edge.address(), "/ws/a");
    let mut second = WebSocket::connect(edge.address(), "/ws/a");
    let answer = refused(&edge).expect(429);
    let seconds: u64 = answer.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((5..=10).contains(&seconds), "{seconds}");
    second.send_close(1000, "");
    drop(first);
    opens(&edge);
    nothing_is_held(&edge);
}

#[test]
fn workers_count_together() {
    let server = Backend::start(echoes);
    let config = edge(&[server.address()], &limits("per_address = { connections = 10 }"));
    let edge = Tidewire::run(&format!("workers = 2\n{config}"));
    let open: Vec<WebSocket> = (0..10).map(|_| opens(&edge)).collect();
    for _ in 0..20 {
        refused(&edge).expect(429);
    }
    drop(open);
    nothing_is_held(&edge);
}

#[test]
fn handshakes_come_no_faster_than_they_may() {
    let more = limits("per_address = { rate = \"2/m\", burst = 3 }");
    let Rig { edge, server: _server } = Rig::with(echoes, &more);
    for _ in 0..3 {
        WebSocket::connect(edge.address(), "/ws/a");
    }
    let answer = refused(&edge).expect(429);
    let seconds: u64 = answer.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((15..=30).contains(&seconds), "{seconds}");
    assert!(answer.text().contains("handshakes come too fast from your address"));
    assert_eq!(answer.headers.get("connection"), Some("close"));
}

#[test]
fn requests_have_a_rate_of_their_own() {
    let more = limits("per_address = { rate = \"1/h\", requests = \"2/h\" }");
    let Rig { edge, server: _server } =
        Rig::with(|_, peer| peer.send("HTTP/1.1 204 No Content\r\n\r\n"), &more);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for status in [204, 204, 429, 429] {
        ask(edge.address(), get).expect(status);
    }
    // The handshake is the first; that it is declined is the server's doing.
    assert_ne!(refused(&edge).status, 429);
    refused(&edge).expect(429);
}

#[test]
fn a_handshake_in_flight_is_counted_until_it_is_answered() {
    let more = limits("total = { handshakes = 1 }");
    let Rig { edge, server: _server } = Rig::with(never_answers, &more);
    let mut waiting = Peer::connect(edge.address());
    waiting.send(handshake("/ws/a"));
    until("it is in flight", || (edge.metric("edge_quota_held", &[]) == 1.0).then_some(()));
    refused(&edge).expect(429);
    waiting.close();
    nothing_is_held(&edge);
}

#[test]
fn a_declined_upgrade_is_not_counted_any_more() {
    let more = limits("per_address = { connections = 1, handshakes = 1 }");
    let Rig { edge, server: _server } = Rig::with(declines_with_426, &more);
    for _ in 0..5 {
        until("it is counted no more", || (refused(&edge).status == 426).then_some(()));
    }
    nothing_is_held(&edge);
}

#[test]
fn an_identity_has_no_more_than_it_may_wherever_it_comes_from() {
    let server = Backend::start(echoes);
    let secret = "a secret of thirty-two bytes, ok";
    let auth = format!("[[auth]]\nname = \"users\"\njwt = {{ secret = \"{secret}\" }}\n");
    let config = edge(&[server.address()], &auth)
        .replace("[[route]]\n", "[[route]]\nauth = \"users\"\n")
        + &limits("per_identity = { connections = 1 }\nper_address = { rate = \"1000/s\" }");
    let edge = Tidewire::run(&config);
    let of = |subject: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let claims = json!({ "sub": subject, "exp": now.as_secs() + 600 });
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let line = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
        WebSocket::try_upgrade(
            Peer::connect(edge.address()),
            &handshake("/ws").replace("\r\n\r\n", &line),
        )
    };
    let ann = of("ann").expect("ann's first");
    let bob = of("bob").expect("bob's first");
    let answer = of("ann").map(|_| ()).expect_err("ann's second").0.expect(429);
    assert!(answer.text().contains("too many connections of yours"), "{}", answer.text());
    drop(ann);
    let again = until("ann's place is free", || of("ann").ok());
    refused(&edge).expect(401);
    drop((again, bob));
    nothing_is_held(&edge);
}

#[test]
fn a_listener_tells_those_whom_it_does_not_let_in() {
    let server = Backend::start(echoes);
    let config = edge(&[server.address()], &limits("")).replacen(
        "bind = \"127.0.0.1:0\"\n",
        "bind = \"127.0.0.1:0\"\nlimits = { per_address = { connections = 2 } }\n",
        1,
    );
    let edge = Tidewire::run(&config);
    let first = WebSocket::connect(edge.address(), "/ws");
    let second = Peer::connect(edge.address());
    until("both are there", || (edge.metric("edge_quota_held", &[]) == 2.0).then_some(()));
    let answer = refused(&edge).expect(429);
    assert_eq!(answer.headers.get("retry-after"), Some("5"));
    drop((first, second));
    nothing_is_held(&edge);
    opens(&edge);
    let labels = ["at=\"listener\"", "limit=\"per_address.connections\""];
    edge.expect_metric_at_least("edge_refused_total", &labels, 1.0);
    edge.expect_metric_at_least("edge_ends_total", &["reason=\"limited\""], 1.0);
}

#[test]
fn connections_that_say_nothing_are_handshakes_of_their_listener() {
    let server = Backend::start(echoes);
    let config = edge(&[server.address()], &limits("")).replacen(
        "bind = \"127.0.0.1:0\"\n",
        "bind = \"127.0.0.1:0\"\nlimits = { per_address = { handshakes = 2 } }\n",
        1,
    );
    let edge = Tidewire::run(&config);
    let mut open: Vec<WebSocket> = (0..5).map(|_| opens(&edge)).collect();
    nothing_is_held(&edge);
    let silent = [Peer::connect(edge.address()), Peer::connect(edge.address())];
    until("both are there", || (edge.metric("edge_quota_held", &[]) == 2.0).then_some(()));
    refused(&edge).expect(429);
    drop(silent);
    open.push(opens(&edge));
    nothing_is_held(&edge);
}

/// A route that answers behind a listener with these limits.
#[track_caller]
fn listening(workers: &str, limits: &str, more: &str) -> Tidewire {
    let listen = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
    let route = "[[route]]\nrespond = { status = 200, body = \"in\" }\n";
    Tidewire::run(&format!("{workers}\n{listen}limits = {{ {limits} }}\n{route}{more}"))
}

#[test]
fn a_listener_lets_those_above_its_rate_wait_for_their_turn() {
    let edge = listening("", "total = { rate = \"50/s\", burst = 2, wait = \"30s\" }", "");
    let begun = std::time::Instant::now();
    let mut peers: Vec<Peer> = (0..42).map(|_| Peer::connect(edge.address())).collect();
    peers.iter_mut().for_each(|peer| peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    for peer in &mut peers {
        peer.response().expect(200);
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(800), "40 behind the burst, at 20 ms each: {took:?}");
    // On a connection that is in nobody waits again.
    peers[0].send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peers[0].response().expect(200);
}

#[test]
fn who_would_have_to_wait_too_long_at_a_listener_is_told() {
    let limits = "per_address = { rate = \"6/m\", burst = 1, wait = \"15s\", connections = 9 }";
    let edge = listening("", limits, "");
    ask(edge.address(), "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").expect(200);
    nothing_is_held(&edge);
    // The second has its turn in ten seconds, and leaves before that; it is not given to another.
    let second = Peer::connect(edge.address());
    until("it waits", || (edge.metric("edge_quota_held", &[]) >= 1.0).then_some(()));
    let answer = refused(&edge).expect(429);
    // It would have to wait for five seconds more than it may, but for those that have passed.
    let seconds: u64 = answer.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    drop(second);
    nothing_is_held(&edge);
}

/// More than 256 on a worker are not told: to tell them takes a task each.
#[test]
fn a_flood_of_those_whom_a_listener_refuses_is_cut_without_a_word() {
    const REFUSED: usize = 1200;
    raise_open_files();
    // Who is in stays, and says nothing meanwhile.
    let more = "[timeout]\nhttp_request = \"60s\"\n";
    let edge = listening("workers = 1", "per_address = { connections = 1 }", more);
    let mut first = Peer::connect(edge.address());
    until("it is in", || (edge.metric("edge_quota_held", &[]) >= 1.0).then_some(()));
    let before = edge.child.open_files();
    let mut flood: Vec<Peer> = (0..REFUSED).map(|_| Peer::connect(edge.address())).collect();
    let refused = ["at=\"listener\"", "limit=\"per_address.connections\""];
    edge.expect_metric("edge_refused_total", &refused, REFUSED as f64);
    let lingering = edge.child.open_files().saturating_sub(before);
    // Those who are told, and the request for the metrics.
    assert!(lingering <= 256 + 8, "{lingering} open files");
    let told = flood.iter_mut().filter_map(|peer| {
        // Whoever is not told finds a reset where the refusal came first.
        while let Ok(1..) = peer.wait() {}
        peer.take_until(b"\r\n")
    });
    let told = told.filter(|said| said == b"HTTP/1.1 429 Too Many Requests\r\n").count();
    assert!((256..REFUSED).contains(&told), "{told} are told");
    // Who is in has not noticed.
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    first.response().expect(200);
    until("nobody lingers", || (edge.child.open_files() <= before + 4).then_some(()));
}

#[test]
fn who_is_cut_at_a_deadline_gives_its_place_back() {
    let limits = "per_address = { connections = 2, handshakes = 2 }";
    let more = "[timeout]\nhttp_request = \"3s\"\nhttp_keep_alive = \"300ms\"\n";
    let edge = listening("", limits, more);
    let _silent = Peer::connect(edge.address());
    let mut idle = Peer::connect(edge.address());
    idle.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    idle.response().expect(200);
    nothing_is_held(&edge);
    // At a route: a server that never answers.
    let more = format!(
        "{}\n[timeout]\nserver = \"300ms\"\n",
        self::limits("per_address = { connections = 1, handshakes = 1 }")
    );
    let rig = Rig::with(never_answers, &more);
    refused(&rig.edge).expect(504);
    nothing_is_held(&rig.edge);
    refused(&rig.edge).expect(504);
    nothing_is_held(&rig.edge);
}

#[test]
fn whom_a_drain_ends_gives_its_place_back_while_others_go_on() {
    let more = limits("per_address = { connections = 9 }")
        + "\n[drain]\ndeadline = \"20s\"\n[timeout]\nhttp_request = \"60s\"\n";
    let mut rig = Rig::with(echoes, &more);
    let mut stays = rig.connect();
    stays.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n");
    let mut socket = rig.open();
    assert_eq!(rig.edge.metric("edge_quota_held", &[]), 1.0);
    rig.edge.terminate();
    assert!(matches!(socket.next(), Got::Close(Some(1001), _)));
    socket.send_close(1001, "");
    nothing_is_held(&rig.edge);
    rig.edge.log_line(&["websocket", "reason=\"drain\""]);
    drop(stays);
}

#[test]
fn a_reconnect_storm_is_admitted_at_its_pace_and_nobody_is_lost() {
    const CLIENTS: usize = 2000;
    raise_open_files();
    let more = limits("total = { rate = \"800/s\", burst = 20, wait = \"30s\" }");
    let edge = Tidewire::run(&format!("workers = 2\n{}{more}", hub("a", "")));
    let begun = std::time::Instant::now();
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| Peer::connect(edge.address())).collect();
    peers.iter_mut().for_each(|peer| peer.send(handshake("/ws/a")));
    for peer in &mut peers {
        assert_eq!(peer.response_head().status, 101);
    }
    // Those behind the burst at 1.25 ms each.
    let least = Duration::from_micros((CLIENTS as u64 - 20) * 1250);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    drop(peers);
    nothing_is_held(&edge);
}

#[test]
fn those_who_cannot_wait_so_long_are_told_and_nobody_is_lost() {
    const CLIENTS: usize = 400;
    let more = limits("total = { rate = \"100/s\", burst = 10, wait = \"1s\" }");
    let rig = Rig::with(echoes, &more);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| rig.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.send(handshake("/ws")));
    let mut answers = [0, 0];
    for peer in &mut peers {
        let answer = peer.response_head();
        match answer.status {
            101 => answers[0] += 1,
            429 => answers[1] += 1,
            status => panic!("{status}"),
        }
        assert_eq!(answer.status == 429, answer.headers.has("retry-after"));
    }
    // The burst and a second's worth, and as many again for each second that sending took.
    assert!(answers[0] >= 110 && answers[1] > 0, "{answers:?}");
    drop(peers);
    nothing_is_held(&rig.edge);
}

#[test]
fn who_leaves_while_waiting_for_its_turn_gives_its_place_back() {
    let more =
        limits("per_address = { connections = 2, rate = \"1/m\", wait = \"1m\", burst = 1 }");
    let rig = Rig::with(echoes, &more);
    let first = rig.open();
    let mut second = rig.connect();
    second.send(handshake("/ws"));
    until("it waits", || (rig.edge.metric("edge_quota_held", &[]) == 2.0).then_some(()));
    assert!(refused(&rig.edge).expect(429).text().contains("too many connections"));
    second.close();
    until("it is gone", || (rig.edge.metric("edge_quota_held", &[]) == 1.0).then_some(()));
    drop(first);
    nothing_is_held(&rig.edge);
}

/// Ten wait at 3 s each, and leave: who comes behind them does not wait for half a minute.
#[test]
fn whoever_gives_up_its_place_in_line_does_not_hold_up_those_behind_it() {
    let more = limits(
        "per_address = { connections = 99 }\n\
         total = { rate = \"20/m\", burst = 1, wait = \"60s\" }",
    );
    let rig = Rig::with(echoes, &more);
    let first = rig.open();
    let begun = std::time::Instant::now();
    let mut leaving: Vec<Peer> = (0..10).map(|_| rig.connect()).collect();
    leaving.iter_mut().for_each(|peer| peer.send(handshake("/ws")));
    let held = |count| {
        let held = || rig.edge.metric("edge_quota_held", &["per=\"per_address\""]);
        until("so many are there", || (held() == count).then_some(()))
    };
    held(11.0);
    let mut last = rig.connect();
    last.send(handshake("/ws"));
    held(12.0);
    drop(leaving);
    held(2.0);
    assert_eq!(last.response_head().status, 101);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    drop((first, last));
    nothing_is_held(&rig.edge);
}

/// Of a listener's clients the same, before anything is read: what they have said stays where it is.
#[test]
fn whoever_leaves_a_listeners_line_does_not_hold_up_those_behind_it() {
    let limits = "per_address = { rate = \"20/m\", burst = 1, wait = \"60s\", connections = 99 }";
    let off = self::limits("");
    let edge = listening("", limits, &format!("{off}[timeout]\nhttp_request = \"60s\"\n"));
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let held = |count| {
        let held = || edge.metric("edge_quota_held", &[]);
        until("so many are there", || (held() == count).then_some(()))
    };
    let _first = Peer::connect(edge.address());
    held(1.0);
    let begun = std::time::Instant::now();
    let mut leaving: Vec<Peer> = (0..10).map(|_| Peer::connect(edge.address())).collect();
    leaving.iter_mut().take(5).for_each(|peer| peer.send(get));
    held(11.0);
    let mut last = Peer::connect(edge.address());
    last.send(get);
    held(12.0);
    drop(leaving);
    held(2.0);
    last.response().expect(200);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    edge.expect_metric_at_least("edge_ends_total", &["reason=\"eof\""], 10.0);
}

#[test]
fn a_warning_says_once_that_a_limit_is_reached() {
    let more = limits("per_address = { rate = \"1/h\" }");
    let Rig { mut edge, server: _server } = Rig::with(echoes, &more);
    WebSocket::connect(edge.address(), "/ws/a");
    for _ in 0..20 {
        refused(&edge).expect(429);
    }
    edge.log_line(&["WARN", "limit `per_address.rate` of route `/*` is reached"]);
    edge.log_line(&["status=429", "fault=\"per_address.rate\""]);
    edge.expect_metric("edge_refused_total", &["limit=\"per_address.rate\""], 20.0);
    let warnings = edge.child.stderr().into_iter().chain(edge.child.stdout());
    assert_eq!(warnings.filter(|line| line.contains("is reached")).count(), 1);
}

#[test]
fn a_head_that_drips_is_cut_at_the_deadline() {
    let more = "\n[timeout]\nhttp_request = \"1s\"\n";
    let rig = Rig::with(echoes, more);
    let mut peer = rig.connect();
    drips(
        &mut peer,
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: yes, very, and on and on and on\r\n",
    );
    rig.edge.expect_metric("edge_ends_total", &["reason=\"http_request_timeout\""], 1.0);
}

#[test]
fn a_tls_handshake_that_drips_is_cut_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new("ca").server(&["a.test"]).write(directory.path(), "a");
    let config = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
        tls.certificate = [{ cert = \"a.pem\", key = \"a.key\" }]\n\
        [[route]]\nrespond = { status = 200, body = \"in\" }\n[timeout]\nclient_hs = \"1s\"\n";
    let edge = Tidewire::run_in(command(), directory, config);
    let mut peer = Peer::connect(edge.address());
    // The beginning of a ClientHello of 512 bytes.
    let hello: String = "\u{16}\u{3}\u{1}\u{2}".chars().chain("\0".repeat(60).chars()).collect();
    drips(&mut peer, &hello);
    edge.expect_metric("edge_ends_total", &["reason=\"client_hs_timeout\""], 1.0);
}

/// Sends a byte every tenth of a second until the other side has had enough.
fn drips(peer: &mut Peer, text: &str) {
    let begun = std::time::Instant::now();
    for byte in text.bytes() {
        if peer.try_send(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
}
