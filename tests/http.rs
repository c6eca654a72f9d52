//! Plain HTTP through the edge, both ways: a web application behind it must not notice.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;

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
    let rig = Rig::with_one_worker(script::mirrors);
    for _ in 0..12 {
        rig.answer(GET).expect(200);
    }
    // One would be enough. One that is kept a moment later than the next client comes is another.
    let accepted = rig.server.accepted();
    assert!(accepted <= 4, "{accepted} connections for 12 requests");
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

/// Some servers make one list of head and trailers.
#[test]
fn what_belongs_into_a_head_does_not_come_in_trailers() {
    let rig = Rig::new(|request, peer| {
        let trailers = peer.body(&request.headers).trailers.0;
        script::answers(200, &format!("{trailers:?}"))(request, peer);
    });
    let answer = rig.answer(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\
         Trailer: Host, Authorization, Cookie, Origin, Content-Type, Keep-Alive, X-Sum\r\n\r\n0\r\n\
         Host: b.test\r\nAuthorization: Basic YTpi\r\nCookie: id=1\r\nOrigin: http://b.test\r\n\
         Content-Type: text/html\r\nKeep-Alive: 1\r\nX-Sum: 5\r\n\r\n",
    );
    assert_eq!(answer.expect(200).text(), r#"[("x-sum", "5")]"#);
}

#[test]
fn a_body_that_keeps_coming_is_waited_for() {
    let more = "[timeout]\nclient = \"4s\"\n[limits]\nmin_body_rate = \"0\"";
    let rig = Rig::with(script::mirrors, more);
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n");
    for byte in [b"a", b"b", b"c", b"d", b"e"] {
        std::thread::sleep(Duration::from_secs(1));
        peer.send(byte);
    }
    assert!(peer.response().expect(200).text().ends_with("\nabcde"));
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
        let _ = wait.recv_timeout(Duration::from_secs(60));
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
    let rig = Rig::with_one_worker(|_, peer| {
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        peer.send_until_stuck(&vec![b'x'; MIB], Duration::from_secs(5));
    });
    let stall = || {
        let mut peer = Peer::connect_with_buffer(rig.edge.address(), 16 << 10);
        peer.send(GET);
        peer.take(1000);
        std::thread::sleep(Duration::from_millis(100));
        peer
    };
    let first = stall();
    let before = rig.edge.child.memory();
    let others: Vec<Peer> = (0..12).map(|_| stall()).collect();
    let each = rig.edge.child.memory().saturating_sub(before) / others.len() as u64;
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
    for target in ["/a%2Fb/%C3%A4?x=%20&y=/../z", "/a;b/x", "/a//b", "/?", "/x?a=b?c"] {
        rig.answer(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect(200);
        assert_eq!(rig.server.request().target, target);
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host() {
    let rig = Rig::new(script::mirrors);
    rig.answer("GET http://b.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(400);
    rig.answer("GET http://b.test/x?y HTTP/1.1\r\nHost: B.test:80\r\n\r\n").expect(200);
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
