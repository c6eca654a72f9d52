//! One event is one line, whoever chose the words in it.

use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::token::{USERS, token};

/// What somebody would write into a log.
const NASTY: [&str; 8] =
    ["%0d%0aINFO%20forged", "%1b[2J", "%7f", "%e2%80%ae", "\"quoted\\\"", "%00", "'$(x)", "%c2%9b"];

#[track_caller]
fn check(format: &str) {
    let server =
        Backend::start(|request: &Request, peer: &mut Peer| match request.target.as_str() {
            "/noise" => peer.send("HTTP/1.1 200\u{202e}\x1b[31m OK\r\nX: \x07\r\n\r\n"),
            "/accept" => {
                let accept = "Sec-WebSocket-Accept: a\"\u{202e}\u{9b}\r\n";
                let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
                peer.send(format!("HTTP/1.1 101 Is\r\n{upgrade}{accept}\r\n"));
            }
            _ => script::mirrors(request, peer),
        });
    let more = format!("{USERS}\n[log]\nformat = \"{format}\"\nlevel = \"debug\"\n");
    let asking = "[[route]]\npath = \"/who\"\nauth = \"users\"\nbackend = \"nodes\"\n\n[[route]]\n";
    let config = edge(&[server.address()], &more).replace("[[route]]\n", asking);
    let mut rig = Tidewire::run(&config);
    let mut asked = 0;
    let mut ask = |text: String| {
        let mut peer = Peer::connect(rig.address());
        peer.send(text);
        peer.expect_gone();
        asked += 1;
    };
    for nasty in NASTY {
        let raw = percent_decoded(nasty);
        let close = "Connection: close";
        ask(format!("GET /{nasty} HTTP/1.1\r\nHost: a\r\n{close}\r\n\r\n"));
        ask(format!("GET /{raw} HTTP/1.1\r\nHost: a\r\n{close}\r\n\r\n"));
        ask(format!("{raw} / HTTP/1.1\r\nHost: a\r\n{close}\r\n\r\n"));
        ask(format!("GET / HTTP/1.1\r\nHost: {raw}\r\n{close}\r\n\r\n"));
        ask(format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {raw}\r\n{close}\r\n\r\n"));
        let token = token(&serde_json::json!({ "sub": raw }));
        ask(format!(
            "GET /who HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{close}\r\n\r\n"
        ));
        ask(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nReferer: {raw}\r\nOrigin: {raw}\r\n{close}\r\n\r\n"
        ));
    }
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                     Sec-WebSocket-Protocol: a\u{202e}\u{9b}";
    ask(format!("GET /accept HTTP/1.1\r\nHost: a\r\n{handshake}\r\n\r\n"));
    ask("GET /noise HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned());
    ask("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned());
    rig.log_line(&["/last"]);
    let lines = rig.child.stderr();
    let events =
        lines.iter().filter(|line| line.contains("request") || line.contains("connection"));
    assert!(events.count() >= asked, "{asked} were asked");
    // Before it are warnings about the configuration, for whoever has started it.
    for line in lines.iter().skip_while(|line| !line.contains("listening")) {
        let is_event = match format {
            "json" => line.starts_with("{\"timestamp\"") && line.ends_with('}'),
            _ => line.starts_with("20") && line.contains('Z'),
        };
        assert!(is_event, "not a line of its own: {line:?}");
        assert!(!line.chars().any(is_hidden), "{line:?}");
        assert!(!line.starts_with("INFO forged"), "{line:?}");
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap() as u8;
        decoded.push(if byte == b'%' { digit() << 4 | digit() } else { byte });
    }
    String::from_utf8(decoded).unwrap()
}

#[test]
fn an_event_is_a_line_of_text() {
    check("text");
}

#[test]
fn an_event_is_a_line_of_json() {
    check("json");
}
