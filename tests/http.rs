//! Plain HTTP through the edge, both ways: a web application behind it must not notice.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tidewire_testkit::backend::{Backend, NeverAccepts};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, Response, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};

/// An edge before one server.
struct Rig {
    server: Backend,
    edge: Tidewire,
}

impl Rig {
    fn new(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        Self::with(script, "")
    }

    fn with(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, more: &str) -> Self {
        let server = Backend::start(script);
        let edge = Tidewire::run(&edge(&[server.address()], more));
        Self { server, edge }
    }

    fn connect(&self) -> Peer {
        Peer::connect(self.edge.address())
    }

    /// The answer to a request of this text.
    fn answer(&self, text: &str) -> Response {
        ask(self.edge.address(), text)
    }
}

#[track_caller]
fn ask(address: SocketAddr, text: &str) -> Response {
    let mut peer = Peer::connect(address);
    peer.send(text);
    peer.response()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

// Connections.

#[test]
fn a_client_s_connection_carries_request_after_request() {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    for number in 0..5 {
        peer.send(format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let answer = peer.response().expect(200).text();
        assert!(answer.starts_with(&format!("GET /{number}\n")), "{answer}");
    }
}

#[test]
fn requests_that_come_in_one_piece_are_answered_in_order() {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(peer.response().expect(200).text().starts_with("GET /1\n"));
    assert!(peer.response().expect(200).text().starts_with("GET /2\n"));
}

#[test]
fn a_server_s_connection_is_used_again_by_other_clients() {
    let rig = Rig::with(script::mirrors, "");
    // One worker would be enough; two keep one connection each.
    for _ in 0..12 {
        rig.answer(GET).expect(200);
    }
    let accepted = rig.server.accepted();
    assert!(accepted <= 2, "{accepted} connections for 12 requests");
}

#[test]
fn a_kept_connection_that_the_server_closed_costs_no_request() {
    let rig = Rig::new(|request, peer| {
        script::mirrors(request, peer);
        // As a server with a short keep-alive does: without a word.
        peer.close();
    });
    for _ in 0..10 {
        rig.answer(GET).expect(200);
    }
}

#[test]
fn connection_close_is_obeyed_towards_the_client() {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert_eq!(peer.response().expect(200).headers.get("connection"), Some("close"));
    peer.expect_end();
}

#[test]
fn http_1_0_gets_a_response_that_it_can_read() {
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send_chunk(b"hello");
        peer.send("0\r\n\r\n");
    });
    let answer = rig.answer("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").expect(200);
    assert!(!answer.headers.has("transfer-encoding"), "{:?}", answer.headers);
    assert_eq!(answer.text(), "hello");
}

// Bodies.

#[test]
fn a_body_of_a_length_arrives_with_its_length() {
    let rig = Rig::new(script::mirrors);
    let text = "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
    let answer = rig.answer(text).expect(200);
    assert!(answer.text().ends_with("\n\nhello"), "{}", answer.text());
    assert!(answer.headers.has("content-length"));
    assert_eq!(rig.server.request().headers.get("content-length"), Some("5"));
}

#[test]
fn a_chunked_body_arrives_chunk_by_chunk_and_with_its_trailers() {
    let rig = Rig::new(|request, peer| {
        let body = peer.body(&request.headers);
        let said = format!("{}|{:?}", String::from_utf8_lossy(&body.bytes), body.trailers.0);
        script::answers(200, &said)(request, peer);
    });
    let answer = rig.answer(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n",
    );
    assert_eq!(answer.expect(200).text(), r#"abcde|[("x-sum", "5")]"#);
}

#[test]
fn a_server_s_trailers_reach_a_client_that_asks_for_them() {
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
        peer.send_chunk(b"abc");
        peer.send("0\r\nX-Sum: 3\r\n\r\n");
    });
    let answer = rig.answer("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n\r\n").expect(200);
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailers.get("x-sum"), Some("3"));
}

#[test]
fn a_response_streams_to_the_client_before_it_is_whole() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let rig = Rig::new(move |_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send_chunk(b"first");
        let wait = wait.lock().expect("one request");
        let _ = wait.recv_timeout(Duration::from_secs(10));
        peer.send_chunk(b"second");
        peer.send("0\r\n\r\n");
    });
    let mut peer = rig.connect();
    peer.send(GET);
    assert_eq!(peer.response_head().status, 200);
    assert_eq!(peer.chunk().as_deref(), Some(b"first".as_slice()));
    go.send(()).expect("the server waits");
    assert_eq!(peer.chunk().as_deref(), Some(b"second".as_slice()));
    assert_eq!(peer.chunk(), None);
}

#[test]
fn a_request_streams_to_the_server_before_it_is_whole() {
    let rig = Rig::new(|request, peer| {
        let first = peer.chunk();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send_chunk(&first.expect("a first chunk"));
        peer.send_chunk(&peer.another().chunk().expect("a second chunk"));
        assert_eq!(peer.chunk(), None, "{request:?}");
        peer.trailers();
        peer.send("0\r\n\r\n");
    });
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer.send_chunk(b"ping");
    assert_eq!(peer.response_head().status, 200);
    assert_eq!(peer.chunk().as_deref(), Some(b"ping".as_slice()));
    peer.send_chunk(b"pong");
    assert_eq!(peer.chunk().as_deref(), Some(b"pong".as_slice()));
    peer.send("0\r\n\r\n");
    assert_eq!(peer.chunk(), None);
}

#[test]
fn a_large_upload_is_not_held_in_memory() {
    let rig = Rig::new(|request, peer| {
        // Takes its time: the edge must wait, not hold.
        std::thread::sleep(Duration::from_millis(500));
        let mut left: usize = request.headers.get("content-length").unwrap().parse().unwrap();
        while left > 0 {
            left -= peer.take_some().len();
        }
        script::answers(200, "taken")(request, peer);
    });
    rig.answer("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx").expect(200);
    let before = rig.edge.child.memory();
    let mut peer = rig.connect();
    peer.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LARGE}\r\n\r\n"));
    let mut peak = 0;
    for _ in 0..LARGE / MIB {
        peer.send(vec![b'x'; MIB]);
        peak = peak.max(rig.edge.child.memory());
    }
    assert_eq!(peer.response().expect(200).text(), "taken");
    check_growth(before, peak);
}

#[test]
fn a_large_download_for_a_slow_reader_is_not_held_in_memory() {
    let rig = Rig::new(|request, peer| {
        let length = if request.target == "/warm" { 1 } else { LARGE };
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let chunk = vec![b'x'; length.min(MIB)];
        (0..length / chunk.len()).for_each(|_| peer.send(&chunk));
    });
    rig.answer("GET /warm HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    let before = rig.edge.child.memory();
    let mut peer = Peer::connect_with_buffer(rig.edge.address(), 64 << 10);
    peer.send(GET);
    assert_eq!(peer.response_head().status, 200);
    std::thread::sleep(Duration::from_millis(500));
    let mut peak = rig.edge.child.memory();
    for _ in 0..LARGE / MIB {
        peer.take(MIB);
        peak = peak.max(rig.edge.child.memory());
    }
    check_growth(before, peak);
}

#[test]
fn a_reader_that_stalls_costs_one_buffer() {
    let server = Backend::start(|_, peer| {
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        peer.send_until_stuck(&vec![b'x'; MIB], Duration::from_secs(5));
    });
    let edge = Tidewire::run(&format!("workers = 1\n{}", edge(&[server.address()], "")));
    let stall = || {
        let mut peer = Peer::connect_with_buffer(edge.address(), 16 << 10);
        peer.send(GET);
        peer.take(1000);
        std::thread::sleep(Duration::from_millis(100));
        peer
    };
    let first = stall();
    let before = edge.child.memory();
    let others: Vec<Peer> = (0..12).map(|_| stall()).collect();
    let each = edge.child.memory().saturating_sub(before) / others.len() as u64;
    assert!(each < 160 << 10, "{each} bytes are held for each");
    drop(first);
}

const MIB: usize = 1 << 20;
const LARGE: usize = 48 * MIB;

/// What hyper and the allocator need for one exchange, and far less than the body.
#[track_caller]
fn check_growth(before: u64, peak: u64) {
    let grown = peak.saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes are held of {LARGE}");
}

#[test]
fn head_has_the_head_and_no_body() {
    let rig = Rig::new(script::answers(200, "seven b"));
    let mut peer = rig.connect();
    peer.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(peer.response_head().headers.get("content-length"), Some("7"));
    // Nothing of a body stands before the next answer.
    peer.send(GET);
    assert_eq!(peer.response().expect(200).text(), "seven b");
    assert_eq!(rig.server.request().method, "HEAD");
}

#[test]
fn answers_without_a_body_have_none() {
    for status in [204, 304] {
        let rig = Rig::new(move |_, peer| peer.send(format!("HTTP/1.1 {status} Is\r\n\r\n")));
        let mut peer = rig.connect();
        for _ in 0..2 {
            peer.send(GET);
            peer.response().expect(status);
        }
    }
}

#[test]
fn a_response_that_ends_with_its_connection_is_delivered() {
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        peer.close();
    });
    assert_eq!(rig.answer(GET).expect(200).text(), "until the end");
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_whole() {
    let rig = Rig::new(script::breaks_off_its_body);
    let mut peer = rig.connect();
    peer.send(GET);
    assert_eq!(peer.response_head().headers.get("content-length"), Some("100"));
    assert!(peer.rest().len() < 100);
    // The same when the client cannot count: the last chunk must not come.
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        peer.close();
    });
    let mut peer = rig.connect();
    peer.send(GET);
    peer.response_head();
    let rest = peer.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn informational_answers_are_not_taken_for_the_answer() {
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    });
    assert_eq!(rig.answer(GET).text(), "final");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n");
    peer.send("Expect: 100-continue\r\n\r\n");
    assert_eq!(peer.response().status, 100);
    peer.send("hello");
    assert!(peer.response().expect(200).text().ends_with("hello"));
}

// Headers.

#[test]
fn headers_of_one_hop_stay_on_it() {
    let rig = Rig::new(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n");
        peer.send("Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n");
        peer.send("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok");
    });
    let answer = rig.answer(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: X-Mine, Host\r\nX-Mine: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
         TE: gzip\r\nUpgrade: foo\r\nProxy: http://6.6.6.6\r\nX-Own: stays\r\n\r\n",
    );
    for gone in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!answer.headers.has(gone), "{gone} in {:?}", answer.headers);
    }
    assert_eq!(answer.headers.all("set-cookie"), ["a=1", "b=2"]);
    let headers = rig.server.request().headers;
    for gone in [
        "connection",
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "proxy",
    ] {
        assert!(!headers.has(gone), "{gone} in {headers:?}");
    }
    assert_eq!(headers.get("x-own"), Some("stays"));
    assert_eq!(headers.get("host"), Some("a.test"));
}

#[test]
fn the_server_learns_who_the_client_is_from_the_edge_only() {
    let rig = Rig::new(script::mirrors);
    rig.answer(
        "GET / HTTP/1.1\r\nHost: a.test:81\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Forwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
         X-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Port: 1\r\n\r\n",
    );
    let headers = rig.server.request().headers;
    assert_eq!(headers.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(headers.get("x-forwarded-proto"), Some("http"));
    assert_eq!(headers.get("x-forwarded-host"), Some("a.test:81"));
    assert_eq!(headers.get("host"), Some("a.test:81"));
    let forwarded = headers.get("forwarded").expect("Forwarded");
    assert_eq!(forwarded, "for=127.0.0.1;host=\"a.test:81\";proto=http");
    assert!(headers.0.iter().all(|(_, value)| !value.contains("6.6.6.6")), "{headers:?}");
    assert!(!headers.has("x-forwarded-port"), "{headers:?}");
}

#[test]
fn a_path_arrives_as_it_was_sent() {
    let rig = Rig::new(script::mirrors);
    for target in ["/a%2Fb/%C3%A4?x=%20&y=/../z", "/..;/x", "/a//b", "/?", "/x?a=b?c"] {
        rig.answer(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect(200);
        assert_eq!(rig.server.request().target, target);
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host() {
    let rig = Rig::new(script::mirrors);
    rig.answer("GET http://b.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    let request = rig.server.request();
    assert_eq!(request.target, "/x?y");
    assert_eq!(request.headers.get("host"), Some("b.test"));
}

#[test]
fn methods_of_all_kinds_pass_and_connect_does_not() {
    let rig = Rig::new(script::mirrors);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        rig.answer(&format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect(200);
        assert_eq!(rig.server.request().method, method);
    }
    rig.answer("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").expect(405);
    assert!(rig.server.requests().is_empty());
}

// What is no request.

/// A request that could be read in two ways is read in none; no server hears of it.
#[track_caller]
fn check_refused(text: &str, status: u16) {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send(text);
    peer.response().expect(status);
    peer.expect_gone();
    assert_eq!(rig.server.accepted(), 0, "the server was asked {text:?}");
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    check_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    check_refused("GET / HTTP/1.1\r\n\r\n", 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400);
    check_refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    check_refused("220 mail.test ESMTP\r\n\r\n", 400);
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n0\r\n\r\n");
    check_refused(&post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400);
    check_refused(&post("Content-Length: 5, 6\r\n"), 400);
    check_refused(&post("Content-Length: -5\r\n"), 400);
    check_refused(&post("Content-Length: +5\r\n"), 400);
    check_refused(&post("Content-Length: 99999999999999999999\r\n"), 400);
    check_refused(&post("Transfer-Encoding: gzip\r\n"), 400);
    check_refused(&post("Transfer-Encoding: chunked, gzip\r\n"), 400);
    check_refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400);
    check_refused(&post("Transfer-Encoding: gzip, chunked\r\n"), 501);
    check_refused(&post("Transfer-Encoding: xchunked\r\n"), 400);
    check_refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 501);
    check_refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

/// RFC 9112, section 6.1: what a hop that went by the length takes for the next request must not
/// be one here.
#[test]
fn with_chunks_and_a_length_the_chunks_count_and_nothing_follows() {
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \
        chunked\r\nContent-Length: 5",
    ] {
        let rig = Rig::new(script::mirrors);
        let mut peer = rig.connect();
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n"));
        peer.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        peer.response().expect(200);
        peer.expect_end();
        assert!(!rig.server.request().headers.has("content-length"));
        assert!(rig.server.requests().is_empty(), "the rest was taken for a request");
    }
}

#[test]
fn a_chunk_that_is_none_ends_the_connection() {
    for chunk in ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "3\r\nabcdef", "3\nabc\n"] {
        let rig = Rig::new(script::mirrors);
        let mut peer = rig.connect();
        peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send(chunk);
        peer.expect_gone();
    }
}

#[test]
fn a_head_that_is_too_large_is_a_431() {
    let rig = Rig::new(script::mirrors);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    rig.answer(&text).expect(431);
    let many = "X: 1\r\n".repeat(200);
    rig.answer(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).expect(431);
    // What a token in a cookie needs still fits.
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "x".repeat(8_000));
    rig.answer(&text).expect(200);
}

#[test]
fn noise_ends_its_connection_and_nothing_else() {
    let rig = Rig::new(script::mirrors);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..60 {
        let mut noise = Vec::new();
        for _ in 0..400 {
            // Xorshift: the same noise in every run.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            noise.push(seed as u8);
        }
        let start =
            ["", "GET / HTTP/1.1\r\n", "GET /ws HTTP/1.1\r\nHost: a\r\n"][seed as usize % 3];
        let mut peer = rig.connect();
        peer.send([start.as_bytes(), &noise, b"\r\n\r\n"].concat());
        peer.finish();
        peer.expect_gone();
    }
    rig.answer(GET).expect(200);
    let said = rig.edge.child.stderr().join("\n");
    assert!(!said.contains("panicked"), "{said}");
}

// What a server does wrong.

#[test]
fn what_went_wrong_is_told_apart() {
    let refuses = loopback(free_port());
    let edge_before = |server, more: &str| Tidewire::run(&edge(&[server], more));
    let answer = |edge: &Tidewire| ask(edge.address(), GET);
    answer(&edge_before(refuses, "")).expect(503);
    for (script, status) in [
        (script::closes_before_answer as fn(&Request, &mut Peer), 502),
        (script::speaks_no_http, 502),
        (script::never_answers, 504),
    ] {
        let server = Backend::start(script);
        let edge = edge_before(server.address(), "[timeout]\nserver = \"200ms\"");
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
    let rig = Rig::with(script::stalls_in_its_body, "[timeout]\nserver = \"200ms\"");
    let mut peer = rig.connect();
    peer.send(GET);
    assert_eq!(peer.response_head().status, 200);
    assert_eq!(peer.take(10), b"0123456789");
    peer.expect_gone();
}

// Which server.

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
        let _ = wait.lock().expect("one request at a time").recv_timeout(Duration::from_secs(10));
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
    let (edge, server, go) = full_server("queue = 1");
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
    let (edge, server, go) = full_server("queue = 1");
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

// Routes that need no server.

#[test]
fn files_are_served_and_nothing_outside_their_directory() {
    let directory = tempfile::tempdir().unwrap();
    let public = directory.path().join("public");
    fs::create_dir_all(public.join("sub")).unwrap();
    fs::write(directory.path().join("secret.txt"), "secret").unwrap();
    fs::write(public.join("index.html"), "<p>home").unwrap();
    fs::write(public.join("app.js"), "0123456789").unwrap();
    std::os::unix::fs::symlink("app.js", public.join("sub/link.js")).unwrap();
    let config = format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath = \"/files/*\"\nstatic = {{ dir = \"{0}\" }}\n\
         [[route]]\nstatic = {{ dir = \"{0}\" }}\n",
        public.display()
    );
    let edge = Tidewire::run(&config);
    let get = |path| get(edge.address(), path);
    let page = get("/").expect(200);
    assert_eq!((page.text().as_str(), page.headers.get("content-type")), ("<p>home", HTML));
    let script = get("/files/app.js").expect(200);
    assert_eq!(script.headers.get("content-type"), Some("text/javascript"));
    get("/app.js").expect(200);
    get("/nothing").expect(404);
    for outside in
        ["/../secret.txt", "/files/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt"]
    {
        let answer = get(outside);
        assert!(answer.status >= 400 && !answer.text().contains("secret\n"), "{outside}");
    }
    let ask = |text: &str| ask(edge.address(), text);
    let part = ask("GET /app.js HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n").expect(206);
    assert_eq!(part.text(), "234");
    ask("POST /app.js HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect(405);
}

const HTML: Option<&str> = Some("text/html");

#[test]
fn redirects_fixed_answers_and_nothing() {
    let edge = Tidewire::run(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
path = "/old/*"
redirect = { to = "https://{host}/new{path}{query}", status = 301 }
[[route]]
path = "/gone"
respond = { status = 410, body = "gone for good" }
"#,
    );
    let answer = get(edge.address(), "/old/x?y=1").expect(301);
    assert_eq!(answer.headers.get("location"), Some("https://a.test/new/old/x?y=1"));
    let answer = get(edge.address(), "/gone").expect(410);
    assert_eq!(answer.text(), "gone for good");
    get(edge.address(), "/elsewhere").expect(404);
}

#[test]
fn routes_are_told_apart_by_host_path_header_and_protocol() {
    let edge = Tidewire::run(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
host = "*.chat.test"
respond = { status = 200, body = "host" }
[[route]]
path = "/{user}/files"
respond = { status = 200, body = "path" }
[[route]]
header = { X-Group = "beta" }
respond = { status = 200, body = "header" }
[[route]]
websocket = true
respond = { status = 200, body = "websocket" }
[[route]]
respond = { status = 200, body = "rest" }
"#,
    );
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nHost: EU.chat.test:80\r\n\r\n", "host"),
        ("GET /me/files?x HTTP/1.1\r\nHost: a\r\n\r\n", "path"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Group: beta\r\n\r\n", "header"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Group: alpha\r\n\r\n", "rest"),
        (&tidewire_testkit::websocket::handshake("/"), "websocket"),
    ] {
        assert_eq!(ask(edge.address(), text).text(), expected, "{text}");
    }
}
