//! `Transfer-Encoding` and `TE`: what is not plainly `chunked` goes neither to a server nor to a
//! client.
//!
//! The cases are those of HAProxy's `http_transfer_encoding.vtc`. Where it repairs what has two
//! lengths, Tidewire refuses it; docs/conformance.md says why. The attacks are in `smuggling.rs` and
//! `hostile_servers.rs`.

use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;

/// A request that is refused with this status, on a connection that ends with it, and that no server
/// hears of.
#[track_caller]
fn check_refused(head: &str, status: u16) {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    peer.send(format!("{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    let answer = peer.response().expect(status);
    assert_eq!(answer.headers.get("connection"), Some("close"), "{head}");
    peer.expect_gone();
    assert_eq!(rig.server.accepted(), 0, "{head}: a server was asked");
}

#[test]
fn a_request_with_two_ends_or_another_coding_is_refused() {
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
    let coded = |coding: &str| post(&format!("Transfer-Encoding: {coding}"));
    check_refused(&post("Transfer-Encoding: chunked\r\nContent-Length: 31"), 400);
    check_refused("POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n", 400);
    check_refused(&coded("chunked, chunked"), 400);
    check_refused(&coded("chunked, gzip, chunked"), 501);
    check_refused(&coded("chunked, gzip"), 501);
    check_refused(&coded("gzip"), 501);
    check_refused(&coded("gzip, chunked"), 501);
}

/// What a client gets when its server answers so, and closes.
#[track_caller]
fn check_answer(head: &str, status: u16) {
    let answer = format!("{head}\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nX-Stray: 1\r\n\r\n");
    let rig = Rig::new(move |_, peer| {
        peer.send(&answer);
        peer.close();
    });
    let answer = rig.answer("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.status, status, "{head}");
    assert!(!answer.text().contains("X-Stray"), "{head}: {}", answer.text());
}

#[test]
fn an_answer_with_two_ends_or_another_coding_does_not_reach_the_client() {
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked", 200);
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked\r\nContent-Length: 30", 502);
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked, chunked", 502);
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked, gzip, chunked", 502);
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked, gzip", 502);
    check_answer("HTTP/1.1 200 Ok\r\nTransfer-Encoding: gzip", 502);
}

#[test]
fn a_client_that_takes_trailers_is_said_to_and_no_other_coding_is() {
    let rig = Rig::new(script::mirrors);
    let mut peer = rig.connect();
    let mut heard = |te: &str| {
        peer.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTE: {te}\r\n\r\n\
             0\r\n\r\n"
        ));
        peer.response().expect(200);
        let headers = rig.server.request().headers;
        assert_eq!(headers.all("transfer-encoding"), ["chunked"], "{te}");
        headers.get("te").map(str::to_owned)
    };
    assert_eq!(heard("trailers, gzip").as_deref(), Some("trailers"));
    assert_eq!(heard("gzip"), None);
    // It is a word of its own, which has no weight.
    assert_eq!(heard("trailers;q=0.5"), None);
}
