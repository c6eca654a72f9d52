//! A path that is guarded stays so in every spelling: a server that decodes, cuts and resolves as
//! leniently as servers do never arrives at `/admin` for a client that nobody has vouched for.

use std::time::Duration;

use serde_json::json;
use tidewire_testkit::attack::{Delivery, strike, try_each};
use tidewire_testkit::http::ask;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::token::{USERS, token};
use tidewire_testkit::websocket::{KEY, Opcode, client_frame};
use tidewire_testkit::witness::Witness;

/// Ways to write `/admin/x`, or something that some server takes for it. Those that no server takes
/// for it are here, too: nobody knows all servers.
const SPELLINGS: &[&str] = &[
    "/admin/x",
    "/admin",
    "/admin/",
    "//admin/x",
    "///admin/x",
    "/admin//x",
    "/./admin/x",
    "/admin/./x",
    "/x/../admin/x",
    "/x/y/../../admin/x",
    "/../admin/x",
    "/../../admin/x",
    "/admin/../admin/x",
    "/admin/x/.",
    "/admin/x/..",
    "/x/..",
    "/x/%2e%2e/admin/x",
    "/x/%2E%2E/admin/x",
    "/x/.%2e/admin/x",
    "/x/%2e./admin/x",
    "/%2e/admin/x",
    "/%2e%2e/admin/x",
    "/x/%252e%252e/admin/x",
    "/x/%252e%252e%252fadmin/x",
    "/x/..%2fadmin/x",
    "/x/..%2Fadmin/x",
    "/x/%2e%2e%2fadmin/x",
    "/x%2f..%2fadmin/x",
    "/x/..%5cadmin/x",
    "/x/..%255cadmin/x",
    "/x\\..\\admin\\x",
    "/x/..\\admin/x",
    "\\admin\\x",
    "/\\admin/x",
    "/admin\\x",
    "/%5cadmin/x",
    "/%5Cadmin%5Cx",
    "/x/..;/admin/x",
    "/x/..;a=b/admin/x",
    "/x/%2e%2e;/admin/x",
    "/..;/admin/x",
    "/.;/admin/x",
    "/;/admin/x",
    "/;x/admin/x",
    "/;a=b;c/admin/x",
    "/admin;/x",
    "/admin;a=b/x",
    "/admin;a=/../x",
    "/admin/;x",
    "//admin/%3bx",
    "/;%2fadmin%2fx",
    "/admin/x;",
    "/admin%3b/x",
    "/%3b/admin/x",
    "/x/..%3b/admin/x",
    "/admin%3ba=b/x",
    "/%61dmin/x",
    "/%61%64%6d%69%6e/x",
    "/%61%64%6D%69%6E/x",
    "/adm%69n/x",
    "/admin%2fx",
    "/admin%2Fx",
    "/%2fadmin/x",
    "/%2Fadmin%2Fx",
    "%2fadmin%2fx",
    "%2fadmin/x",
    "/%2561dmin/x",
    "/%25%36%31dmin/x",
    "/admin%252fx",
    "/%252fadmin/x",
    "/admin%00/x",
    "/admin/x%00",
    "/admin%00.html",
    "/%00/admin/x",
    "/admin%20/x",
    "/admin%09/x",
    "/admin%0a/x",
    "/admin%0d%0a/x",
    "/admin%3f/x",
    "/admin%23/x",
    "/admin?/x",
    "/admin?x=/../y",
    "/?/../admin/x",
    "/x?/admin/x",
    "/x#/admin/x",
    "/x#/../admin/x",
    "/#/admin/x",
    "/admin#/x",
    "/admin/x#",
    "/admin/x#?y",
    "/x%23/../admin/x",
    "/x%3f/../admin/x",
    "/ADMIN/x",
    "/Admin/x",
    "/adm\u{131}n/x",
    "/adm%c4%b1n/x",
    "/%c0%afadmin/x",
    "/x/%c0%ae%c0%ae/admin/x",
    "/%e0%80%afadmin/x",
    "/x/..%c0%afadmin/x",
    "/x/..%ef%bc%8fadmin/x",
    "/x/%ef%bc%8e%ef%bc%8e/admin/x",
    "/%u0061dmin/x",
    "/%uff0fadmin/x",
    "/x/%u002e%u002e/admin/x",
    "/%zzadmin/x",
    "/%/admin/x",
    "/%2/admin/x",
    "/%2%66admin/x",
    "/admin/%",
    "/%25/../admin/x",
    "/x/.../admin/x",
    "/x/....//admin/x",
    "/x/..../admin/x",
    "/./x/.././admin/x",
    "/x/.%00./admin/x",
    "/x/..%00/admin/x",
    "/x/..%0d/admin/x",
    "/x/..%20/admin/x",
    "/x/ ../admin/x",
    "http://a.test/admin/x",
    "http://a.test//admin/x",
    "http://a.test/x/../admin/x",
    "http://a.test/x/..;/admin/x",
    "http://a.test/%61dmin/x",
    "http://a.test:80/admin/x",
    "HTTP://A.TEST/admin/x",
    "http://a.test\\admin/x",
    "http:/admin/x",
    "http:admin/x",
    "//a.test/admin/x",
    "/http://a.test/admin/x",
    "a.test/admin/x",
    "admin/x",
    "./admin/x",
    "../admin/x",
    "*",
    "*/admin/x",
    "/*/../admin/x",
    "/open/../admin/x",
    "/open/..%2fadmin/x",
    "/open/..;/admin/x",
    "/open%2f..%2fadmin/x",
    "/open;/../admin/x",
    "/open//../admin/x",
    "/open/%2e%2e%2f%61dmin%2fx",
    "/open/x/..%2f..%2fadmin%2fx",
    "/open/x/..;/..;/admin/x",
    "/open/..\\admin\\x",
    "/open/%2e%2e%5cadmin",
];

#[test]
fn no_spelling_of_a_guarded_path_goes_past_its_guard() {
    // What is no whole request is cut soon.
    let rig = Rig::with("[timeout]\nhttp_request = \"1s\"\nclient = \"1s\"\n");
    try_each(SPELLINGS, LANES, |spelling| {
        for method in ["GET", "POST", "get"] {
            let head = "Host: a.test\r\nConnection: close\r\nContent-Length: 0";
            let text = format!("{method} {spelling} HTTP/1.1\r\n{head}\r\n\r\n");
            rig.try_bytes(spelling, text.as_bytes())?;
        }
        let handshake = format!(
            "GET {spelling} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        // Where it becomes a WebSocket, it ends with a Close.
        let bytes = [handshake.as_bytes(), &client_frame(Opcode::Close, b"")].concat();
        rig.try_bytes(spelling, &bytes)
    });
    rig.judge();
}

#[test]
fn whatever_holds_somebody_up_does_so_in_every_spelling() {
    for guard in [
        "allow = \"192.0.2.1\"\nbackend = \"nodes\"",
        "deny = \"127.0.0.0/8\"\nbackend = \"nodes\"",
        "limits = { max_body = \"3B\" }\nbackend = \"nodes\"",
        "origin = { allow = [\"https://b.test\"] }\nwebsocket = true\nbackend = \"nodes\"",
        "respond = { status = 403 }",
    ] {
        let rig = Rig::of(guard, "[timeout]\nhttp_request = \"1s\"\nclient = \"1s\"\n");
        let is_of_pages = guard.contains("origin");
        try_each(SPELLINGS, LANES, |spelling| {
            let text = if is_of_pages {
                format!(
                    "GET {spelling} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: {KEY}\r\nOrigin: https://c.test\r\n\r\n"
                )
            } else {
                let head = "Host: a.test\r\nConnection: close\r\nContent-Length: 4";
                format!("POST {spelling} HTTP/1.1\r\n{head}\r\n\r\nbody")
            };
            let close = client_frame(Opcode::Close, b"");
            let end = if is_of_pages { &close[..] } else { b"" };
            rig.try_bytes(spelling, &[text.as_bytes(), end].concat())
        });
        ask(rig.edge.address(), "GET /open HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
        rig.judge();
    }
}

#[test]
fn a_path_that_a_header_names_is_not_believed() {
    let rig = Rig::start();
    let names = [
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-Forwarded-URI",
        "X-Forwarded-Path",
        "X-Forwarded-Prefix",
        "X-Forwarded-Method",
        "X_Original_URL",
        "X.Original.URL",
        "X-ORIGINAL-URL",
    ];
    for name in names {
        let line = format!("{name}: /admin/x\r\n");
        for lines in [line.clone(), line.repeat(2), format!("Connection: {name}\r\n{line}")] {
            let text = format!("GET /open HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
            ask(rig.edge.address(), &text).expect(200);
        }
    }
    let told = rig.witness.seen().into_iter().find_map(|seen| {
        let mut fields = seen.head.headers.into_iter();
        fields.find(|(_, value)| value == "/admin/x")
    });
    assert_eq!(told, None);
    rig.judge();
}

#[test]
fn a_guarded_path_is_there_for_whom_its_guard_knows() {
    let rig = Rig::start();
    let text = "GET /admin/x HTTP/1.1\r\nHost: a.test\r\n";
    ask(rig.edge.address(), &format!("{text}\r\n")).expect(401);
    let line = format!("Authorization: Bearer {}\r\n", token(&json!({})));
    let answer = ask(rig.edge.address(), &format!("{text}{line}\r\n")).expect(200);
    assert!(answer.text().ends_with(" GET /admin/x"), "{}", answer.text());
    assert!(is_admin(&rig.witness.seen()[0].head.target), "the test can tell");
}

/// An edge before a witness, whose `/admin` is guarded: by a token, and from another listing of
/// routes by a target of its own.
struct Rig {
    witness: Witness,
    edge: Tidewire,
}

impl Rig {
    fn start() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        Self::of("auth = \"users\"\nbackend = \"nodes\"", more)
    }

    /// With these keys in the routes of what is guarded.
    fn of(guard: &str, more: &str) -> Self {
        let witness = Witness::start();
        let edge = Tidewire::run(&format!(
            r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
{USERS}
[[route]]
path = "/admin"
{guard}
[[route]]
path = "/admin/*"
{guard}
[[route]]
path = "/open/*"
backend = "nodes"
[[route]]
origin = {{ allow = ["*"] }}
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{}" }}]
{more}"#,
            witness.address()
        ));
        Self { witness, edge }
    }

    fn try_bytes(&self, spelling: &str, bytes: &[u8]) -> Result<(), String> {
        let outcome = strike(self.edge.address(), bytes, Delivery::Whole, PATIENCE);
        if outcome.has_ended { Ok(()) } else { Err(format!("{spelling}: it does not end")) }
    }

    /// No server path was reached that is guarded, however it is read.
    #[track_caller]
    fn judge(&self) {
        let doubts = self.witness.doubts();
        let seen = self.witness.seen();
        let reached: Vec<_> =
            seen.iter().map(|it| &it.head.target).filter(|target| is_admin(target)).collect();
        assert!(reached.is_empty(), "{reached:#?}");
        assert!(!seen.is_empty(), "the server was reached at all");
        assert!(doubts.is_empty(), "{doubts:#?}");
    }
}

/// Whether some server takes this target for `/admin` or what is below it: each order of decoding,
/// cutting and resolving is some server's.
fn is_admin(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let once = decoded(path);
    let twice = decoded(&once);
    // What is decoded before it is cut off ends early.
    let short = |text: &str| text.split(['?', '#', '\0']).next().unwrap_or_default().to_owned();
    let readings = [path, &once, &twice, &short(&once), &short(&twice)]
        .map(|reading| [reading.to_owned(), reading.replace('\\', "/")])
        .concat();
    readings.iter().any(|reading| {
        let uncut = reading.split('/').map(str::to_owned).collect::<Vec<_>>();
        let cut = reading.split('/').map(|it| it.split(';').next().unwrap_or("").to_owned());
        let decoded_after_cut =
            reading.split('/').map(|it| decoded(it.split(';').next().unwrap_or("")));
        [uncut, cut.collect(), decoded_after_cut.collect()].iter().any(|it| resolved(it))
    })
}

/// Whether these segments, their dots resolved, begin with `admin`.
fn resolved(segments: &[String]) -> bool {
    let mut kept: Vec<&str> = Vec::new();
    for segment in segments {
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    kept.first().is_some_and(|first| *first == "admin")
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (rest, _) = match (first, byte) {
            (b'%', Some(byte)) => (&after[2..], bytes.push(byte)),
            _ => (after, bytes.push(*first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const LANES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(8);
