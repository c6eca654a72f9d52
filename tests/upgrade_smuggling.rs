//! Smuggling by way of an upgrade: a client that only seems to ask for a WebSocket, or a server
//! that only seems to agree, opens no way past the routes.
//!
//! Behind each handshake comes a request for a path that asks who the client is. The server must
//! never see it, in whatever shape: neither as a request, nor as bytes behind the handshake.

use std::time::Duration;

use tidewire_testkit::attack::{Delivery, Outcome, strike, try_each};
use tidewire_testkit::http::Response;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{KEY, Opcode, WebSocket, client_frame, handshake, switch};
use tidewire_testkit::witness::{Act, Seen, Witness, numbered};

/// What follows a handshake: what its server must not see.
const BEHIND: &str = "GET /admin/smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\
     GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// What a server hears of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    Nothing,
    /// A request with no sign that protocols could be switched.
    Plain,
    Handshake,
    Either,
}
use Hears::{Either, Handshake, Nothing, Plain};

struct Row {
    name: &'static str,
    bytes: String,
    expected: &'static [u16],
    hears: Hears,
}

/// A handshake in which `line` was replaced.
fn row(
    name: &'static str,
    line: &str,
    replacement: &str,
    expected: &'static [u16],
    hears: Hears,
) -> Row {
    let text = handshake("/ws");
    assert!(text.contains(line), "no {line:?} to replace");
    Row { name, bytes: text.replacen(line, replacement, 1), expected, hears }
}

const FIRST: &str = "GET /ws HTTP/1.1\r\n";
const HOST: &str = "Host: a.test\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

fn key_line() -> String {
    format!("Sec-WebSocket-Key: {KEY}\r\n")
}

#[test]
fn a_handshake_that_is_none_opens_no_way_past_the_routes() {
    let key = key_line();
    let version = |name, line, hears| row(name, VERSION, line, &[400, 426], hears);
    let keyed = |name, line: &str| row(name, &key, line, &[400], Nothing);
    let upgrade = |name, line, expected, hears| row(name, UPGRADE, line, expected, hears);
    let connection = |name, line, expected, hears| row(name, CONNECTION, line, expected, hears);
    let first = |name, line, expected, hears| row(name, FIRST, line, expected, hears);
    let before_host = |name, line: &str, expected, hears| {
        row(name, HOST, &format!("{line}\r\n{HOST}"), expected, hears)
    };
    let rows = vec![
        version("version 777", "Sec-WebSocket-Version: 777\r\n", Nothing),
        version("version 8", "Sec-WebSocket-Version: 8\r\n", Nothing),
        version("version 013", "Sec-WebSocket-Version: 013\r\n", Nothing),
        version("version 13 and 8", "Sec-WebSocket-Version: 13, 8\r\n", Nothing),
        version(
            "version 13 twice",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n",
            Nothing,
        ),
        version(
            "version 13 and 99, in two lines",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 99\r\n",
            Nothing,
        ),
        version("version of nothing", "Sec-WebSocket-Version:\r\n", Nothing),
        version("no version", "", Nothing),
        version("version 13 of an alias", "Sec_WebSocket_Version: 13\r\n", Nothing),
        keyed("no key", ""),
        keyed("an empty key", "Sec-WebSocket-Key:\r\n"),
        keyed("a key twice", &key.repeat(2)),
        keyed("two keys", &format!("{key}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")),
        keyed("a short key", "Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        keyed("a long key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXRoZSBzYW1wbGU=\r\n"),
        keyed("a key that is no base64", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n"),
        keyed("a key of 24 letters", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA\r\n"),
        keyed("a list of keys", &format!("Sec-WebSocket-Key: {KEY}, {KEY}\r\n")),
        upgrade("h2c", "Upgrade: h2c\r\n", &[200], Plain),
        upgrade(
            "h2c with its settings",
            "Upgrade: h2c\r\nConnection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
            &[200],
            Plain,
        ),
        upgrade("another protocol", "Upgrade: foo\r\n", &[200], Plain),
        upgrade("TLS", "Upgrade: TLS/1.2\r\n", &[200], Plain),
        upgrade("almost websocket", "Upgrade: websockets\r\n", &[200, 400], Plain),
        upgrade("websocket with a version", "Upgrade: websocket/13\r\n", &[200, 400], Plain),
        upgrade("websocket in quotes", "Upgrade: \"websocket\"\r\n", &[200, 400], Plain),
        upgrade("no protocol", "Upgrade:\r\n", &[200, 400], Plain),
        upgrade("websocket of an alias", "Up_grade: websocket\r\n", &[200, 400], Plain),
        connection("no Connection", "", &[200], Plain),
        connection("another Connection", "Connection: keep-alive\r\n", &[200], Plain),
        connection("almost upgrade", "Connection: upgrades\r\n", &[200], Plain),
        connection("upgrade in quotes", "Connection: \"upgrade\"\r\n", &[200, 400], Plain),
        connection("a Proxy-Connection", "Proxy-Connection: Upgrade\r\n", &[200], Plain),
        first("a POST", "POST /ws HTTP/1.1\r\n", &[400, 405], Nothing),
        // The answer to a HEAD says a length and has no body: it may not count as whole.
        first("a HEAD", "HEAD /ws HTTP/1.1\r\n", &[0, 400, 405], Nothing),
        first("an OPTIONS", "OPTIONS /ws HTTP/1.1\r\n", &[400, 405], Nothing),
        first("a CONNECT", "CONNECT a.test:80 HTTP/1.1\r\n", &[400, 405, 501], Nothing),
        first("a get", "get /ws HTTP/1.1\r\n", &[400, 405, 501], Nothing),
        first("HTTP/1.0", "GET /ws HTTP/1.0\r\n", &[200, 400], Either),
        before_host("a length", "Content-Length: 2", &[400], Nothing),
        before_host("a length of all that follows", "Content-Length: 120", &[400], Nothing),
        before_host("chunks", "Transfer-Encoding: chunked", &[400], Nothing),
        before_host(
            "chunks and a length",
            "Transfer-Encoding: chunked\r\nContent-Length: 2",
            &[400],
            Nothing,
        ),
        before_host("another coding", "Transfer-Encoding: gzip", &[400, 501], Nothing),
        before_host("two Hosts", "Host: b.test", &[400], Nothing),
        before_host("a space before a colon", "X : 1", &[400], Nothing),
        before_host("a folded line", "X: 1\r\n 2", &[400], Nothing),
        before_host("a NUL", "X: a\0b", &[400], Nothing),
        row("no Host", HOST, "", &[400], Nothing),
    ];
    try_each(&rows, LANES, |row| try_with_more_time(|deadlines| try_row(row, deadlines)));
}

/// What is wrong with how a handshake that is none was answered.
fn try_row(row: &Row, deadlines: &str) -> Result<(), String> {
    let rig = Rig::start(None, deadlines);
    let outcome = rig.strike(&row.bytes);
    let first = outcome.statuses().first().copied().unwrap_or(0);
    let wrong = |what: String| Err(format!("{}: {what} ({:?})", row.name, outcome.statuses()));
    if !row.expected.contains(&first) {
        return wrong(format!("{first} instead of {:?}", row.expected));
    }
    rig.judge(&outcome).or_else(&wrong)?;
    let heard: Vec<Hears> = rig.heard().iter().map(what_is_heard).collect();
    let fits = match row.hears {
        Nothing => heard.is_empty(),
        Plain => heard == [Plain] || first == 400 && heard.is_empty(),
        Handshake => heard == [Handshake],
        Either => true,
    };
    if fits { Ok(()) } else { wrong(format!("the server hears {heard:?}")) }
}

/// Who is held up is cut at a deadline. What is wrong is so with more time, too.
fn try_with_more_time(attempt: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    attempt(HASTY).or_else(|_| attempt(PATIENT))
}

/// What a server may be told, and what it hears is one clean handshake and nothing more.
#[test]
fn a_handshake_reaches_the_server_clean() {
    let rows = [
        row(
            "the key, nominated",
            CONNECTION,
            "Connection: Upgrade, Sec-WebSocket-Key\r\n",
            &[101],
            Handshake,
        ),
        row(
            "the version, nominated",
            CONNECTION,
            "Connection: Sec-WebSocket-Version, Upgrade\r\n",
            &[101],
            Handshake,
        ),
        row("Host, nominated", CONNECTION, "Connection: Upgrade, Host\r\n", &[101], Handshake),
        row("websocket and h2c", UPGRADE, "Upgrade: websocket, h2c\r\n", &[101], Handshake),
        row("h2c and websocket", UPGRADE, "Upgrade: h2c, websocket\r\n", &[101], Handshake),
        row(
            "websocket in two lines",
            UPGRADE,
            "Upgrade: h2c\r\nUpgrade: WebSocket\r\n",
            &[101],
            Handshake,
        ),
        row(
            "settings of HTTP/2",
            UPGRADE,
            "Upgrade: websocket\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
            &[101],
            Handshake,
        ),
        row(
            "settings of HTTP/2, nominated",
            CONNECTION,
            "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
            &[101],
            Handshake,
        ),
        row(
            "claims, nominated",
            CONNECTION,
            "Connection: Upgrade, X-Forwarded-For, Forwarded, X-Real-IP\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
            &[101],
            Handshake,
        ),
        row("close beside it", CONNECTION, "Connection: close, Upgrade\r\n", &[101], Handshake),
        row(
            "headers of other hops",
            HOST,
            "Host: a.test\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: Upgrade\r\n",
            &[101],
            Handshake,
        ),
        row("Expect", HOST, "Host: a.test\r\nExpect: 100-continue\r\n", &[101, 400, 417], Either),
        row(
            "a cookie of 8,000 bytes",
            HOST,
            &format!("{HOST}Cookie: {}\r\n", "x".repeat(8_000)),
            &[101],
            Handshake,
        ),
        row(
            "a length of nothing",
            HOST,
            "Content-Length: 0\r\nHost: a.test\r\n",
            &[101, 400],
            Either,
        ),
    ];
    try_each(&rows, LANES, |row| {
        let rig = Rig::start(None, PATIENT);
        let mut peer = Peer::connect(rig.edge.address());
        peer.send(&row.bytes);
        let answer = peer.response();
        if !row.expected.contains(&answer.status) {
            return Err(format!("{}: {} {}", row.name, answer.status, answer.text()));
        }
        if answer.status == 101 {
            WebSocket::opened(peer).expect_echo("through");
        }
        let heard: Vec<Hears> = rig.heard().iter().map(what_is_heard).collect();
        if row.hears == Handshake && heard != [Handshake] || !rig.witness.doubts().is_empty() {
            return Err(format!("{}: {heard:?} {:?}", row.name, rig.witness.doubts()));
        }
        Ok(())
    });
}

/// The second scenario of the attack: the server says what the attacker wants it to say.
#[test]
fn a_server_that_only_seems_to_agree_is_not_believed() {
    let hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let good = switch(KEY);
    let without = |line: &str| good.replacen(line, "", 1);
    let instead = |line: &str, other: &str| good.replacen(line, other, 1);
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert!(good.contains(accept));
    let more = |line: &str| good.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let handshake = handshake("/row");
    let plain = |method: &str| {
        format!("{method} /row HTTP/1.1\r\nHost: a.test\r\nSec-WebSocket-Key: {KEY}\r\n\r\n")
    };
    let post = "POST /row HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab".to_owned();
    let mut rows: Vec<Case> = Vec::new();
    for (name, answer) in [
        ("no Accept", without(accept)),
        ("a wrong Accept", instead("s3pPLMBi", "AAAAAAAA")),
        ("an Accept of another case", instead("s3pPLMBiTx", "S3PplmbItX")),
        ("an Accept with more behind it", instead("xOo=", "xOo=, x")),
        ("an empty Accept", instead(" s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "")),
        ("an Accept twice", instead(accept, &accept.repeat(2))),
        ("the key for an Accept", instead("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", KEY)),
        ("no Upgrade", without(UPGRADE)),
        ("another Upgrade", instead("websocket", "foo")),
        ("an Upgrade to h2c", instead("websocket", "h2c")),
        ("an Upgrade to two", instead("websocket", "websocket, h2c")),
        ("no Connection", without(CONNECTION)),
        ("another Connection", instead("Connection: Upgrade", "Connection: close")),
        ("a subprotocol of its own", more("Sec-WebSocket-Protocol: own")),
        ("an extension of its own", more("Sec-WebSocket-Extensions: permessage-deflate")),
        ("a folded Accept", instead("Accept: ", "Accept:\r\n ")),
        ("a space before the colon of Accept", instead("Accept:", "Accept :")),
    ] {
        rows.push((name, handshake.clone(), answer, 502));
    }
    for (name, text) in [
        ("a switch for a GET", plain("GET")),
        ("a switch for a HEAD", plain("HEAD")),
        ("a switch for a DELETE", plain("DELETE")),
        ("a switch for a POST", post),
    ] {
        rows.push((name, text, good.clone(), 502));
    }
    let ok = "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    for (name, answer, status) in [
        ("a 426", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n".to_owned(), 426),
        ("a 200", hello.to_owned(), 200),
        ("a 200 that says Upgrade", format!("{ok}{accept}Content-Length: 0\r\n\r\n"), 200),
        ("a 200 without an end", format!("{ok}{accept}\r\n"), 200),
        ("a 400", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(), 400),
        ("a 401", "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned(), 401),
        ("a 100 and a 200", format!("HTTP/1.1 100 Continue\r\n\r\n{hello}"), 200),
        ("a 102, a 103 and a 200", format!("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\n\r\n{hello}"), 200),
        ("a 204", "HTTP/1.1 204 No\r\n\r\n".to_owned(), 204),
    ] {
        rows.push((name, handshake.clone(), answer, status));
    }
    try_each(&rows, LANES, |row| try_with_more_time(|deadlines| try_answer(row, deadlines)));
}

/// What is tried of a server: its name, what a client sends, the answer, and the status that the
/// client gets.
type Case = (&'static str, String, String, u16);

/// What is wrong with what becomes of a server's answer.
fn try_answer((name, bytes, answer, expected): &Case, deadlines: &str) -> Result<(), String> {
    let acts = vec![Act::Body, Act::send(answer)];
    let mut acts_then_close = acts.clone();
    if *name == "a 200 without an end" {
        acts_then_close.push(Act::Wait(Duration::from_millis(50)));
        acts_then_close.push(Act::Close);
    }
    let rig = Rig::start(Some(acts_then_close), deadlines);
    let outcome = rig.strike(bytes);
    let first = outcome.statuses().first().copied();
    let wrong = |what: String| Err(format!("{name}: {what} ({:?})", outcome.statuses()));
    // The answer to a HEAD has a length and no body.
    let is_head = bytes.starts_with("HEAD") && outcome.rest.starts_with(b"HTTP/1.1 502");
    if first != Some(*expected) && !is_head {
        return wrong(format!("not {expected}, {:?}", String::from_utf8_lossy(&outcome.rest)));
    }
    let answer = outcome.answers.first();
    if answer.is_some_and(|it| it.headers.has("sec-websocket-accept") && it.status != 200) {
        return wrong("the server's word for it reaches the client".into());
    }
    rig.judge(&outcome).or_else(&wrong)?;
    let row_line = rig.heard().first().map(|it| it.connection);
    let again = rig.witness.seen().iter().filter(|it| Some(it.connection) == row_line).count();
    if again > 1 {
        return wrong("the server's connection is used again".into());
    }
    Ok(())
}

/// What comes behind a handshake waits for the 101, and goes nowhere without one.
#[test]
fn frames_behind_a_handshake_are_not_a_request_when_it_fails() {
    let answer = Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let rig = Rig::start(Some(vec![answer]), PATIENT);
    // A frame whose payload, masked with zeros, is a request.
    let mut frame = vec![0x82, 0x80 | 126, 0, BEHIND.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(BEHIND.as_bytes());
    let bytes = [handshake("/row").as_bytes(), &frame].concat();
    for delivery in [Delivery::Whole, Delivery::ByteByByte, Delivery::Split(3)] {
        let outcome = strike(rig.edge.address(), &bytes, delivery, PATIENCE);
        assert_eq!(outcome.statuses().first(), Some(&200), "{outcome:?}");
        rig.judge(&outcome).unwrap();
    }
    let rig = Rig::start(None, PATIENT);
    let mut peer = Peer::connect(rig.edge.address());
    peer.send(
        [handshake("/ws").as_bytes(), &client_frame(Opcode::Text, BEHIND.as_bytes())].concat(),
    );
    peer.response().expect(101);
    assert_eq!(WebSocket::opened(peer).text(), BEHIND, "a payload is a payload");
    assert_eq!(rig.witness.count(), 1);
}

/// An edge before a witness, with a route that asks who the client is.
struct Rig {
    witness: Witness,
    edge: Tidewire,
}

impl Rig {
    /// Its server does as told when `/row` is asked for, and otherwise as it should. Clients have
    /// these deadlines.
    fn start(acts: Option<Vec<Act>>, deadlines: &str) -> Self {
        let witness = Witness::acting(move |head, number| {
            if let (Some(acts), "/row") = (&acts, head.target.as_str()) {
                return acts.clone();
            }
            if head.is_handshake() {
                let key = head.get("sec-websocket-key").expect("a clean handshake has a key");
                return vec![Act::send(switch(key)), Act::Echo];
            }
            vec![Act::Body, Act::Send(numbered(head, number))]
        });
        let edge = Tidewire::run(&guarded(&witness, deadlines));
        Self { witness, edge }
    }

    /// What comes of these bytes with those of the attacker behind them.
    fn strike(&self, bytes: &str) -> Outcome {
        let bytes = [bytes, BEHIND].concat();
        strike(self.edge.address(), bytes.as_bytes(), Delivery::Whole, PATIENCE)
    }

    /// What the server has heard of the handshake.
    fn heard(&self) -> Vec<Seen> {
        let seen = self.witness.seen().into_iter();
        seen.filter(|it| it.head.target == "/ws" || it.head.target == "/row").collect()
    }

    /// The server has neither seen what it must not see nor been left in doubt, and the edge has
    /// not let the client through to it.
    fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let honest = b"GET /honest HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let heard = strike(self.edge.address(), honest, Delivery::Whole, PATIENCE);
        let is_own = |it: &Response| it.status == 200 && it.text().ends_with(" GET /honest");
        if !heard.answers.first().is_some_and(is_own) {
            return Err(format!("an honest client gets {heard:?}"));
        }
        if let Some(doubt) = self.witness.doubts().first() {
            return Err(format!("the server was left in doubt: {doubt:?}"));
        }
        let seen = self.witness.seen();
        if let Some(seen) = seen.iter().find(|it| it.head.target.contains("admin")) {
            return Err(format!("smuggled: {:?}", String::from_utf8_lossy(&seen.raw)));
        }
        let text = String::from_utf8_lossy(&outcome.rest);
        let admin = |text: &str| text.contains("admin");
        if admin(&text) || outcome.answers.iter().any(|answer| admin(&answer.text())) {
            return Err("the client is answered from behind the guard".into());
        }
        Ok(())
    }
}

fn what_is_heard(seen: &Seen) -> Hears {
    if seen.head.is_handshake() { Handshake } else { Plain }
}

fn guarded(witness: &Witness, deadlines: &str) -> String {
    format!(
        r#"workers = 1
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[auth]]
name = "users"
jwt = {{ secret = "a secret of thirty-two bytes, ok" }}
[[route]]
path = "/admin/*"
auth = "users"
backend = "nodes"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{}" }}]
[timeout]
{deadlines}server = "20s"
"#,
        witness.address()
    )
}

/// So that what waits for more does not wait for long.
const HASTY: &str = "http_request = \"1s\"\nclient = \"1s\"\n";
/// Longer than anybody is held up.
const PATIENT: &str = "http_request = \"5s\"\nclient = \"5s\"\n";

const LANES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(8);
