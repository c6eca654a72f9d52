//! TLS of a listener: which certificate a client gets, what is spoken, and what passes through it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::{Authority, Issued, Status, Wanted};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::get;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

/// An edge with certificates by one authority.
struct Rig {
    ca: Authority,
    edge: Tidewire,
}

impl Rig {
    /// With these certificates, named `0`, `1` and so on, `tls` behind them in `[listen.tls]` and
    /// `more` behind that. What is asked for is answered with `hi`, unless `more` has routes.
    #[track_caller]
    fn new(wanted: impl IntoIterator<Item = Wanted>, tls: &str, more: &str) -> (Self, Vec<Issued>) {
        let ca = Authority::new("Test CA");
        let issued: Vec<_> = wanted.into_iter().map(|wanted| ca.sign(wanted)).collect();
        let dir = tempfile::tempdir().unwrap();
        for (index, issued) in issued.iter().enumerate() {
            issued.write(dir.path(), &index.to_string());
        }
        let rows: Vec<_> = (0..issued.len())
            .map(|it| format!("{{ cert = \"{it}.pem\", key = \"{it}.key\" }}"))
            .collect();
        let tls = format!("certificate = [{}]\n{tls}", rows.join(", "));
        (Self { edge: run(dir, &tls, more), ca }, issued)
    }

    fn one(tls: &str, more: &str) -> Self {
        Self::new([Wanted::server(&["a.test"])], tls, more).0
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(self.ca.pem())
    }

    #[track_caller]
    fn connect(&self, client: &TlsClient, name: &str) -> Peer {
        Peer::connect_tls(self.edge.address(), client, name)
    }

    /// Why a handshake fails.
    #[track_caller]
    fn refused(&self, client: &TlsClient, name: &str) -> String {
        match Peer::try_connect_tls(self.edge.address(), client, name) {
            Ok(_) => panic!("{name}: there is a handshake"),
            Err(error) => error.to_string(),
        }
    }
}

#[track_caller]
fn run(dir: TempDir, tls: &str, more: &str) -> Tidewire {
    let route = if more.contains("[[route]]") {
        ""
    } else {
        "[[route]]\nrespond = { status = 200, body = \"hi\" }\n"
    };
    let config = format!(
        "workers = 2\n[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [listen.tls]\n{tls}\n{route}{more}"
    );
    Tidewire::run_in(command(), dir, &config)
}

const HUB: &str = r#"
[[route]]
path = "/ws/{topic}"
hub = { topic = "{topic}" }
[hub]
"#;

#[track_caller]
fn ask(peer: &mut Peer) -> String {
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peer.response().expect(200).text()
}

#[track_caller]
fn open(peer: Peer, topic: &str) -> WebSocket {
    WebSocket::upgrade(peer, &handshake(&format!("/ws/{topic}")))
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let wanted = [
        Wanted::server(&["first.test", "unknown.test", "a.b.c.test"]),
        Wanted::server(&["*.c.test", "c.test"]),
        Wanted::server(&["exact.c.test", "127.0.0.1"]),
    ];
    let (rig, issued) = Rig::new(wanted, "", "");
    let served = |name: &str| {
        // Whether the name fits is not the question: the authority is trusted for all of them.
        let peer = Peer::try_connect_tls(rig.edge.address(), &rig.client(), name).ok()?;
        Some(peer.tls().peer_certificates().unwrap()[0].clone())
    };
    let check = |name: &str, expected: Option<usize>| {
        let der = expected
            .map(|index| CertificateDer::from_pem_slice(issued[index].cert.as_bytes()).unwrap());
        assert_eq!(served(name), der, "{name}");
    };
    check("first.test", Some(0));
    check("c.test", Some(1));
    check("x.c.test", Some(1));
    check("X.C.Test", Some(1));
    check("exact.c.test", Some(2));
    // One label only: the first certificate, which happens to have this name.
    check("a.b.c.test", Some(0));
    check("unknown.test", Some(0));
    // The first one does not have it, so that the client refuses it.
    check("another.test", None);
    // An address is no name to ask for: the first one, which does not have it either.
    check("127.0.0.1", None);
}

#[test]
fn a_strict_listener_refuses_unknown_names_and_none() {
    let mut rig = Rig::one("strict_sni = true", "");
    ask(&mut rig.connect(&rig.client(), "a.test"));
    for name in ["b.test", "127.0.0.1"] {
        let why = rig.refused(&rig.client(), name);
        assert!(why.contains("UnrecognisedName"), "{name}: {why}");
    }
    rig.edge.log_line(&["reason=\"tls_handshake\"", "phase=\"tls\"", "b.test"]);
    rig.edge.expect_metric("edge_tls_handshake_failures_total", &["unknown_name"], 2.0);
}

#[test]
fn a_client_that_knows_ecdsa_gets_it_and_another_gets_rsa() {
    let wanted = [Wanted::server(&["a.test"]).rsa(), Wanted::server(&["a.test"])];
    let (rig, issued) = Rig::new(wanted, "", "");
    let check = |client: &TlsClient, expected: usize| {
        let peer = rig.connect(client, "a.test");
        let der = CertificateDer::from_pem_slice(issued[expected].cert.as_bytes()).unwrap();
        assert_eq!(peer.tls().peer_certificates().unwrap()[0], der);
    };
    check(&rig.client(), 1);
    check(&TlsClient::of_version(rig.ca.pem(), &TLS12), 1);
    check(&TlsClient::rsa_only(rig.ca.pem()), 0);
}

/// What `openssl s_client` says of a handshake.
#[track_caller]
fn s_client(rig: &Rig, arguments: &[&str]) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &rig.edge.address().to_string()]).args(arguments);
    let output = client.stdin(Stdio::null()).output().expect("openssl is there");
    [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat()
}

#[test]
fn versions_1_2_and_1_3_are_spoken_and_nothing_older() {
    let rig = Rig::one("", "");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(&rig, &[version]);
        assert!(said.contains(&format!("New, TLSv1.{}", &version[6..])), "{said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let said = s_client(&rig, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("alert") && said.contains("Cipher is (NONE)"), "{said}");
    }
    rig.edge.expect_metric("edge_tls_handshake_failures_total", &["nothing_shared"], 2.0);
    // Even when a client leaves with the last word of its handshake, that was one.
    rig.edge.expect_metric("edge_tls_handshakes_total", &["full"], 2.0);
}

#[test]
fn a_listener_may_speak_1_3_only() {
    let rig = Rig::one("min_version = \"1.3\"", "");
    ask(&mut rig.connect(&TlsClient::of_version(rig.ca.pem(), &TLS13), "a.test"));
    let why = rig.refused(&TlsClient::of_version(rig.ca.pem(), &TLS12), "a.test");
    assert!(why.contains("ProtocolVersion"), "{why}");
}

#[test]
fn http_1_1_is_agreed_upon_and_nothing_that_is_not_spoken() {
    let rig = Rig::one("", "");
    let alpn = |offer: &[&str]| {
        let peer = rig.connect(&rig.client().offering(offer), "a.test");
        peer.tls().alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(alpn(&["h2", "http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(alpn(&[]), None);
    let why = rig.refused(&rig.client().offering(&["h2"]), "a.test");
    assert!(why.contains("NoApplicationProtocol"), "{why}");
}

#[test]
fn plain_http_is_told_that_tls_is_spoken() {
    let mut rig = Rig::one("", "");
    let answer = get(rig.edge.address(), "/").expect(400).text();
    assert!(answer.contains("https://"), "{answer}");
    rig.edge.log_line(&["connection", "reason=\"tls_handshake\"", "plain HTTP"]);
}

#[test]
fn a_probe_of_the_port_is_no_failed_handshake() {
    let mut rig = Rig::one("", "");
    Peer::connect(rig.edge.address()).finish();
    let mut broken = Peer::connect(rig.edge.address());
    broken.send([22, 3, 1]);
    broken.finish();
    rig.edge.log_line(&["connection", "reason=\"tls_handshake\""]);
    // The one that spoke is counted.
    rig.edge.expect_metric("edge_ends_total", &["eof"], 1.0);
    rig.edge.expect_metric("edge_tls_handshakes_total", &["failed"], 1.0);
}

#[test]
fn a_slow_handshake_is_cut_at_client_hs() {
    let mut rig = Rig::one("", "[timeout]\nclient_hs = \"3s\"\n");
    let begun = Instant::now();
    let mut silent = Peer::connect(rig.edge.address());
    let mut slow = Peer::connect(rig.edge.address());
    slow.send([22, 3, 1, 2, 0, 1]);
    silent.expect_gone();
    slow.expect_gone();
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(2900) && took < Duration::from_secs(12), "{took:?}");
    rig.edge.log_line(&["connection", "reason=\"client_hs_timeout\"", "phase=\"tls\""]);
    // What is served has its own time.
    let mut peer = rig.connect(&rig.client(), "a.test");
    std::thread::sleep(Duration::from_millis(3300));
    ask(&mut peer);
}

#[test]
fn sessions_are_resumed_in_both_versions_by_every_worker() {
    for version in [&TLS12, &TLS13] {
        let rig = Rig::one("", "");
        let client = TlsClient::of_version(rig.ca.pem(), version);
        // Kept, so that placement takes one worker and the other in turn.
        let mut kept = Vec::new();
        for number in 0..8 {
            let mut peer = rig.connect(&client, "a.test");
            ask(&mut peer);
            let kind = peer.tls().handshake_kind();
            let expected = match number {
                0 => HandshakeKind::Full,
                _ => HandshakeKind::Resumed,
            };
            assert_eq!(kind, Some(expected), "{version:?} number {number}");
            kept.push(peer);
        }
        for worker in ["worker=\"0\"", "worker=\"1\""] {
            assert!(rig.edge.metric("runtime_connections", &[worker]) > 0.0, "{worker}");
        }
        rig.edge.expect_metric("edge_tls_handshakes_total", &["resumed"], 7.0);
        rig.edge.expect_metric("edge_tls_handshakes_total", &["full"], 1.0);
    }
}

#[test]
fn a_staple_is_served_with_its_certificate() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
    ca.server(&["a.test"]).write(dir.path(), "0");
    ca.staple(dir.path(), "0.pem", "good.der", Status::Good);
    let edge =
        run(dir, "certificate = [{ cert = \"0.pem\", key = \"0.key\", ocsp = \"good.der\" }]", "");
    let said = s_client(&Rig { ca, edge }, &["-status", "-servername", "a.test"]);
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
    assert!(said.contains("Cert Status: good"), "{said}");
}

#[test]
fn a_websocket_echoes_through_tls_from_a_server_and_from_the_hub() {
    let server = Backend::start(script::echoes);
    let routes = format!(
        r#"{HUB}
[[route]]
path = "/echo"
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "server1", address = "{}" }}]
"#,
        server.address()
    );
    let mut rig = Rig::one("", &routes);
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::of_version(rig.ca.pem(), version);
        for path in ["/echo", "/ws/room"] {
            let mut socket = WebSocket::upgrade(rig.connect(&client, "a.test"), &handshake(path));
            for length in [0, 5, 60_000] {
                let text = "x".repeat(length);
                socket.send(&text);
                assert_eq!(socket.next(), Got::Text(text), "{path}");
            }
            socket.send_close(1000, "");
            socket.expect_close(1000);
        }
    }
    for tls in ["tls=\"1.2\"", "tls=\"1.3\""] {
        for path in ["/echo", "/ws/room"] {
            rig.edge.log_line(&["websocket", tls, &format!("path=\"{path}\"")]);
        }
    }
}

#[test]
fn a_server_is_told_that_the_client_came_by_https() {
    let server = Backend::start(script::mirrors);
    let routes = format!(
        "[[route]]\nbackend = \"nodes\"\n[[backend]]\nname = \"nodes\"\n\
         server = [{{ name = \"server1\", address = \"{}\" }}]\n",
        server.address()
    );
    let rig = Rig::one("", &routes);
    let seen = ask(&mut rig.connect(&rig.client(), "a.test")).to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    assert!(seen.contains("proto=https"), "{seen}");
}

#[test]
fn a_drain_closes_a_websocket_and_then_tls() {
    let rig = Rig::one("", HUB);
    let client = rig.client();
    let mut socket = open(rig.connect(&client, "a.test"), "room");
    let idle = rig.connect(&client, "a.test");
    let half = Peer::connect(rig.edge.address());
    until("they are there", || (rig.edge.metric("runtime_connections", &[]) == 3.0).then_some(()));
    rig.edge.terminate();
    socket.expect_close(1001);
    // The end of TLS is an end that was said, or reading it is an error.
    socket.send_close(1001, "");
    assert_eq!(socket.next(), Got::End);
    let mut idle = idle;
    idle.expect_end();
    let mut half = half;
    half.expect_gone();
    let ended = rig.edge.wait();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.has_line(&["connection", "reason=\"drain\"", "phase=\"tls\""]), "{ended:?}");
}
