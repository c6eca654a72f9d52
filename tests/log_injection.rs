//! An event is one line, and a line says nothing that a terminal would obey, whatever a client puts
//! into its path, its headers or its token, or a server into its answer.

use serde_json::{Value, json};
use tidewire_testkit::attack::{Delivery, strike};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::child::Ended;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::token::{self, USERS};
use tidewire_testkit::websocket::{WebSocket, handshake};
use tidewire_testkit::witness::Witness;

/// What would begin a line, end a value, drive a terminal, or turn a text around.
const POISONS: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x08\x08\x08",
    "\x7f",
    "\u{85}",
    "\u{9b}31m",
    "\u{202e}",
    "\u{2028}",
    "\u{2066}",
    "\u{feff}",
    "\"",
    "'",
    "\\",
    "\\n",
    "\" by=\"edge",
    "\",\"level\":\"ERROR\",\"x\":\"",
    "{}",
    "%s%n",
    "${jndi:ldap://a.test/x}",
    "\u{1f600}",
];

/// What is in the log only if somebody has put it there.
const FORGED: &str = "forged=9.9.9.9";

#[test]
fn an_event_is_one_line_whatever_is_in_it() {
    for format in ["text", "json"] {
        let witness = Witness::start();
        let log = format!("[log]\nformat = \"{format}\"\nlevel = \"debug\"");
        let config = edge(&[witness.address()], &format!("{log}\n{USERS}"));
        let config = config.replacen("[[route]]\n", "[[route]]\nauth = \"users\"\n", 1);
        let edge = Tidewire::run(&config);
        let (mut asked, mut opened) = (0, 0);
        for poison in POISONS {
            for request in requests(poison) {
                strike(edge.address(), &request, Delivery::Whole, PATIENCE);
                asked += 1;
            }
            if has_websocket_of(&edge, poison) {
                opened += 1;
            } else {
                asked += 1;
            }
        }
        // A name with control characters is not let in at all.
        assert!(opened >= 8, "{opened} WebSockets");
        edge.terminate();
        let has_told = check_log(format, &edge.wait(), asked, opened);
        assert!(has_told, "what was said is in the log, where it belongs");
    }
}

#[test]
fn it_is_one_line_whatever_a_server_answers() {
    for format in ["text", "json"] {
        let server = Backend::start(|request, peer| {
            let poison = POISONS[request.target[1..].parse::<usize>().expect("a number")];
            let said = format!("x{poison}INFO access: {FORGED}{poison}");
            peer.send(match request.headers.has("upgrade") {
                true => format!(
                    "HTTP/1.1 101 {said}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {said}\r\n\r\n"
                ),
                false => format!("HTTP/1.1 200 {said}\r\nX: {said}\r\nContent-Length: 0\r\n\r\n"),
            });
        });
        let log = format!("[log]\nformat = \"{format}\"\nlevel = \"debug\"");
        let edge = Tidewire::run(&edge(&[server.address()], &log));
        for number in 0..POISONS.len() {
            let get =
                format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            for request in [get, handshake(&format!("/{number}"))] {
                strike(edge.address(), request.as_bytes(), Delivery::Whole, PATIENCE);
            }
        }
        edge.terminate();
        check_log(format, &edge.wait(), 2 * POISONS.len(), 0);
    }
}

/// Requests with a poison in each place that could be written to a log.
fn requests(poison: &str) -> Vec<Vec<u8>> {
    let said = format!("x{poison}INFO access: {FORGED}{poison}");
    let encoded: String = said.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let line = |name: &str| format!("{name}: {said}\r\n");
    let credential = format!("Authorization: Bearer {}\r\n", subject(&said));
    let text = |method: &str, target: &str, lines: &str| {
        let end = "Connection: close\r\n\r\n";
        format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{lines}{end}").into_bytes()
    };
    vec![
        text("GET", &format!("/{said}"), ""),
        // Without its spaces, which end a target.
        text("GET", &format!("/{}", said.replace(' ', "_")), ""),
        text("GET", &format!("/{encoded}"), ""),
        text("GET", &format!("/x?{said}"), ""),
        text(&said, "/", ""),
        text("GET", "/", &line("User-Agent")),
        text("GET", "/", &line("Origin")),
        text("GET", "/", &line("Cookie")),
        text("GET", "/", &line("Authorization")),
        text("GET", "/", &line("X-Forwarded-For")),
        text("GET", "/", &line("Sec-WebSocket-Protocol")),
        text("GET", "/", &line(&said)),
        text("GET", "/", &credential),
        format!("GET / HTTP/1.1\r\nHost: {said}\r\nConnection: close\r\n\r\n").into_bytes(),
        format!("GET http://{said}/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .into_bytes(),
        said.into_bytes(),
    ]
}

/// Whether somebody with a name like this may open a WebSocket, whose line comes at its end.
fn has_websocket_of(edge: &Tidewire, poison: &str) -> bool {
    let said = format!("x{poison}INFO access: {FORGED}{poison}");
    let credential = subject(&said);
    let text = token::handshake_with("/ws", &credential, false);
    match WebSocket::try_upgrade(Peer::connect(edge.address()), &text) {
        Ok(mut socket) => {
            socket.send_close(4000, "INFO access: forged=9.9.9.9 \u{202e}");
            socket.peer.expect_gone();
            true
        }
        Err((answer, mut peer)) => {
            answer.expect(401);
            peer.close();
            false
        }
    }
}

/// A token of somebody with this name.
fn subject(name: &str) -> String {
    token::token(&json!({ "sub": name }))
}

/// Whether anything forged is in the log at all.
#[track_caller]
fn check_log(format: &str, ended: &Ended, asked: usize, opened: usize) -> bool {
    let connections = ended.stderr.iter().filter(|line| is_of(line, "connection")).count();
    let websockets = ended.stderr.iter().filter(|line| is_of(line, "websocket")).count();
    assert_eq!(connections, asked, "a line for each connection that stayed HTTP, in {format}");
    assert_eq!(websockets, opened, "a line for each WebSocket, in {format}");
    let mut has_told = false;
    // What is wrong with a configuration is said before there is a log.
    for line in ended.stderr.iter().skip_while(|line| !line.contains("listening")) {
        let deceives = line.chars().find(|char| {
            char.is_control()
                || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}')
        });
        assert_eq!(deceives, None, "raw in {format}: {line:?}");
        has_told |= line.contains(FORGED);
        match format {
            "json" => {
                let parsed: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error} in {line:?}"));
                assert_ne!(parsed["level"], "ERROR", "{line}");
                assert!(parsed["timestamp"].is_string(), "{line}");
            }
            _ => {
                let begin = line.split_whitespace().next().unwrap_or_default();
                assert!(
                    begin.ends_with('Z') && begin.starts_with("20"),
                    "begins by itself: {line:?}"
                );
                let plain: String = without_quoted(line);
                assert!(!plain.contains(FORGED), "outside of quotes: {line:?}");
                assert!(!plain.contains("by=edge"), "outside of quotes: {line:?}");
            }
        }
    }
    has_told
}

/// Whether it is the line of an event of access with this message.
fn is_of(line: &str, message: &str) -> bool {
    line.contains(&format!("\"message\":\"{message}\"")) && line.contains("\"target\":\"access\"")
        || line.contains(&format!(" access: {message} client="))
}

/// A line of text without what it quotes.
fn without_quoted(line: &str) -> String {
    let (mut plain, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    for char in line.chars() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if !is_quoted => plain.push(char),
            _ => {}
        }
    }
    plain
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(8);
