//! Who the client is, is for the edge to say: whatever a client claims about its address, its
//! scheme or its host, in however many lines and spellings, no server hears it.

use tidewire_testkit::attack::try_each;
use tidewire_testkit::http::ask;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::websocket::handshake;
use tidewire_testkit::witness::Witness;
use tidewire_testkit::witness::head::Head;

/// Names that servers believe, and spellings that some read as them.
const CLAIMS: &[&str] = &[
    "X-Forwarded-For",
    "x-forwarded-for",
    "X-FORWARDED-FOR",
    "X_Forwarded_For",
    "X_Forwarded-For",
    "X-Forwarded_For",
    "X.Forwarded.For",
    "x_forwarded.for",
    "Forwarded",
    "FORWARDED",
    "X-Real-IP",
    "X-Real-Ip",
    "X_Real_IP",
    "X.Real.IP",
    "X-Forwarded-Proto",
    "X_Forwarded_Proto",
    "X-Forwarded-Host",
    "X_Forwarded_Host",
    "X.Forwarded.Host",
    "X-Forwarded-Port",
    "X_Forwarded_Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Forwarded-Server",
    "X-Forwarded-Protocol",
    "X-Forwarded-By",
    "X-Forwarded-User",
    "X-Forwarded",
    "Forwarded-For",
    "X-Scheme",
    "X-Url-Scheme",
    "Front-End-Https",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
];

/// A claim that stands out.
const CLAIMED: &str = "6.6.6.6";

#[test]
fn a_server_hears_of_the_client_from_the_edge_alone() {
    let rig = Rig::start();
    try_each(CLAIMS, 4, |name| {
        let line = format!("{name}: {CLAIMED}\r\n");
        let element = format!("{name}: for={CLAIMED};proto=https;host={CLAIMED}\r\n");
        let list = format!("{name}: 127.0.0.1, {CLAIMED}, 127.0.0.1\r\n");
        let padded = format!("{name}:\t {CLAIMED} \t\r\n");
        for lines in [
            line.clone(),
            line.repeat(3),
            element,
            list,
            padded,
            format!("{name}:\r\n{line}"),
            format!("Connection: {name}\r\n{line}"),
            format!("{line}Connection: keep-alive, {}\r\n", name.to_lowercase()),
            // Ours go as well, if what is nominated is taken away last.
            format!("{line}Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded\r\n"),
            format!("Proxy-Connection: {name}\r\n{line}"),
        ] {
            rig.check(name, &lines)?;
        }
        Ok(())
    });
}

#[test]
fn a_server_is_told_the_same_of_a_websocket() {
    let rig = Rig::start();
    for name in CLAIMS {
        let line = format!("{name}: {CLAIMED}\r\n");
        for lines in
            [line.repeat(2), format!("Connection: {name}, X-Forwarded-For, Forwarded\r\n{line}")]
        {
            let more = format!("\r\n{lines}\r\n");
            let text = handshake("/ws").replacen("\r\n\r\n", &more, 1);
            let answer = ask(rig.edge.address(), &text);
            assert_eq!(answer.status, 101, "{lines:?}: {}", answer.text());
        }
    }
    for seen in rig.witness.seen() {
        check_head(&seen.head).unwrap();
    }
    assert_eq!(rig.witness.doubts(), []);
}

#[test]
fn a_host_is_not_believed_from_two_places() {
    let rig = Rig::start();
    for lines in ["X-Forwarded-Host: evil.test\r\n", "Forwarded: host=evil.test\r\n"] {
        let text = format!("GET / HTTP/1.1\r\nHost: a.test:81\r\n{lines}\r\n");
        ask(rig.edge.address(), &text).expect(200);
        let head = rig.witness.seen().pop().expect("it was asked").head;
        assert_eq!(head.get("x-forwarded-host"), Some("a.test:81"));
        assert_eq!(head.get("host"), Some("a.test:81"));
        assert_eq!(head.get("forwarded"), Some("for=127.0.0.1;host=\"a.test:81\";proto=http"));
    }
}

struct Rig {
    witness: Witness,
    edge: Tidewire,
}

impl Rig {
    fn start() -> Self {
        let witness = Witness::start();
        let edge = Tidewire::run(&edge(&[witness.address()], ""));
        Self { witness, edge }
    }

    fn check(&self, name: &str, lines: &str) -> Result<(), String> {
        // A path of its own, as others ask at the same time.
        let path =
            format!("/{}", lines.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let text = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
        let answer = ask(self.edge.address(), &text);
        if answer.status == 400 {
            return Ok(());
        }
        let seen = self.witness.seen().into_iter().find(|it| it.head.target == path);
        let Some(seen) = seen else { return Err(format!("{name}: {lines:?} is not heard of")) };
        check_head(&seen.head).map_err(|wrong| format!("{lines:?}: {wrong}"))
    }
}

/// That a server gets what the edge knows, and no claim under a name that it would believe.
fn check_head(head: &Head) -> Result<(), String> {
    for (name, expected) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
        ("forwarded", "for=127.0.0.1;host=a.test;proto=http"),
        ("host", "a.test"),
    ] {
        if head.all(name) != [expected] {
            return Err(format!("{name} is {:?}", head.all(name)));
        }
    }
    match head.headers.iter().find(|(_, value)| value.contains(CLAIMED)) {
        Some((name, value)) => Err(format!("{name}: {value} reaches the server")),
        None => Ok(()),
    }
}
