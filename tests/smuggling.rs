//! Request smuggling: whatever bytes a client sends, no server reads a request in them that the
//! edge has not read, and nobody else's answer is touched.
//!
//! Each row of the tables is sent whole, byte by byte, and cut at several places, through an edge
//! whose one server doubts everything. A request for the client's connection to end stands behind
//! each, so that a length which is taken for another one has something to swallow.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tidewire_testkit::attack::{Delivery, Outcome, strike};
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::witness::Witness;

/// What is tried: its name, its bytes, and the statuses that its first answer may have.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    expected: &'static [u16],
}

const REFUSED: &[u16] = &[400];
const TOO_LARGE: &[u16] = &[431];
const CODING: &[u16] = &[400, 501];
/// Nothing is wrong, or what is wrong does not go further.
const SERVED: &[u16] = &[200];
/// As it pleases the edge, as long as nobody is deceived.
const EITHER: &[u16] = &[200, 400];
/// Not one byte of an answer is needed: it is no HTTP.
const NO_HTTP: &[u16] = &[0, 400, 505];

/// The request that stands behind every row.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
/// What an attacker would have a server read. It is in a body, or in what is no request.
const MARKER: &str = "/smuggled";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn row(name: &'static str, bytes: impl AsRef<[u8]>, expected: &'static [u16]) -> Row {
    Row { name, bytes: bytes.as_ref().to_vec(), expected }
}

/// A POST with these lines and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST /row HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n{body}")
}

/// A GET with these lines.
fn get(lines: &str) -> String {
    format!("GET /row HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

/// A POST whose chunks are these bytes.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// The body that is over for who reads chunks, and holds a request for who goes by a length.
fn both() -> String {
    format!("0\r\n\r\n{SMUGGLED}")
}

#[test]
fn a_body_has_one_length() {
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "ab");
    try_all(vec![
        row("a length, as it should be", length("2"), SERVED),
        row("a GET with a length", get("Content-Length: 0\r\n"), SERVED),
        row("two lengths", post("Content-Length: 2\r\nContent-Length: 44\r\n", SMUGGLED), REFUSED),
        row(
            "the same length twice",
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"),
            REFUSED,
        ),
        row(
            "two lengths in other case",
            post("Content-Length: 2\r\ncontent-length: 0\r\n", "ab"),
            REFUSED,
        ),
        row(
            "two lengths apart",
            post("Content-Length: 0\r\nX: 1\r\nContent-Length: 44\r\n", SMUGGLED),
            REFUSED,
        ),
        row("a list of the same length", length("2, 2"), REFUSED),
        row("a list of two lengths", length("2, 3"), REFUSED),
        row("a list with an empty end", length("2,"), REFUSED),
        row("a list with an empty beginning", length(",2"), REFUSED),
        row("a length with a plus", length("+2"), REFUSED),
        row("a length with a minus", length("-2"), REFUSED),
        row("a length of minus nothing", length("-0"), REFUSED),
        row("a length in hexadecimal", length("0x2"), REFUSED),
        row("a length with an underscore", length("1_0"), REFUSED),
        row("a length with a letter", length("2Z"), REFUSED),
        row("a length with a fraction", length("2.0"), REFUSED),
        row("a length with an exponent", length("2e0"), REFUSED),
        row("a length in quotes", length("\"2\""), REFUSED),
        row("a length and a comment", length("2 ;x"), REFUSED),
        row("a length with a space inside", length("1 0"), REFUSED),
        row("a length of nothing", length(""), REFUSED),
        row("a length of a space", length("   "), REFUSED),
        row("a length behind a vertical tab", length("\x0b2"), REFUSED),
        row("a length before a form feed", length("2\x0c"), REFUSED),
        row("a length behind a NUL", length("\x002"), REFUSED),
        row("a length with zeros before", length("0002"), EITHER),
        row("a length of 2^63", length("9223372036854775808"), &[400, 413]),
        row("a length of 2^64 and two", length("18446744073709551618"), &[400, 413]),
        row("a length of 40 digits", length(&"9".repeat(40)), &[400, 413]),
        row("a length in wide digits", length("\u{ff12}"), REFUSED),
        row("a length in another encoding", post("Content-Length: \u{b2}\r\n", "ab"), REFUSED),
    ]);
}

#[test]
fn a_body_has_a_length_or_chunks_and_not_both() {
    let te = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), &both());
    let with_length = |lines: &str| post(&format!("Content-Length: 5\r\n{lines}\r\n"), &both());
    let mut rows = vec![
        row("chunks, as they should be", chunked("2\r\nab\r\n0\r\n\r\n"), SERVED),
        row("chunks in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"), SERVED),
        row("CL.TE", with_length("Transfer-Encoding: chunked"), REFUSED),
        row("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &both()), REFUSED),
        row("CL.TE with no length", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", &both()), REFUSED),
        row("CL.TE, its length that of all", post("Content-Length: 49\r\nTransfer-Encoding: chunked\r\n", &both()), REFUSED),
        row("TE.CL on a GET", get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + &both(), REFUSED),
        row("CL.TE with identity", post("Content-Length: 2\r\nTransfer-Encoding: identity\r\n", "ab"), CODING),
        row("the coding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &both()), CODING),
        row("the coding and identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &both()), CODING),
        row("the coding and another one", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", &both()), CODING),
        row("another coding and the coding", post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", &both()), CODING),
        row("the coding nominated away", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), EITHER),
        row("the length nominated away", post("Connection: Content-Length\r\nContent-Length: 44\r\n", SMUGGLED), EITHER),
        row("Host nominated away", get("Connection: Host\r\n"), EITHER),
        row("an alias of the coding", post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), EITHER),
        row("an alias of the coding with a dot", post("Transfer.Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), EITHER),
        row("an alias of the length", post("Content_Length: 44\r\nContent-Length: 2\r\n", "ab"), EITHER),
        row("chunks in HTTP/1.0", "POST /row HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &both(), REFUSED),
        row("chunks in HTTP/1.0, kept alive", "POST /row HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &both(), REFUSED),
        row("chunks in HTTP/1.0 with a length", "POST /row HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &both(), REFUSED),
        row("a body in HTTP/1.0 with no length", "POST /row HTTP/1.0\r\nHost: a.test\r\n\r\n".to_owned() + SMUGGLED, EITHER),
    ];
    for (name, value) in [
        ("the coding behind gzip", "gzip, chunked"),
        ("the coding before gzip", "chunked, gzip"),
        ("the coding in a list twice", "chunked, chunked"),
        ("the coding behind nothing", ", chunked"),
        ("the coding before nothing", "chunked,"),
        ("the coding behind a comma", ",chunked"),
        ("the coding with a letter before", "xchunked"),
        ("the coding with a letter behind", "chunkedx"),
        ("the coding in quotes", "\"chunked\""),
        ("the coding in single quotes", "'chunked'"),
        ("the coding and a parameter", "chunked;q=1"),
        ("the coding and a word", "chunked foo"),
        ("the coding and identity in a list", "identity, chunked"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("no coding", ""),
        ("half of the coding", "chunk"),
        ("the coding behind a vertical tab", "\x0bchunked"),
        ("the coding before a vertical tab", "chunked\x0b"),
        ("the coding behind a form feed", "\x0cchunked"),
        ("the coding before a NUL", "chunked\0"),
        ("the coding with a backspace", "chunkedd\x08"),
        ("the coding behind a hard space", "\u{a0}chunked"),
        ("the coding in wide letters", "\u{ff43}hunked"),
        ("the coding with a long s", "chun\u{212a}ed"),
        ("the coding behind a bare CR", "x\rTransfer-Encoding: chunked"),
    ] {
        rows.push(row(name, te(value), CODING));
    }
    rows.push(row(
        "the coding behind 0xff",
        raw(b"Transfer-Encoding: \xffchunked\r\n", &both()),
        CODING,
    ));
    rows.push(row(
        "the coding before 0xff",
        raw(b"Transfer-Encoding: chunked\xff\r\n", &both()),
        CODING,
    ));
    try_all(rows);
}

/// As [`post`], with lines that are not UTF-8.
fn raw(lines: &[u8], body: &str) -> Vec<u8> {
    [b"POST /row HTTP/1.1\r\nHost: a.test\r\n", lines, b"\r\n", body.as_bytes()].concat()
}

#[test]
fn a_line_of_a_head_is_read_in_one_way() {
    let coding = |line: &str| post(&format!("{line}\r\nContent-Length: 5\r\n"), &both());
    let long = |length: usize| {
        get(&format!("Content-Length0{}: 0\r\nContent-Length: 0\r\n", "x".repeat(length - 15)))
    };
    let mut rows = vec![
        row("a space before the colon", coding("Transfer-Encoding : chunked"), REFUSED),
        row("a tab before the colon", coding("Transfer-Encoding\t: chunked"), REFUSED),
        row("a vertical tab before the colon", coding("Transfer-Encoding\x0b: chunked"), REFUSED),
        row("a NUL before the colon", coding("Transfer-Encoding\0: chunked"), REFUSED),
        row("a CR before the colon", coding("Transfer-Encoding\r: chunked"), REFUSED),
        row("a space before the name", coding(" Transfer-Encoding: chunked"), REFUSED),
        row("a tab before the name", coding("\tTransfer-Encoding: chunked"), REFUSED),
        row("a space inside the name", coding("Transfer Encoding: chunked"), REFUSED),
        row("a colon before the name", coding(":Transfer-Encoding: chunked"), REFUSED),
        row("a name in brackets", coding("[Transfer-Encoding]: chunked"), REFUSED),
        row("a name in quotes", coding("\"Transfer-Encoding\": chunked"), REFUSED),
        row("a name with a slash", coding("Transfer/Encoding: chunked"), REFUSED),
        row("a name beyond ASCII", coding("Transfer\u{2010}Encoding: chunked"), REFUSED),
        row(
            "a space before the first name",
            "POST /row HTTP/1.1\r\n Host: a.test\r\nContent-Length: 2\r\n\r\nab",
            REFUSED,
        ),
        row("a space before the second Host", get(" Host: b.test\r\n"), REFUSED),
        row("a folded value", coding("Transfer-Encoding:\r\n chunked"), REFUSED),
        row("a value folded with a tab", coding("Transfer-Encoding:\r\n\tchunked"), REFUSED),
        row("a folded length", post("Content-Length:\r\n 2\r\n", "ab"), REFUSED),
        row("a folded line of nothing", get("X: 1\r\n \r\n"), REFUSED),
        row("an empty name", get(": x\r\n"), REFUSED),
        row("an empty name before the length", post(": x\r\nContent-Length: 2\r\n", "ab"), REFUSED),
        row("no colon", get("NoColon\r\n"), REFUSED),
        row("no colon but a request", get("GET /smuggled HTTP/1.1\r\n"), REFUSED),
        row("a line of a colon", get(":\r\n"), REFUSED),
        row("a NUL in a value", get("X: a\0b\r\n"), REFUSED),
        row("a DEL in a value", get("X: a\x7fb\r\n"), REFUSED),
        row("an ESC in a value", get("X: a\x1b[31mb\r\n"), REFUSED),
        row("a bell in a name", get("X\x07: a\r\n"), REFUSED),
        row("a bare CR in a value", get("X: a\rb\r\n"), REFUSED),
        row(
            "a bare CR and a line in a value",
            get("X: a\rTransfer-Encoding: chunked\r\n") + &both(),
            REFUSED,
        ),
        row("a bare CR at the end of a value", get("X: a\r\r\n"), REFUSED),
        row(
            "a bare CR for the empty line",
            "GET /row HTTP/1.1\r\nHost: a.test\r\n\r".to_owned() + SMUGGLED,
            REFUSED,
        ),
        row("bare CRs for line ends", "GET /row HTTP/1.1\rHost: a.test\r\r", REFUSED),
        row("bare LFs for line ends", "GET /row HTTP/1.1\nHost: a.test\n\n", REFUSED),
        row(
            "a bare LF behind the request line",
            "GET /row HTTP/1.1\nHost: a.test\r\n\r\n",
            REFUSED,
        ),
        row("a bare LF behind a field", get("X: a\nY: b\r\n"), REFUSED),
        row(
            "a bare LF before the coding",
            post("X: a\nTransfer-Encoding: chunked\r\n", &both()),
            REFUSED,
        ),
        row(
            "a bare LF for the empty line",
            "GET /row HTTP/1.1\r\nHost: a.test\r\n\n".to_owned() + SMUGGLED,
            REFUSED,
        ),
        row("LF CR for a line end", get("X: a\n\rY: b\r\n"), REFUSED),
        row("CR CR LF for a line end", get("X: a\r\r\nY: b\r\n"), REFUSED),
        row("a value beyond ASCII", get("X: \u{e4}\r\n"), EITHER),
        row("a name of 255 bytes", long(255), EITHER),
        row("a name of 256 bytes", long(256), EITHER),
        row("a name of 270 bytes", long(270), EITHER),
        row("a name of 300 bytes", long(300), EITHER),
        row("a name of 1,000 bytes", long(1_000), EITHER),
        row("a name of 65,536 bytes", long(65_536), TOO_LARGE),
        row(
            "a name of 270 bytes with the length inside",
            get(&format!("Content-Length{}: 0\r\nContent-Length: 44\r\n", "a".repeat(256)))
                + SMUGGLED,
            EITHER,
        ),
        row("a value of 65,536 bytes", get(&format!("X: {}\r\n", "x".repeat(65_536))), TOO_LARGE),
        row("a thousand fields", get(&"X: 1\r\n".repeat(1_000)), TOO_LARGE),
    ];
    rows.push(row(
        "0xff before the colon",
        raw(b"Transfer-Encoding\xff: chunked\r\nContent-Length: 5\r\n", &both()),
        REFUSED,
    ));
    try_all(rows);
}

#[test]
fn a_request_line_is_read_in_one_way() {
    let line = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    let host = |lines: &str| format!("GET /row HTTP/1.1\r\n{lines}\r\n");
    let mut rows = vec![
        row("a line end before the request", format!("\r\n{}", get("")), EITHER),
        row("line ends before the request", format!("\r\n\r\n\r\n{}", get("")), EITHER),
        row("a bare LF before the request", format!("\n{}", get("")), EITHER),
        row("a bare CR before the request", format!("\r{}", get("")), REFUSED),
        row("a NUL before the request", format!("\0{}", get("")), REFUSED),
        row("a space before the request", format!(" {}", get("")), REFUSED),
        row("two spaces behind the method", line("GET  /row HTTP/1.1"), REFUSED),
        row("a tab behind the method", line("GET\t/row HTTP/1.1"), REFUSED),
        row("two spaces before the version", line("GET /row  HTTP/1.1"), REFUSED),
        row("a tab before the version", line("GET /row\tHTTP/1.1"), REFUSED),
        row("a space behind the version", line("GET /row HTTP/1.1 "), REFUSED),
        row("a space in the target", line("GET /a /smuggled HTTP/1.1"), REFUSED),
        row("a target that ends the request", line("GET /row HTTP/1.1 HTTP/1.1"), REFUSED),
        row("a vertical tab in the target", line("GET /a\x0bb HTTP/1.1"), REFUSED),
        row("a NUL in the target", line("GET /a\0b HTTP/1.1"), REFUSED),
        row("a DEL in the target", line("GET /a\x7fb HTTP/1.1"), REFUSED),
        row("a fragment", line("GET /row#/smuggled HTTP/1.1"), REFUSED),
        row("a fragment behind the query", line("GET /row?a#b HTTP/1.1"), REFUSED),
        row("a fragment alone", line("GET # HTTP/1.1"), REFUSED),
        row("a target without its slash", line("GET row HTTP/1.1"), REFUSED),
        row("a target of a query", line("GET ?row HTTP/1.1"), REFUSED),
        row("a target of a star", line("GET * HTTP/1.1"), REFUSED),
        row("a target of a host", line("GET a.test HTTP/1.1"), REFUSED),
        row("a target of a host and a port", line("GET a.test:80 HTTP/1.1"), REFUSED),
        row("a target with quotes", line("GET /\"<x>\" HTTP/1.1"), EITHER),
        row("a target beyond ASCII", line("GET /\u{e4} HTTP/1.1"), REFUSED),
        row("a target of another scheme", line("GET ftp://a.test/row HTTP/1.1"), REFUSED),
        row("a target of a script", line("GET javascript://a.test/%0aalert(1) HTTP/1.1"), REFUSED),
        row("a target with a user", line("GET http://u@a.test/row HTTP/1.1"), REFUSED),
        row("a target of no host", line("GET http:///row HTTP/1.1"), REFUSED),
        row("a target of a port", line("GET http://:80/row HTTP/1.1"), REFUSED),
        row("absolute form of the same host", line("GET http://a.test/row HTTP/1.1"), EITHER),
        row("absolute form of another host", line("GET http://b.test/row HTTP/1.1"), REFUSED),
        row("absolute form of another port", line("GET http://a.test:81/row HTTP/1.1"), REFUSED),
        row("a method of other characters", line("GE(T) /row HTTP/1.1"), REFUSED),
        row("a method of quotes", line("\"GET\" /row HTTP/1.1"), REFUSED),
        row("no method", line(" /row HTTP/1.1"), REFUSED),
        row("a method of a NUL", line("GET\0 /row HTTP/1.1"), REFUSED),
        row("a method beyond ASCII", line("G\u{c9}T /row HTTP/1.1"), REFUSED),
        row(
            "a method of a thousand letters",
            line(&format!("{} /row HTTP/1.1", "G".repeat(1_000))),
            &[200, 400, 431, 501],
        ),
        row("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", &[400, 405, 501]),
        row(
            "CONNECT with a length",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 44\r\n\r\n"
                .to_owned()
                + SMUGGLED,
            &[400, 405, 501],
        ),
        row("CONNECT to a path", "CONNECT /row HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400, 405, 501]),
        row("HTTP/1.2", line("GET /row HTTP/1.2"), &[400, 505]),
        row("HTTP/2.0", line("GET /row HTTP/2.0"), &[400, 505]),
        row("HTTP/3", line("GET /row HTTP/3"), &[400, 505]),
        row("HTTP/0.9 with its version", line("GET /row HTTP/0.9"), &[400, 505]),
        row("HTTP/1.1 in small letters", line("GET /row http/1.1"), REFUSED),
        row("HTTP/01.1", line("GET /row HTTP/01.1"), REFUSED),
        row("HTTP/1.10", line("GET /row HTTP/1.10"), REFUSED),
        row("HTTP/1", line("GET /row HTTP/1"), &[400, 505]),
        row("HTTP/+1.1", line("GET /row HTTP/+1.1"), REFUSED),
        row("HTTPS/1.1", line("GET /row HTTPS/1.1"), REFUSED),
        row("HTTP/0.9", "GET /row\r\n", NO_HTTP),
        row("HTTP/0.9 and fields", "GET /row\r\nHost: a.test\r\n\r\n", NO_HTTP),
        row("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO_HTTP),
        row("another protocol", "220 mail.test ESMTP\r\n\r\n", NO_HTTP),
        row("an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NO_HTTP),
        row(
            "a target of 40,000 bytes",
            line(&format!("GET /{} HTTP/1.1", "a".repeat(40_000))),
            &[414, 431],
        ),
        row(
            "a target of 70,000 bytes",
            line(&format!("GET /{} HTTP/1.1", "a".repeat(70_000))),
            &[414, 431],
        ),
    ];
    for (name, lines) in [
        ("no Host", ""),
        ("two Hosts", "Host: a.test\r\nHost: b.test\r\n"),
        ("the same Host twice", "Host: a.test\r\nHost: a.test\r\n"),
        ("a list of Hosts", "Host: a.test, b.test\r\n"),
        ("a Host with a space", "Host: a.test b.test\r\n"),
        ("a Host with a path", "Host: a.test/smuggled\r\n"),
        ("a Host with a user", "Host: u@a.test\r\n"),
        ("a Host with a fragment", "Host: a.test#x\r\n"),
        ("a Host with a query", "Host: a.test?x\r\n"),
        ("a Host with a backslash", "Host: a.test\\x\r\n"),
        ("a Host with a scheme", "Host: http://a.test\r\n"),
        ("a Host with a tab", "Host: a\ttest\r\n"),
        ("a Host with a quote", "Host: a.test\"\r\n"),
        ("a Host with a NUL", "Host: a.test\0\r\n"),
    ] {
        rows.push(row(name, host(lines), REFUSED));
    }
    for (name, lines) in [
        ("an alias of Host", "Host: a.test\r\nHost_: b.test\r\n"),
        ("no Host but an alias", "Host: a.test\r\nX-Host: b.test\r\nX_Forwarded_Host: c.test\r\n"),
        ("a Host in capitals", "HOST: A.TEST\r\n"),
        ("an empty Host", "Host:\r\n"),
        ("a Host with a port that is none", "Host: a.test:x\r\n"),
        ("a Host with a port that is too large", "Host: a.test:65536\r\n"),
    ] {
        rows.push(row(name, host(lines), EITHER));
    }
    try_all(rows);
}

#[test]
fn a_chunk_is_read_in_one_way() {
    let mut rows = vec![
        row("chunks and trailers", chunked("2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"), SERVED),
        row("a size in capitals with zeros", chunked("000A\r\n0123456789\r\n0\r\n\r\n"), EITHER),
        row("an extension", chunked("2;a=b\r\nab\r\n0\r\n\r\n"), EITHER),
        row("an extension in quotes", chunked("2;a=\"b\"\r\nab\r\n0\r\n\r\n"), EITHER),
        row("an extension of the last chunk", chunked("2\r\nab\r\n0;a\r\n\r\n"), EITHER),
        row(
            "a GET in chunks",
            get("Transfer-Encoding: chunked\r\n") + "2\r\nab\r\n0\r\n\r\n",
            EITHER,
        ),
        row(
            "trailers that frame",
            chunked("0\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n"),
            EITHER,
        ),
        row(
            "trailers that say who the client is",
            chunked(
                "0\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_Ip: 6.6.6.6\r\nForwarded: for=6\r\n\r\n",
            ),
            EITHER,
        ),
    ];
    for (name, body) in [
        ("a size in hexadecimal", "0x2\r\nab\r\n0\r\n\r\n"),
        ("a size with a plus", "+2\r\nab\r\n0\r\n\r\n"),
        ("a size with a minus", "-2\r\nab\r\n0\r\n\r\n"),
        ("a size of minus nothing", "-0\r\n\r\n"),
        ("a size with an underscore", "0_2\r\nab\r\n0\r\n\r\n"),
        ("a size of no digits", "\r\nab\r\n0\r\n\r\n"),
        ("a size of only an extension", ";a\r\nab\r\n0\r\n\r\n"),
        ("a size of 17 digits", "FFFFFFFFFFFFFFFF2\r\nab\r\n0\r\n\r\n"),
        ("a size that overflows to two", "10000000000000002\r\nab\r\n0\r\n\r\n"),
        ("a size of 2^64-1", "ffffffffffffffff\r\nab\r\n0\r\n\r\n"),
        ("a size of 2^63", "8000000000000000\r\nab\r\n0\r\n\r\n"),
        ("a size with a letter", "2g\r\nab\r\n0\r\n\r\n"),
        ("a size with a space before", " 2\r\nab\r\n0\r\n\r\n"),
        ("a size with a tab before", "\t2\r\nab\r\n0\r\n\r\n"),
        ("a size with a space inside", "0 2\r\nab\r\n0\r\n\r\n"),
        ("a size with a NUL", "2\0\r\nab\r\n0\r\n\r\n"),
        ("a size with a vertical tab", "2\x0b\r\nab\r\n0\r\n\r\n"),
        ("a size in quotes", "\"2\"\r\nab\r\n0\r\n\r\n"),
        ("a size before a bare LF", "2\nab\r\n0\r\n\r\n"),
        ("a size before a bare CR", "2\rab\r\n0\r\n\r\n"),
        ("a size before CR CR LF", "2\r\r\nab\r\n0\r\n\r\n"),
        ("a chunk before a bare LF", "2\r\nab\n0\r\n\r\n"),
        ("a chunk before a bare CR", "2\r\nab\r0\r\n\r\n"),
        ("a chunk before LF CR", "2\r\nab\n\r0\r\n\r\n"),
        ("a chunk before other bytes", "2\r\nabXX0\r\n\r\n"),
        ("a chunk that is longer than it says", "2\r\nabc\r\n0\r\n\r\n"),
        ("a chunk that is shorter than it says", "5\r\nab\r\n0\r\n\r\n"),
        ("a chunk without its line end", "2\r\nab0\r\n\r\n"),
        ("no last empty line but a bare LF", "0\r\n\n"),
        ("the last chunk before a bare LF", "0\n\r\n"),
        ("the last chunk before bare LFs", "0\n\n"),
        ("a bare LF in an extension", "2;a\nb\r\nab\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "2;a\rb\r\nab\r\n0\r\n\r\n"),
        ("a NUL in an extension", "2;a\0b\r\nab\r\n0\r\n\r\n"),
        ("an extension that hides a chunk", "2;\nxx\r\n0\r\n\r\n"),
        ("a folded trailer", "0\r\nX: 1\r\n 2\r\n\r\n"),
        ("a trailer with a space before its colon", "0\r\nX : 1\r\n\r\n"),
        ("a trailer without a colon", "0\r\nNoColon\r\n\r\n"),
        ("a trailer before a bare LF", "0\r\nX: 1\n\r\n"),
        ("a trailer with a NUL", "0\r\nX: a\0b\r\n\r\n"),
        ("a request for a trailer", "0\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ] {
        rows.push(row(name, chunked(body), ABORTED));
    }
    rows.push(row(
        "an extension of 20,000 bytes",
        chunked(&format!("2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(20_000))),
        ABORTED,
    ));
    rows.push(row(
        "trailers of 70,000 bytes",
        chunked(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(70_000))),
        ABORTED,
    ));
    rows.push(row(
        "a thousand trailers",
        chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(1_000))),
        ABORTED,
    ));
    try_all(rows);
}

/// A body that breaks off may have been passed on in part: the server never had all of it.
const ABORTED: &[u16] = &[400, 408, 413, 431];

#[test]
fn what_is_asked_around_a_request_stays_with_it() {
    let body = "Content-Length: 2\r\n";
    try_all(vec![
        row("Expect that is met", post(&format!("Expect: 100-continue\r\n{body}"), "ab"), SERVED),
        row(
            "Expect twice",
            post(&format!("Expect: 100-continue\r\nExpect: 100-continue\r\n{body}"), "ab"),
            &[200, 400, 417],
        ),
        row(
            "Expect of something else",
            post(&format!("Expect: 200-ok\r\n{body}"), "ab"),
            &[200, 400, 417],
        ),
        row(
            "Expect with an odd end",
            post(&format!("Expect: 100-continue\x0b\r\n{body}"), "ab"),
            REFUSED,
        ),
        row("Expect without a body", get("Expect: 100-continue\r\n"), EITHER),
        row(
            "Expect and chunks",
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"),
            SERVED,
        ),
        row("a GET with a body", get("Content-Length: 44\r\n") + SMUGGLED, EITHER),
        row(
            "a DELETE with a body",
            format!("DELETE /row HTTP/1.1\r\nHost: a.test\r\nContent-Length: 44\r\n\r\n{SMUGGLED}"),
            EITHER,
        ),
        row(
            "a TRACE with a body",
            format!("TRACE /row HTTP/1.1\r\nHost: a.test\r\nContent-Length: 44\r\n\r\n{SMUGGLED}"),
            &[200, 400, 405],
        ),
        row(
            "an OPTIONS with a body",
            format!(
                "OPTIONS /row HTTP/1.1\r\nHost: a.test\r\nContent-Length: 44\r\n\r\n{SMUGGLED}"
            ),
            EITHER,
        ),
        row("an OPTIONS of all", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", &[200, 400, 404]),
        row(
            "a method to override",
            post(&format!("X-HTTP-Method-Override: GET\r\n{body}"), "ab"),
            SERVED,
        ),
        row(
            "h2c",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            ),
            SERVED,
        ),
        row(
            "h2c that nobody nominates",
            get("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
            SERVED,
        ),
        row(
            "h2c among others",
            get("Connection: Upgrade\r\nUpgrade: foo, h2c\r\nUpgrade: h2\r\n"),
            SERVED,
        ),
        row(
            "h2c with a body",
            post(&format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{body}"), "ab"),
            EITHER,
        ),
        row("an upgrade to TLS", get("Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"), SERVED),
        row(
            "headers of other hops",
            get(
                "Keep-Alive: 300\r\nProxy-Connection: keep-alive\r\nProxy: http://6.6.6.6\r\nTE: gzip\r\n",
            ),
            SERVED,
        ),
        row(
            "claims nominated away",
            get("Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded\r\n"),
            SERVED,
        ),
        row(
            "a Connection that is no list of names",
            get("Connection: \"x\", @, close\r\n"),
            EITHER,
        ),
        row("close and keep-alive", get("Connection: close, keep-alive\r\n"), EITHER),
        row("bytes behind a request that ends", get("Connection: close\r\n") + SMUGGLED, SERVED),
        row(
            "bytes behind one of HTTP/1.0",
            format!("GET /row HTTP/1.0\r\nHost: a.test\r\n\r\n{SMUGGLED}"),
            SERVED,
        ),
    ]);
}

#[test]
fn what_is_behind_a_request_is_the_next_one_or_nothing() {
    let lane = Lane::start(PATIENT);
    let twice = [get(""), get(""), get("")].concat();
    let outcome = strike(
        lane.edge.address(),
        &[twice.as_bytes(), LAST].concat(),
        Delivery::Split(1),
        PATIENCE,
    );
    assert_eq!(outcome.statuses(), [200; 4]);
    let number = |index: usize| outcome.answers[index].headers.get("x-number").unwrap();
    let numbers: Vec<usize> = (0..4).map(|index| number(index).parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "each has its own, in order: {numbers:?}");
    // A body that is longer than it says is a request that is none.
    let outcome = strike(
        lane.edge.address(),
        post("Content-Length: 1\r\n", "ab").as_bytes(),
        Delivery::Whole,
        PATIENCE,
    );
    assert_eq!(outcome.statuses().first(), Some(&200));
    lane.check_honest().unwrap();
}

/// Sends each row in each way, some at a time, each through an edge and to a witness that no other
/// row has at that moment.
#[track_caller]
fn try_all(rows: Vec<Row>) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut lane = Lane::start(HASTY);
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if lane.try_row(row).is_empty() {
                        continue;
                    }
                    // Who is held up is cut at a deadline. What is wrong is so with more time, too.
                    let wrong = Lane::start(PATIENT).try_row(row);
                    failed.lock().unwrap().extend(wrong);
                    lane = Lane::start(HASTY);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

/// An edge before a witness, with an honest client that stays.
struct Lane {
    witness: Witness,
    edge: Tidewire,
    honest: Mutex<Peer>,
    asked: AtomicUsize,
}

impl Lane {
    /// With these deadlines for clients.
    fn start(deadlines: &str) -> Self {
        let witness = Witness::start();
        // One worker, so that all share its connections to the server.
        let timeouts = format!("[timeout]\n{deadlines}server = \"20s\"");
        let config = format!("workers = 1\n{}", edge(&[witness.address()], &timeouts));
        let edge = Tidewire::run(&config);
        // Who is too late with its first request is another one.
        let honest = until("an honest client is served", || {
            let mut peer = Peer::connect(edge.address());
            check_answer(&mut peer, "/honest").is_ok().then_some(peer)
        });
        Self { witness, edge, honest: Mutex::new(honest), asked: AtomicUsize::new(0) }
    }

    /// What is wrong with how a row was answered.
    fn try_row(&self, row: &Row) -> Vec<String> {
        let ways =
            [Delivery::Whole, Delivery::ByteByByte, Delivery::Split(7), Delivery::Split(1789)];
        let mut wrong = Vec::new();
        for delivery in ways {
            let bytes = [row.bytes.as_slice(), LAST].concat();
            let before = self.witness.count();
            let outcome = strike(self.edge.address(), &bytes, delivery, PATIENCE);
            if let Err(what) = self.judge(row, &outcome, before) {
                let statuses = outcome.statuses();
                wrong.push(format!("{}, {delivery:?}: {what} ({statuses:?})", row.name));
                break;
            }
        }
        wrong
    }

    fn judge(&self, row: &Row, outcome: &Outcome, before: usize) -> Result<(), String> {
        let statuses = outcome.statuses();
        let first = statuses.first().copied().unwrap_or(0);
        if !row.expected.contains(&first) {
            return Err(format!("{first} instead of {:?}", row.expected));
        }
        if !outcome.has_ended {
            return Err("the connection is still there".into());
        }
        let answered = outcome.answers.iter().filter(|it| it.headers.has("x-number")).count();
        let seen = self.witness.count() - before;
        if seen > answered {
            return Err(format!("{seen} requests reached the server, {answered} were answered"));
        }
        if let Some(doubt) = self.witness.doubts().first() {
            return Err(format!("the server was left in doubt: {doubt:?}"));
        }
        let smuggled = self.witness.seen().into_iter().find(|it| it.head.target == MARKER);
        if let Some(seen) = smuggled {
            return Err(format!("smuggled: {:?}", String::from_utf8_lossy(&seen.raw)));
        }
        // Whoever was refused is not listened to again.
        if first >= 400 && first != 404 && outcome.answers.len() > 1 {
            return Err("another answer follows a refusal".into());
        }
        self.check_honest()
    }

    /// An honest client that has been there, and one that comes, get their own answers.
    fn check_honest(&self) -> Result<(), String> {
        let asked = self.asked.fetch_add(2, Ordering::Relaxed);
        let mut kept = self.honest.lock().unwrap();
        check_answer(&mut kept, &format!("/honest/{asked}"))?;
        let mut fresh = Peer::connect(self.edge.address());
        check_answer(&mut fresh, &format!("/honest/{}", asked + 1))
    }
}

fn check_answer(peer: &mut Peer, path: &str) -> Result<(), String> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peer.try_send(text.as_bytes()).map_err(|error| format!("{error} for {path}"))?;
    // Who has come too late finds the end.
    match peer.wait() {
        Ok(1..) => {}
        other => return Err(format!("{other:?} for {path}")),
    }
    let answer = peer.response();
    if answer.status == 200 && answer.text().ends_with(&format!(" GET {path}")) {
        Ok(())
    } else {
        Err(format!("{} {} for {path}", answer.status, answer.text()))
    }
}

const LANES: usize = 12;
/// So that what waits for more does not wait for long.
const HASTY: &str = "http_request = \"1s\"\nclient = \"1s\"\n";
/// Longer than anybody is held up.
const PATIENT: &str = "http_request = \"5s\"\nclient = \"5s\"\n";
/// Longer than the edge's own.
const PATIENCE: Duration = Duration::from_secs(8);
