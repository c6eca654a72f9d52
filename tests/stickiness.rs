//! Clients get the server again that they had before: by a cookie, by a prefix of one, by a session
//! of the server's own, and what happens when that server is not there.

use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, Response};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::free_port;
use tidewire_testkit::script::{accepts, serves};
use tidewire_testkit::tidewire::{self, Tidewire};
use tidewire_testkit::websocket::{WebSocket, handshake};

const SECRET: &str = "secret = \"0123456789abcdef\"";

/// An edge before these servers, with more for the backend.
fn edge(servers: &[&Backend], more: &str) -> Tidewire {
    edge_with(servers, "", more)
}

/// As [`edge`], with more for each server.
fn edge_with(servers: &[&Backend], of_server: &str, more: &str) -> Tidewire {
    let names = ["a", "b", "c"];
    assert!(servers.len() <= names.len(), "each server has a name");
    let servers = names.into_iter().zip(servers);
    let servers: Vec<_> = servers.map(|(name, it)| (name, it.address(), of_server)).collect();
    Tidewire::run(&tidewire::edge_of(&servers, more))
}

fn abc() -> [Backend; 3] {
    ["a", "b", "c"].map(|name| Backend::start(serves(name)))
}

/// The answer to a request with this line of head.
fn ask(edge: &Tidewire, target: &str, line: &str) -> Response {
    let text = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{line}\r\n");
    tidewire_testkit::http::ask(edge.address(), &text)
}

/// The cookie that an answer sets, as a line of the next request.
fn cookie_of(answer: &Response) -> String {
    let set = answer.headers.get("set-cookie").expect("a cookie is set");
    format!("Cookie: {}\r\n", set.split(';').next().unwrap())
}

#[test]
fn a_cookie_brings_a_client_back() {
    let [a, b, c] = abc();
    let edge = edge(&[&a, &b, &c], &format!("stick = {{ insert = {{}}, {SECRET} }}"));
    for _ in 0..3 {
        let first = ask(&edge, "/", "Cookie: theirs=1\r\n");
        let set = first.headers.get("set-cookie").expect("a cookie is set");
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        assert_eq!(first.headers.get("cache-control"), Some("private"));
        let cookie = cookie_of(&first);
        for _ in 0..4 {
            let again = ask(&edge, "/", &cookie.replace("\r\n", "; theirs=1\r\n"));
            assert_eq!(again.text(), first.text());
            assert!(!again.headers.has("set-cookie"), "it has it");
        }
    }
    let heads = [a, b, c].map(|server| server.requests()).concat();
    assert_eq!(heads.len(), 15);
    for head in heads {
        assert_eq!(head.headers.get("cookie"), Some("theirs=1"), "servers see no cookie of ours");
    }
    edge.expect_metric("edge_server_stuck_total", &[], 12.0);
}

#[test]
fn a_101_sets_the_cookie_and_a_handshake_brings_it() {
    let [a, b, c] = abc();
    let edge = edge(&[&a, &b, &c], &format!("stick = {{ insert = {{}}, {SECRET} }}"));
    let mut peer = Peer::connect(edge.address());
    peer.send(handshake("/ws"));
    let switch = peer.response_head().expect(101);
    let cookie = cookie_of(&switch);
    assert!(!switch.headers.has("cache-control"), "nobody keeps a 101");
    WebSocket::opened(peer).expect_echo("it is one");
    let server = ask(&edge, "/", &cookie).text();
    let with_cookie = handshake("/ws").replace("Host:", &format!("{cookie}Host:"));
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::connect(edge.address());
        peer.send(&with_cookie);
        assert!(!peer.response_head().expect(101).headers.has("set-cookie"));
        sockets.push(peer);
    }
    let label = format!("server=\"{server}\"");
    edge.expect_metric_at_least("edge_server_tunnels", &[&label], 4.0);
}

#[test]
fn cookies_are_good_at_every_edge_with_the_secret_and_at_no_other() {
    let [a, b, c] = abc();
    let with = |more: &str| {
        let stick = format!("stick = {{ insert = {{ cookie = \"S\" }}{more} }}");
        edge(&[&a, &b, &c], &stick)
    };
    let first = with(&format!(", {SECRET}"));
    let answers = [(); 3].map(|()| ask(&first, "/", ""));
    let others = [
        (with(&format!(", {SECRET}")), true),
        (with(", secret = \"another one 16 b\""), false),
        (with(""), false),
    ];
    for (edge, is_good) in others {
        for answer in &answers {
            let again = ask(&edge, "/", &cookie_of(answer));
            assert_eq!(again.headers.has("set-cookie"), !is_good);
            assert!(!is_good || again.text() == answer.text());
        }
    }
}

#[test]
fn nobody_chooses_a_server_by_writing_a_cookie() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(serves(name)));
    let edge = edge(&[&a, &b], &format!("stick = {{ insert = {{}}, {SECRET} }}"));
    let good = cookie_of(&ask(&edge, "/", ""));
    let forged = [
        "Cookie: tidewire=b\r\n".to_owned(),
        "Cookie: tidewire=\r\n".to_owned(),
        good.replace("\r\n", "x\r\n"),
        good.to_lowercase().replace("cookie:", "Cookie:"),
        good.replace("tidewire", "Tidewire"),
    ];
    for cookie in forged {
        let answer = ask(&edge, "/", &cookie);
        assert!(answer.headers.has("set-cookie"), "{cookie:?} is none of ours");
    }
}

/// A server with a session of its own in a cookie, which says whether it knows it.
fn with_session(name: &'static str) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    move |request, peer| {
        let cookies = request.headers.get("cookie").unwrap_or_default();
        let text = format!("{name} {cookies}");
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nSet-Cookie: theme=dark\r\n\
             Set-Cookie: SID=of-{name}; Path=/\r\n\r\n{text}",
            text.len()
        ));
    }
}

#[test]
fn a_prefix_of_the_application_s_cookie_brings_a_client_back() {
    let servers = ["a", "b", "c"].map(|name| Backend::start(with_session(name)));
    let [a, b, c] = &servers;
    let stick = format!("stick = {{ prefix = {{ cookie = \"SID\" }}, {SECRET} }}");
    let edge = edge(&[a, b, c], &stick);
    for _ in 0..3 {
        let first = ask(&edge, "/", "");
        let name = first.text().chars().next().unwrap();
        let set = first.headers.all("set-cookie");
        assert_eq!(set[0], "theme=dark");
        let value = set[1].strip_prefix("SID=").and_then(|it| it.strip_suffix("; Path=/")).unwrap();
        assert!(value.ends_with(&format!("~of-{name}")), "{value}");
        for _ in 0..4 {
            let again = ask(&edge, "/", &format!("Cookie: theme=dark; SID={value}\r\n"));
            assert_eq!(again.text(), format!("{name} theme=dark; SID=of-{name}"));
        }
    }
}

#[test]
fn a_full_server_is_waited_for_by_those_who_stick_to_it() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(serves(name)));
    let stick = format!("stick = {{ insert = {{}}, {SECRET} }}\ntimeout = {{ queue = \"4s\" }}");
    let edge = edge_with(&[&a, &b], ", maxconn = 1", &stick);
    let mut peer = Peer::connect(edge.address());
    peer.send(handshake("/ws"));
    let cookie = cookie_of(&peer.response_head().expect(101));
    // Its server is full with its own WebSocket; the other one would have room.
    ask(&edge, "/", &cookie).expect(503);
    ask(&edge, "/", "").expect(200);
    let mut waiting = Peer::connect(edge.address());
    waiting.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{cookie}\r\n"));
    until("it waits", || (edge.metric("edge_backend_queue", &[]) == 1.0).then_some(()));
    drop(peer);
    assert!(!waiting.response().expect(200).headers.has("set-cookie"));
}

#[test]
fn who_sticks_to_a_server_that_is_gone_moves_once() {
    // Ports of the system's choice are somebody else's as soon as they are free.
    let [a, b] = ["a", "b"].map(|name| Backend::start_on(free_port(), serves(name)));
    let edge = edge(&[&a, &b], &format!("stick = {{ insert = {{}}, {SECRET} }}"));
    let address = a.address();
    let (first, second) = (ask(&edge, "/", ""), ask(&edge, "/", ""));
    let of_a = if first.text() == "a" { first } else { second };
    drop(a);
    let moved = ask(&edge, "/", &cookie_of(&of_a)).expect(200);
    assert_eq!(moved.text(), "b");
    let cookie = cookie_of(&moved);
    let _back = Backend::start_on(address.port(), serves("a"));
    assert_eq!(ask(&edge, "/", &cookie).text(), "b", "what it has is there now");
}

#[test]
fn who_sticks_to_a_server_that_is_down_gets_another() {
    let [a, b] = ["a", "b"].map(|name| Backend::start_on(free_port(), serves(name)));
    let check = "check = { interval = \"100ms\", fall = 1, rise = 1 }";
    let stick = format!("stick = {{ insert = {{}}, {SECRET} }}\n{check}");
    let edge = edge_with(&[&a, &b], ", check = true", &stick);
    let answers = [ask(&edge, "/", ""), ask(&edge, "/", "")];
    let of_a = answers.iter().find(|answer| answer.text() == "a").expect("in turn");
    drop(a);
    let is_up = || edge.metric("edge_server_up", &["server=\"a\""]);
    until("the edge sees it", || (is_up() == 0.0).then_some(()));
    let moved = ask(&edge, "/", &cookie_of(of_a)).expect(200);
    assert_eq!((moved.text().as_str(), moved.headers.has("set-cookie")), ("b", true));
    edge.expect_metric("edge_backend_unstuck_total", &[], 1.0);
}

#[test]
fn a_server_that_is_to_get_no_newcomers_keeps_those_who_stick() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(serves(name)));
    let stick = format!("stick = {{ insert = {{}}, {SECRET} }}");
    let before = edge(&[&a, &b], &stick);
    let answers = [ask(&before, "/", ""), ask(&before, "/", "")];
    let of_b = answers.iter().find(|answer| answer.text() == "b").expect("in turn");
    // The same, but that `b` is to get no new clients, or none at all.
    for (of_server, expected) in
        [("weight = 0", "b"), ("state = \"drain\"", "b"), ("state = \"maintenance\"", "a")]
    {
        let after = Tidewire::run(&format!(
            "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\n\
             backend = \"nodes\"\n[[backend]]\nname = \"nodes\"\nserver = [\n  \
             {{ name = \"a\", address = \"{}\" }},\n  \
             {{ name = \"b\", address = \"{}\", {of_server} }},\n]\n{stick}",
            a.address(),
            b.address()
        ));
        assert_eq!([(); 3].map(|()| ask(&after, "/", "").text()), ["a"; 3], "{of_server}");
        assert_eq!(ask(&after, "/", &cookie_of(of_b)).text(), expected, "{of_server}");
    }
}

/// A server of sessions such as Socket.IO's: it names one, and knows its own only. `split` is where
/// the first answer is cut into two writes.
fn of_sessions(
    name: &'static str,
    split: usize,
) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    move |request, peer| {
        let sid = request.target.split("sid=").nth(1).unwrap_or_default().to_owned();
        if request.headers.has("upgrade") {
            let mut socket = accepts(request, peer);
            socket.send(&format!("{name} {sid}"));
            return peer.close();
        }
        let text = match sid.as_str() {
            "" => format!("0{{\"sid\":\"{name}-session\",\"upgrades\":[\"websocket\"]}}"),
            _ => format!("{name} {sid}"),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        let (first, second) = text.split_at(if sid.is_empty() { split.min(text.len()) } else { 0 });
        peer.send(head + first);
        if !first.is_empty() {
            std::thread::sleep(Duration::from_millis(30));
        }
        peer.send(second);
    }
}

#[test]
fn a_session_is_learnt_from_the_answer_that_names_it() {
    for split in [0, 3, 12, 18] {
        let [a, b] = ["a", "b"].map(|name| Backend::start(of_sessions(name, split)));
        let edge = edge(&[&a, &b], "stick = { session = { query = \"sid\" } }");
        for _ in 0..2 {
            ask(&edge, "/?EIO=4", "");
        }
        for name in ["a", "b", "a", "a", "b", "b"] {
            let said = ask(&edge, &format!("/?EIO=4&sid={name}-session"), "").text();
            assert_eq!(said, format!("{name} {name}-session"), "cut at {split}");
        }
        let mut socket = WebSocket::connect(edge.address(), "/?transport=websocket&sid=b-session");
        assert_eq!(socket.text(), "b b-session");
        assert_eq!(edge.metric("edge_backend_sessions", &[]), 2.0);
    }
}

#[test]
fn what_a_client_says_of_sessions_is_not_learnt() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(of_sessions(name, 0)));
    let edge = edge(&[&a, &b], "stick = { session = { query = \"sid\" } }");
    for number in 0..20 {
        ask(&edge, &format!("/?sid=made-up-{number}"), "").expect(200);
    }
    assert_eq!(edge.metric("edge_backend_sessions", &[]), 0.0);
}
