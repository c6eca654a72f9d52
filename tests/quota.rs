//! How many connections somebody may have, and how often they may come: at a route, at a listener.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tidewire_testkit::attack::raise_open_files;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::Authority;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, Response, ask};
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

/// For two `[[auth]]`.
const USERS: &str = "a secret of thirty-two bytes, ok";
const STAFF: &str = "another secret of as many bytes.";

fn auth(name: &str, secret: &str) -> String {
    format!("[[auth]]\nname = \"{name}\"\njwt = {{ secret = \"{secret}\" }}\n")
}

/// A handshake, or another request, with a token of `subject`.
fn signed(request: &str, secret: &str, subject: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let claims = json!({ "sub": subject, "exp": now.as_secs() + 600 });
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    request.replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

fn upgrade(edge: &Tidewire, secret: &str, subject: &str) -> Result<WebSocket, Box<Response>> {
    let request = signed(&handshake("/ws"), secret, subject);
    WebSocket::try_upgrade(Peer::connect(edge.address()), &request).map_err(|(answer, _)| answer)
}

#[test]
fn an_identity_has_no_more_than_it_may_wherever_it_comes_from() {
    let server = Backend::start(echoes);
    let config = edge(&[server.address()], &auth("users", USERS))
        .replace("[[route]]\n", "[[route]]\nauth = \"users\"\n")
        + &limits("per_identity = { connections = 1 }\nper_address = { rate = \"1000/s\" }");
    let edge = Tidewire::run(&config);
    let ann = upgrade(&edge, USERS, "ann").expect("ann's first");
    let bob = upgrade(&edge, USERS, "bob").expect("bob's first");
    let answer = upgrade(&edge, USERS, "ann").map(|_| ()).expect_err("ann's second").expect(429);
    assert!(answer.text().contains("too many connections of yours"), "{}", answer.text());
    drop(ann);
    let again = until("ann's place is free", || upgrade(&edge, USERS, "ann").ok());
    refused(&edge).expect(401);
    drop((again, bob));
    nothing_is_held(&edge);
}

/// Nobody else pays for a client that tries again and again where it has too many.
#[test]
fn who_is_refused_by_its_identity_has_not_come_by_its_address_and_of_all() {
    let server = Backend::start(serves);
    let config = edge(&[server.address()], &auth("users", USERS))
        .replace("[[route]]\n", "[[route]]\nauth = \"users\"\n")
        + &limits(
            "per_identity = { connections = 1, requests = \"1/h\" }\n\
             per_address = { rate = \"2/h\", requests = \"2/h\" }\n\
             total = { rate = \"2/h\", requests = \"2/h\" }",
        );
    let edge = Tidewire::run(&config);
    let _ann = upgrade(&edge, USERS, "ann").expect("ann's first");
    for _ in 0..5 {
        let answer = upgrade(&edge, USERS, "ann").map(|_| ()).expect_err("ann's second");
        assert!(answer.text().contains("too many connections of yours"), "{}", answer.text());
    }
    let _bob = upgrade(&edge, USERS, "bob").expect("the second that has come");
    let answer = upgrade(&edge, USERS, "cid").map(|_| ()).expect_err("the third");
    assert!(answer.text().contains("from your address"), "{}", answer.text());
    let get = |name| ask(edge.address(), &signed(GET, USERS, name));
    get("ann").expect(204);
    for _ in 0..5 {
        assert!(get("ann").text().contains("of yours"));
    }
    get("bob").expect(204);
    assert!(get("cid").text().contains("from your address"));
}

/// Opens WebSockets, and has an answer for other requests.
fn serves(request: &Request, peer: &mut Peer) {
    match request.headers.has("upgrade") {
        true => echoes(request, peer),
        false => peer.send("HTTP/1.1 204 No Content\r\n\r\n"),
    }
}

const GET: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What users get at a path that is first of all the staff's, with these keys.
#[track_caller]
fn behind_staff(keys: &str) -> (Tidewire, Backend) {
    let server = Backend::start(serves);
    let staff =
        format!("[[route]]\nname = \"staff\"\nauth = \"staff\"\n{keys}backend = \"nodes\"\n");
    let more = auth("staff", STAFF) + &auth("users", USERS) + &limits("");
    let config = edge(&[server.address()], &more).replace(
        "[[route]]\n",
        &format!("{staff}\n[[route]]\nname = \"users\"\nauth = \"users\"\n"),
    );
    (Tidewire::run(&config), server)
}

#[test]
fn a_route_holds_up_nobody_who_is_for_a_later_one() {
    let total = "{ connections = 1, requests = \"1/h\" }";
    let (edge, server) = behind_staff(&format!("limits.total = {total}\n"));
    let staff = upgrade(&edge, STAFF, "sue").expect("there is room");
    let user = upgrade(&edge, USERS, "ann").expect("her route has no limits");
    let answer = upgrade(&edge, STAFF, "tom").map(|_| ()).expect_err("staff has one");
    assert!(answer.expect(429).text().contains("too many connections"));
    // A route that asks for credentials is not passed by for having none.
    refused(&edge).expect(401);
    for _ in 0..3 {
        ask(edge.address(), &signed(GET, USERS, "ann")).expect(204);
    }
    ask(edge.address(), &signed(GET, STAFF, "sue")).expect(204);
    ask(edge.address(), &signed(GET, STAFF, "sue")).expect(429);
    drop((staff, user));
    nothing_is_held(&edge);
    drop(server);

    let (edge, _server) = behind_staff("limits.total = { rate = \"1/h\", wait = \"1m\" }\n");
    for _ in 0..3 {
        upgrade(&edge, USERS, "ann").expect("she waits for nobody's turn");
    }
    upgrade(&edge, STAFF, "sue").expect("no turn of staff was taken");
    upgrade(&edge, STAFF, "sue").map(|_| ()).expect_err("an hour is too long").expect(429);

    let (edge, _server) = behind_staff("allow = [\"192.0.2.0/24\"]\n");
    upgrade(&edge, USERS, "ann").expect("she may come from anywhere");
    upgrade(&edge, STAFF, "sue").map(|_| ()).expect_err("she may not").expect(403);
}

/// Guesses at credentials have the rate of the route whose they are, whatever comes behind it.
#[test]
fn an_address_tries_no_more_often_than_it_may_at_any_of_several_routes() {
    let limits = "limits = { per_address = { rate = \"3/h\" }, total = { rate = \"1000/s\" } }\n";
    let (edge, _server) = behind_staff(limits);
    for _ in 0..3 {
        let answer = upgrade(&edge, "a wrong secret of thirty-two byt", "sue");
        answer.map(|_| ()).expect_err("a wrong guess").expect(401);
    }
    let answer = upgrade(&edge, STAFF, "sue").map(|_| ()).expect_err("too late").expect(429);
    assert!(answer.text().contains("from your address"), "{}", answer.text());
}

#[test]
fn whom_a_listener_turns_away_is_logged_with_the_proxy_that_spoke_for_it() {
    let listen = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
        proxy_protocol = { from = [\"127.0.0.1\"] }\ndeny = [\"192.0.2.7\"]\n\
        limits = { per_address = { connections = 1 } }\n[[route]]\nrespond = { status = 200 }\n";
    let mut edge = Tidewire::run(listen);
    let come = |from: &str| {
        let mut peer = Peer::connect(edge.address());
        peer.send(format!("PROXY TCP4 {from} 192.0.2.1 4711 80\r\n"));
        peer
    };
    let _peers = [come("192.0.2.7"), come("192.0.2.8"), come("192.0.2.8")];
    for reason in ["denied", "limited"] {
        edge.log_line(&[&format!("reason=\"{reason}\""), "client=192.0.2.", "via=127.0.0.1"]);
    }
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
