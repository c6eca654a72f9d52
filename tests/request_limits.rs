//! How large and how slow requests may be: told apart, said with a reason, and before a server is
//! bothered.

use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::{Request, Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};

/// An edge with keys of its listener and limits for its route.
struct Rig {
    server: Backend,
    edge: Tidewire,
}

impl Rig {
    #[track_caller]
    fn new(
        listener: &str,
        more: &str,
        script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let server = Backend::start(script);
        let bind = "bind = \"127.0.0.1:0\"\n";
        let config = edge(&[server.address()], more).replace(bind, &format!("{bind}{listener}\n"));
        // One worker, with one pool of connections.
        Self { server, edge: Tidewire::run(&format!("workers = 1\n{config}")) }
    }

    #[track_caller]
    fn answer(&self, text: &str) -> Response {
        ask(self.edge.address(), text)
    }

    /// The answer says what is too much, and no server has heard of it.
    #[track_caller]
    fn check(&self, text: &str, status: u16, says: &str) {
        let said = self.answer(text).expect(status).text();
        assert!(said.contains(says), "{said}");
        assert_eq!(self.server.accepted(), 0);
    }

    fn connect(&self) -> Peer {
        Peer::connect(self.edge.address())
    }
}

fn line(bytes: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - "GET / HTTP/1.1".len()))
}

fn header(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nCookie:{}\r\n\r\n", "x".repeat(bytes - "Cookie:".len()))
}

fn headers(count: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1))
}

#[test]
fn a_head_is_refused_for_the_part_that_is_too_large() {
    let rig = Rig::new("", "", script::mirrors);
    rig.check(&line(8193), 414, "the request line has more than 8192 bytes");
    rig.check(&header(8193), 431, "a header has more than 8192 bytes");
    rig.check(&headers(101), 431, "there are more than 100 headers");
    let large = header(8000).replace("\r\n\r\n", &format!("\r\nX: {}", "x".repeat(8000)));
    rig.check(&format!("{large}\r\nY: {}\r\n\r\n", "y".repeat(500)), 431, "the head has more than");
    for good in [line(8192), header(8192), headers(100)] {
        rig.answer(&good).expect(200);
    }
}

#[test]
fn a_listener_says_how_large_its_heads_may_be() {
    let http = "http = { max_request_line = \"300B\", max_head = \"40KiB\", max_headers = 3, \
                max_header = \"32KiB\" }";
    let rig = Rig::new(http, "", script::mirrors);
    rig.check(&line(301), 414, "300");
    rig.check(&headers(4), 431, "3 headers");
    rig.check(&header(32769), 431, "32768");
    // As large as tokens in cookies get.
    rig.answer(&header(32768)).expect(200);
}

/// A refusal is the answer, also to who has not sent the whole head, and the line in the log says
/// which.
#[test]
fn a_refused_head_is_one_line_in_the_log() {
    let mut rig = Rig::new("", "", script::mirrors);
    let mut peer = rig.connect();
    peer.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(9000)));
    peer.response().expect(431);
    peer.expect_end();
    drop(peer);
    let line = rig.edge.log_line(&["connection", "bad_request"]);
    assert!(line.contains("a header has more than 8192 bytes"), "{line}");
}

#[test]
fn a_body_over_the_limit_is_a_413_before_a_server_is_asked() {
    let rig = Rig::new("", "[limits]\nmax_body = \"10B\"\n", script::mirrors);
    let post = |bytes: usize| {
        let body = "x".repeat(bytes);
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}")
    };
    rig.check(&post(11), 413, "over 10 bytes");
    let expects =
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n";
    rig.check(expects, 413, "over 10 bytes");
    rig.answer(&post(10)).expect(200);
}

#[test]
fn a_chunked_body_over_the_limit_is_broken_off() {
    let rig = Rig::new("", "[limits]\nprofile = \"strict\"\nmax_body = \"10B\"\n", script::mirrors);
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer.send_chunk(b"12345");
    rig.server.request();
    peer.send_chunk(b"123456");
    let said = peer.response().expect(413).text();
    assert!(said.contains("over 10 bytes"), "{said}");
    peer.expect_gone();
    // Not by the connection whose request was broken off.
    rig.answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    assert_eq!(rig.server.accepted(), 2);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    rig.answer(&format!("{chunked}a\r\n1234567890\r\n0\r\n\r\n")).expect(200);
}

#[test]
fn a_route_takes_more_than_the_others() {
    let more = "[limits]\nmax_body = \"10B\"\n";
    let server = Backend::start(script::mirrors);
    let config = edge(&[server.address()], more).replace(
        "[[route]]\n",
        "[[route]]\npath = \"/upload\"\nbackend = \"nodes\"\nlimits = { max_body = \"0\" }\n\n[[route]]\n",
    );
    let edge = Tidewire::run(&config);
    let post = |path: &str| {
        let body = "x".repeat(2000);
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{body}")
    };
    ask(edge.address(), &post("/upload")).expect(200);
    ask(edge.address(), &post("/")).expect(413);
}

#[test]
fn a_body_that_drips_holds_its_server_for_a_bounded_time() {
    let more = "[timeout]\nclient = \"1s\"\n\n[limits]\nmin_body_rate = \"100B\"\n";
    let rig = Rig::new("", more, script::mirrors);
    let mut peer = rig.connect();
    let begun = Instant::now();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    // Never silent for a timeout.
    let mut drips = peer.another();
    let dripping = std::thread::spawn(move || {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(200));
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drips.send("x"))).is_err() {
                return;
            }
        }
    });
    peer.response().expect(408);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    peer.expect_gone();
    dripping.join().expect("it drips until it cannot");
}

/// Its server has answered while the body was coming.
#[test]
fn an_early_answer_is_passed_on_and_its_connection_is_not_used_again() {
    let rig = Rig::new("", "", |request, peer| {
        script::answers(200, "early")(request, peer);
        if request.method == "POST" {
            peer.expect_gone();
        }
    });
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n12345");
    assert_eq!(peer.response().expect(200).text(), "early");
    for _ in 0..3 {
        rig.answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    }
    assert_eq!(rig.server.accepted(), 2);
}

#[test]
fn a_body_that_does_not_go_on_behind_its_answer_gets_no_second_one() {
    let more = "[timeout]\nclient = \"30s\"\nhttp-request = \"3s\"\nhttp-keep-alive = \"3s\"\n";
    let rig = Rig::new("", more, |request, peer| {
        script::answers(200, "early")(request, peer);
        peer.expect_gone();
    });
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun");
    assert_eq!(peer.response().expect(200).text(), "early");
    peer.send(" and going on");
    peer.expect_end();
}
