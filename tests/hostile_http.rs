//! What is no request, or could be read as two: refused at the front door, before any server is
//! asked.

use std::sync::mpsc::channel;

use tidewire_testkit::deadline::DEADLINE;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;

/// A request that could be read in two ways is read in none; no server hears of it.
#[track_caller]
fn check_refused(text: &str, status: u16) {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send(text);
    let response = peer.response().expect(status);
    assert!(response.text().starts_with(&format!("{status} ")), "no reason: {response:?}");
    assert_eq!(response.headers.get("connection"), Some("close"));
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
    check_refused(&post("Transfer-Encoding: gzip\r\n"), 501);
    check_refused(&post("Transfer-Encoding: chunked, gzip\r\n"), 501);
    check_refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 501);
    check_refused(&post("Transfer-Encoding: gzip, chunked\r\n"), 501);
    check_refused(&post("Transfer-Encoding: xchunked\r\n"), 501);
    check_refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
    check_refused(&post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
    check_refused(&post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400);
    check_refused(&post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400);
    check_refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

/// What comes in one piece with the request that it is behind.
#[test]
fn a_request_behind_a_good_one_is_refused_behind_its_answer() {
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    for bad in [
        "GET /bad HTTP/1.1\nHost: a\n\n",
        "GET /bad HTTP/1.1\r\nHost : a\r\n\r\n",
        "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let rig = Rig::new(script::mirrors);
        let mut peer = rig.connect();
        peer.send(format!("{good}{good}{bad}{good}"));
        assert!(peer.response().expect(200).text().contains("GET /good"));
        assert!(peer.response().expect(200).text().contains("GET /good"));
        peer.response().expect(400);
        peer.expect_gone();
        let asked = rig.server.requests();
        assert!(asked.iter().all(|request| request.target == "/good"), "{asked:?}");
    }
}

#[test]
fn a_chunk_that_is_none_is_refused_and_its_server_gets_no_whole_body() {
    for chunk in ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "3\r\nabcdef", "3\nabc\n"] {
        let rig = Rig::new(script::mirrors);
        let mut peer = rig.connect();
        peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send("2\r\nok\r\n");
        rig.server.request();
        peer.send(chunk);
        peer.response().expect(400);
        peer.expect_gone();
        // A server that had got the end would have been asked for another request there.
        rig.answer("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
        assert_eq!(rig.server.accepted(), 2, "the connection of a broken request was used again");
    }
}

/// Nor when the client is just gone, or too slow.
#[test]
fn a_body_that_breaks_off_has_no_end_for_its_server() {
    let chunked =
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let ways: [fn(Peer); 4] = [
        |mut peer| peer.send("zz\r\n"),
        |mut peer| peer.finish(),
        |peer| peer.reset(),
        |mut peer| peer.expect_gone(),
    ];
    let early = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    for (number, break_off) in ways.into_iter().enumerate() {
        for answer in ["", early] {
            let (sender, heard) = channel();
            let rig = Rig::with(
                move |_, peer| {
                    let _ = sender.send(peer.take(7).len());
                    peer.send(answer);
                    let mut more = 0;
                    while let Ok(read @ 1..) = peer.wait() {
                        more += read;
                    }
                    let _ = sender.send(more);
                },
                "[timeout]\nclient = \"3s\"",
            );
            let mut peer = rig.connect();
            peer.send(chunked);
            let hear = || heard.recv_timeout(DEADLINE).expect("it is heard");
            assert_eq!(hear(), 7);
            if !answer.is_empty() {
                peer.take_until(b"x").expect("the answer has begun");
            }
            break_off(peer);
            assert_eq!(hear(), 0, "bytes more, way {number}, answer {answer:?}");
        }
    }
}

/// Nothing may look like an answer behind half of another one.
#[test]
fn a_chunk_that_is_none_ends_an_answer_that_has_begun() {
    let rig = Rig::new(|_: &Request, peer: &mut Peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789");
        peer.expect_gone();
    });
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(peer.response_head().status, 200);
    assert_eq!(peer.take(10), b"0123456789");
    peer.send("zz\r\n");
    peer.expect_gone();
    assert_eq!(peer.take_some(), b"");
}

#[test]
fn what_follows_a_handshake_that_failed_is_no_request() {
    let rig = Rig::new(script::declines_with_426);
    let mut peer = rig.connect();
    peer.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let response = peer.response().expect(426);
    assert_eq!(response.headers.get("connection"), Some("close"));
    peer.expect_gone();
    assert_eq!(rig.server.accepted(), 0);
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
    rig.answer("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    let said = rig.edge.child.stderr().join("\n");
    assert!(!said.contains("panicked"), "{said}");
}
