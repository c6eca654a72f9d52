//! What is a request, what is none, and that neither depends on where reads end.

use super::fault::FramingFault as Fault;
use super::*;

const LIMITS: HeadLimits = HeadLimits { request_line: 64, head: 256, headers: 8, header: 100 };

/// What came of a whole stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Requests that were begun.
    requests: u32,
    is_beyond: bool,
    fault: Option<Fault>,
}

fn outcome<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut follower = Follower::new(LIMITS);
    let mut fault = None;
    for piece in pieces {
        let followed = follower.follow(piece);
        assert!(followed.good <= piece.len());
        assert!(fault.is_none() || followed == Followed { good: 0, fault: None });
        fault = fault.or(followed.fault);
    }
    Outcome { requests: follower.request(), is_beyond: follower.is_beyond(), fault }
}

/// The outcome of a stream, which is the same wherever it is cut.
#[track_caller]
fn outcome_of(text: &str) -> Outcome {
    let whole = outcome([text.as_bytes()]);
    // A long one is long for the bounds alone.
    for cut in (1..text.len()).step_by(1 + text.len() / 400) {
        let (head, tail) = text.as_bytes().split_at(cut);
        assert_eq!(outcome([head, tail]), whole, "{text:?} cut at {cut}");
    }
    assert_eq!(outcome(text.as_bytes().chunks(1)), whole, "{text:?} by bytes");
    whole
}

#[track_caller]
fn check_good(text: &str, requests: u32) {
    assert_eq!(outcome_of(text), Outcome { requests, is_beyond: false, fault: None }, "{text:?}");
}

#[track_caller]
fn check_beyond(text: &str) {
    assert_eq!(outcome_of(text), Outcome { requests: 1, is_beyond: true, fault: None }, "{text:?}");
}

/// The fault is in the last request that is begun.
#[track_caller]
fn check(text: &str, requests: u32, fault: Fault) {
    let expected = Outcome { requests, is_beyond: false, fault: Some(fault) };
    assert_eq!(outcome_of(text), expected, "{text:?}");
}

#[track_caller]
fn check_head(head: &str, fault: Fault) {
    check(&format!("{head}\r\n\r\n"), 1, fault);
}

#[track_caller]
fn check_header(line: &str, fault: Fault) {
    check_head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n0\r\n\r\n"), fault);
}

#[track_caller]
fn check_chunks(chunks: &str, fault: Fault) {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&format!("{head}{chunks}\r\n\r\n"), 1, fault);
}

#[test]
fn requests_follow_each_other() {
    let get = "GET /a?b=|c HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t\u{fc} \r\n\r\n";
    let length = "POST / HTTP/1.1\r\nContent-Length: \t5 \r\n\r\nGET /";
    let chunks = "PUT / HTTP/1.1\r\ntransfer-Encoding: CHUNKED\r\n\r\n\
                  3;a=\"b\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
    let none = "DELETE / HTTP/1.0\r\nContent-Length: 0\r\nUpgrade: websocket\r\n\r\n";
    check_good(get, 1);
    check_good(&[get, length, chunks, none, get].concat(), 5);
    check_good(&["\r\n", get, "\r\n", get].concat(), 2);
    check_good("GET http://a.test:1/ HTTP/1.1\r\n\r\nGET HTTPS://a HTTP/1.1\r\n\r\n", 2);
    check_good("OPTIONS * HTTP/1.1\r\n\r\nM-SEARCH / HTTP/1.1\r\n\r\n", 2);
    check_good("GET / HTTP/1.1\r\nUpgrade: h2c, websocket2\r\nContent-Length: 1\r\n\r\n.", 1);
    check_good("GE", 1);
    check_good("\r", 0);
}

#[test]
fn behind_a_handshake_nothing_is_followed() {
    let with = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n\x16\0\n GET");
    check_beyond(&with("Upgrade: websocket"));
    check_beyond(&with("Upgrade: foo,\t WebSocket \t, bar\r\nUpgrade: h2c"));
    check_beyond(&with("Upgrade: websocket\r\nContent-Length: 0"));
    check_beyond("CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03");
    check_head("GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 1", Fault::BodyInHandshake);
    let chunked = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked";
    check_head(chunked, Fault::BodyInHandshake);
}

#[test]
fn a_request_line_is_three_words() {
    check_head("\x16\x03\x01", Fault::Tls);
    check_head("G\0T / HTTP/1.1", Fault::Method(0));
    check_head(" GET / HTTP/1.1", Fault::Method(b' '));
    check_head("GET\t/ HTTP/1.1", Fault::Method(b'\t'));
    check_head("GET", Fault::Method(b'\r'));
    check_head(&"G".repeat(25), Fault::MethodTooLong { max: 24 });
    check_head("GET  / HTTP/1.1", Fault::TargetForm(b' '));
    check_head("GET ?a HTTP/1.1", Fault::TargetForm(b'?'));
    check_head("GET a HTTP/1.1", Fault::Scheme);
    check_head("GET ftp://a/ HTTP/1.1", Fault::Scheme);
    check_head("GET http:/a HTTP/1.1", Fault::Scheme);
    check_head("GET http: //a HTTP/1.1", Fault::Scheme);
    check_head("GET *a HTTP/1.1", Fault::Scheme);
    check_head("GET /a#b HTTP/1.1", Fault::Fragment);
    check_head("GET /\u{fc} HTTP/1.1", Fault::Target(0xc3));
    check_head("GET /\x7f HTTP/1.1", Fault::Target(0x7f));
    check_head("GET /\ta HTTP/1.1", Fault::Target(b'\t'));
    for sign in ['<', '>', '`', '"'] {
        check_head(&format!("GET /{sign}a HTTP/1.1"), Fault::Target(sign as u8));
    }
    check_head("GET /", Fault::NoVersion);
    check_head("GET / ", Fault::NoVersion);
    check_head("GET *", Fault::NoVersion);
    check_head("GET /a b HTTP/1.1", Fault::NotHttp);
    check_head("GET / HTTP/1.1 ", Fault::NotHttp);
    check_head("GET / http/1.1", Fault::NotHttp);
    check_head("GET / HTTP/1.10", Fault::NotHttp);
    check_head("220 mail.test ESMTP", Fault::Scheme);
    check_head("PRI * HTTP/2.0", Fault::Version);
    check_head("GET / HTTP/1.2", Fault::Version);
    check_head("GET / HTTP/3", Fault::Version);
    check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1, Fault::EmptyLines);
    check("\nGET / HTTP/1.1\r\n\r\n", 1, Fault::BareLf);
}

#[test]
fn a_header_is_one_line_of_a_name_and_a_value() {
    check_header("X : 1", Fault::SpaceBeforeColon);
    check_header("X: 1\r\n folded", Fault::Folded);
    check_header(": 1", Fault::NameMissing);
    check_header("X", Fault::NoColon);
    check_header("X\0: 1", Fault::Name(0));
    check_header("X\u{ff}: 1", Fault::Name(0xc3));
    check_header("X\x0b: 1", Fault::Name(0x0b));
    check_header("X: a\0b", Fault::Value(0));
    check_header("X: a\x7fb", Fault::Value(0x7f));
    for other in ["b", " b", "\tb", "\rb", "\0b"] {
        check_header(&format!("X: a\r{other}"), Fault::BareCr);
        check_head(&format!("GET / HTTP/1.1\r{other}"), Fault::BareCr);
    }
    check_header("X: a\nb: c", Fault::BareLf);
    check("GET / HTTP/1.1\n\n", 1, Fault::BareLf);
    check("GET / HTTP/1.1\r\n\n", 1, Fault::BareLf);
    check("GET / HTTP/1.1\r\r\n", 1, Fault::BareCr);
    check_head("GET / HTTP/1.1\r\n X: 1", Fault::Folded);
}

#[test]
fn a_body_ends_where_one_header_says() {
    for wrong in ["", "+2", "-1", "0x2", "2Z", "1_0", "2,2", "2, 3", "2 2", ",", "\u{b2}"] {
        check_header(&format!("Content-Length: {wrong}"), Fault::LengthNotNumber);
    }
    check_header("Content-Length: 2\x0b", Fault::Value(0x0b));
    check_header(&format!("Content-Length: {}", "0".repeat(25)), Fault::LengthNotNumber);
    check_header("Content-Length: 9223372036854775808", Fault::LengthTooLarge);
    check_header("Content-Length: 99999999999999999999", Fault::LengthTooLarge);
    check_header("Content-Length: 2\r\nContent-Length: 2", Fault::LengthRepeated);
    let both = "Content-Length: 0\r\nTransfer-Encoding: chunked";
    check_header(both, Fault::LengthAndCoding);
    check_header("Transfer-Encoding: chunked\r\ncontent-length: 9", Fault::LengthAndCoding);
    for other in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "chunked;a"] {
        let fault = if other.contains(';') { Fault::CodingNotName } else { Fault::CodingUnknown };
        check_header(&format!("Transfer-Encoding: {other}"), fault);
    }
    for none in ["", ",chunked", "chunked,", "\"chunked\"", "chun\u{ff}ked"] {
        check_header(&format!("Transfer-Encoding: {none}"), Fault::CodingNotName);
    }
    check_header("Transfer-Encoding: chunked, chunked", Fault::CodingRepeated);
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    check_header(twice, Fault::CodingRepeated);
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked";
    check_head(old, Fault::CodingInHttp10);
}

#[test]
fn chunks_are_as_long_as_they_say() {
    for wrong in ["0x2", "+2", "-0", "_2", " 2", "g", ";a"] {
        let first = wrong.bytes().find(|byte| !byte.is_ascii_hexdigit()).unwrap();
        check_chunks(wrong, Fault::ChunkSize(first));
    }
    check_chunks("", Fault::ChunkSize(b'\r'));
    check_chunks("2 \r\nab", Fault::ChunkSize(b' '));
    check_chunks("FFFFFFFFFFFFFFFF2", Fault::ChunkSizeTooLong { max: 15 });
    check_chunks("2\nab", Fault::BareLf);
    check_chunks("2\rab", Fault::BareCr);
    check_chunks("2;a\nab", Fault::BareLf);
    check_chunks("2;a\rb\r\nab", Fault::BareCr);
    check_chunks("2;\0\r\nab", Fault::Extension(0));
    check_chunks(&format!("1;{}", "x".repeat(5000)), Fault::ExtensionsTooLong { max: 4096 });
    check_chunks(&"1;xxxxxxx\r\na\r\n".repeat(600), Fault::ExtensionsTooLong { max: 4096 });
    check_chunks("2\r\nabc", Fault::ChunkEnd);
    check_chunks("2\r\nab\n", Fault::ChunkEnd);
    check_chunks("0\r\nX : y", Fault::SpaceBeforeColon);
    check_chunks("0\r\nContent-Length: 5", Fault::TrailerFrames);
    check_chunks("0\r\nX: y\nZ: 1", Fault::BareLf);
    check_chunks(&format!("0\r\nX: {}", "x".repeat(100)), Fault::HeaderTooLarge { max: 100 });
    // Trailers have a head's bounds, all of them.
    let with_trailers = |count: usize| {
        let more = "X:\r\n".repeat(count);
        format!("POST / HTTP/1.1\r\n{more}Transfer-Encoding: chunked\r\n\r\n0\r\n{more}Y:\r\n")
    };
    check_good(&format!("{}\r\n", with_trailers(7)), 1);
    check_chunks(&format!("0\r\n{}", "X:\r\n".repeat(9)), Fault::TooManyHeaders { max: 8 });
    check_chunks(
        &format!("0\r\n{}", "X: 89012345678\r\n".repeat(17)),
        Fault::TooManyHeaders { max: 8 },
    );
    let long = format!("X: {}\r\n", "x".repeat(90)).repeat(3);
    check_chunks(&format!("0\r\n{long}"), Fault::HeadTooLarge { max: 256 });
}

#[test]
fn a_head_has_bounds() {
    let line = |bytes: usize| format!("GET /{} HTTP/1.1", "x".repeat(bytes - 14));
    check_good(&format!("{}\r\n\r\n", line(64)), 1);
    check_head(&line(65), Fault::LineTooLong { max: 64 });
    let header = |bytes: usize| format!("GET / HTTP/1.1\r\nX:{}", "x".repeat(bytes - 2));
    check_good(&format!("{}\r\n\r\n", header(100)), 1);
    check_head(&header(101), Fault::HeaderTooLarge { max: 100 });
    let name = format!("GET / HTTP/1.1\r\n{}", "x".repeat(101));
    check_head(&name, Fault::HeaderTooLarge { max: 100 });
    let many = |count: usize| format!("GET / HTTP/1.1\r\n{}", "X:\r\n".repeat(count));
    check_good(&format!("{}\r\n", many(8)), 1);
    check_head(&many(9), Fault::TooManyHeaders { max: 8 });
    let large = format!("GET / HTTP/1.1\r\n{}", format!("X:{}\r\n", "x".repeat(76)).repeat(3));
    check_good(&format!("{large}\r\n"), 1);
    check_head(&format!("{large}X:"), Fault::HeadTooLarge { max: 256 });
}

#[test]
fn what_came_before_the_request_with_the_fault_is_good() {
    let get = "GET / HTTP/1.1\r\n\r\n";
    let mut follower = Follower::new(LIMITS);
    let followed = follower.follow(format!("{get}{get}GET").as_bytes());
    assert_eq!(followed, Followed { good: 39, fault: None });
    assert_eq!(follower.follow(b" /\n"), Followed { good: 0, fault: Some(Fault::NoVersion) });
    let mut follower = Follower::new(LIMITS);
    let followed = follower.follow(format!("{get}POST / HTTP/1.1\r\nX : 1").as_bytes());
    assert_eq!(followed, Followed { good: 18, fault: Some(Fault::SpaceBeforeColon) });
    assert_eq!(follower.request(), 2);
}
