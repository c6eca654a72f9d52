//! How many connections somebody may have, and how often they may come: at a route, at a listener.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script::{declines_with_426, echoes, never_answers};
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::websocket::{WebSocket, handshake};

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
    assert!(edge.metric("edge_refused_total", &labels) >= 1.0);
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
    assert!((25..=30).contains(&seconds), "{seconds}");
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
    assert!(edge.metric("edge_refused_total", &labels) >= 1.0);
    assert!(edge.metric("edge_ends_total", &["reason=\"limited\""]) >= 1.0);
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
    let silent = [Peer::connect(edge.address()), Peer::connect(edge.address())];
    until("both are there", || (edge.metric("edge_quota_held", &[]) == 2.0).then_some(()));
    refused(&edge).expect(429);
    drop(silent);
    open.push(opens(&edge));
    nothing_is_held(&edge);
}

#[test]
fn a_reconnect_storm_is_admitted_at_its_pace_and_nobody_is_lost() {
    const CLIENTS: usize = 300;
    let more = limits("total = { rate = \"200/s\", burst = 20, wait = \"10s\" }");
    let rig = Rig::with(echoes, &more);
    let begun = std::time::Instant::now();
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| rig.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.send(handshake("/ws")));
    for peer in &mut peers {
        assert_eq!(peer.response_head().status, 101);
    }
    // Those behind the burst at 5 ms each.
    let least = Duration::from_millis((CLIENTS as u64 - 20) * 5);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    drop(peers);
}
