//! What is no request, or could be read as two: refused at the front door, before any server is
//! asked.

use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;

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
    rig.answer("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    let said = rig.edge.child.stderr().join("\n");
    assert!(!said.contains("panicked"), "{said}");
}
