//! TLS towards servers: whom the edge believes, what it shows, what becomes of those who are not
//! who they have to be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use tempfile::TempDir;
use tidewire_testkit::backend::{Backend, Greeted};
use tidewire_testkit::certs::{Authority, Issued, Wanted, write};
use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::until;
use tidewire_testkit::dns::NameServer;
use tidewire_testkit::http::{Request, ask, get};
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command, edge, edge_of, hub};
use tidewire_testkit::tls::TlsServer;
use tidewire_testkit::unix_door::UnixDoor;
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, handshake};

/// An authority, and a directory with its certificate in `ca.pem`.
struct Rig {
    ca: Authority,
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        let (ca, dir) = (Authority::new("Servers' CA"), tempfile::tempdir().unwrap());
        write(&dir.path().join("ca.pem"), ca.pem());
        Self { ca, dir }
    }

    /// A certificate for the loopback, under which the servers of tests are.
    fn issued(&self) -> Issued {
        self.ca.server(&["127.0.0.1"])
    }

    /// A server that answers, and echoes.
    fn server(&self) -> Backend {
        Backend::start_tls(&TlsServer::new(&self.issued()), script::serves("server"))
    }

    fn edge(self, server: SocketAddr, tls: &str) -> Tidewire {
        self.run(&edge(&[server], &format!("tls = {{ {tls} }}\n")))
    }

    fn run(self, config: &str) -> Tidewire {
        Tidewire::run_in(command(), self.dir, config)
    }
}

/// `server` with the certificate `issued` gets nobody, for `reason`, and the log says `why`.
#[track_caller]
fn expect_refused(rig: Rig, issued: &Issued, reason: &str, why: &str) {
    let server = Backend::start_tls(&TlsServer::new(issued), script::mirrors);
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    expect_no_tls(edge, reason, why);
    assert!(server.requests().is_empty(), "it was told something");
}

#[track_caller]
fn expect_no_tls(mut edge: Tidewire, reason: &str, why: &str) {
    let answer = get(edge.address(), "/").expect(502);
    assert_eq!(answer.text().trim(), "502 Bad Gateway: TLS with the server came to nothing");
    edge.log_line(&[
        "WARN",
        "no TLS with the server",
        "backend=\"nodes\"",
        "server=\"server1\"",
        why,
    ]);
    edge.log_line(&["request", "status=502", "fault=\"server_tls\""]);
    let upgrade = WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws"));
    assert_eq!(upgrade.unwrap_err().0.status, 502);
    let reason = format!("reason=\"{reason}\"");
    edge.expect_metric_at_least("edge_server_tls_failures_total", &[&reason], 2.0);
    edge.expect_metric_at_least("edge_server_connect_errors_total", &[], 2.0);
}

#[test]
fn requests_and_websockets_go_to_a_server_of_the_authority() {
    let rig = Rig::new();
    let tls = TlsServer::new(&rig.issued()).speaking(&["h2", "http/1.1"]);
    let server = Backend::start_tls(&tls, script::serves("server"));
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    assert_eq!(get(edge.address(), "/").expect(200).text(), "server");
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.expect_echo("hello");
    socket.send_close(1000, "");
    assert_eq!(socket.next(), Got::Close(Some(1000), String::new()));
    assert_eq!(socket.next(), Got::End);
    let greeted = server.greeted();
    assert_eq!(greeted.len(), 2);
    // An address is no name to ask for.
    let alpn = Some("http/1.1".to_owned());
    let first = Greeted { server_name: None, alpn, has_certificate: false, is_resumed: false };
    assert_eq!(greeted[0], first);
    assert_eq!(edge.metric("edge_server_tls_handshakes_total", &["result=\"failed\""]), 0.0);
}

#[test]
fn both_versions_are_spoken_and_an_old_one_can_be_refused() {
    for (version, min_version, status) in [
        (&rustls::version::TLS12, "1.2", 200),
        (&rustls::version::TLS13, "1.2", 200),
        (&rustls::version::TLS13, "1.3", 200),
        (&rustls::version::TLS12, "1.3", 502),
    ] {
        let rig = Rig::new();
        let tls = TlsServer::of_version(&rig.issued(), version);
        let server = Backend::start_tls(&tls, script::serves("server"));
        let tls = format!("ca = \"ca.pem\", min_version = \"{min_version}\"");
        let edge = rig.edge(server.address(), &tls);
        get(edge.address(), "/").expect(status);
        if status == 200 {
            WebSocket::connect(edge.address(), "/ws").expect_echo("hello");
        } else {
            let reason = "reason=\"nothing_shared\"";
            edge.expect_metric_at_least("edge_server_tls_failures_total", &[reason], 1.0);
        }
    }
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let issued = Authority::new("Another").server(&["127.0.0.1"]);
    expect_refused(Rig::new(), &issued, "unknown_issuer", "is of an issuer that is not believed");
}

#[test]
fn a_server_with_another_name_is_refused() {
    let rig = Rig::new();
    let issued = rig.ca.server(&["other.test"]);
    expect_refused(rig, &issued, "wrong_name", "is not for `127.0.0.1`, but for other.test");
}

#[test]
fn a_server_whose_certificate_has_expired_is_refused() {
    let rig = Rig::new();
    let issued = rig.ca.sign(Wanted::server(&["127.0.0.1"]).between(2020, 2021));
    expect_refused(rig, &issued, "expired", "certificate expired");
}

#[test]
fn a_server_that_shows_a_clients_certificate_is_refused() {
    let rig = Rig::new();
    let issued = rig.ca.sign(Wanted::client("somebody"));
    expect_refused(rig, &issued, "certificate", "the server's certificate is not valid");
}

#[test]
fn without_an_authority_those_of_the_system_count() {
    let rig = Rig::new();
    let server = rig.server();
    let config = edge(&[server.address()], "tls = {}\n");
    let believing = |file: &Path| {
        let mut command = command();
        command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        Tidewire::run_by(command, &config)
    };
    let edge = believing(&rig.dir.path().join("ca.pem"));
    get(edge.address(), "/").expect(200);
    let another = rig.dir.path().join("another.pem");
    write(&another, Authority::new("Another").pem());
    expect_no_tls(believing(&another), "unknown_issuer", "not believed");
}

#[test]
fn a_server_that_speaks_no_tls_is_told_apart() {
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let edge = Rig::new().edge(plain, "ca = \"ca.pem\"");
    expect_no_tls(edge, "not_tls", "what the server says is not TLS");
}

#[test]
fn a_server_that_speaks_no_http1_is_told_apart() {
    let rig = Rig::new();
    let tls = TlsServer::new(&rig.issued()).speaking(&["h2"]);
    let server = Backend::start_tls(&tls, script::mirrors);
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    expect_no_tls(edge, "nothing_shared", "it does not speak http/1.1");
}

#[test]
fn a_server_that_leaves_in_the_handshake_is_told_apart() {
    let edge = Rig::new().edge(answering(b""), "ca = \"ca.pem\"");
    expect_no_tls(edge, "eof", "ended the connection before the handshake was over");
}

#[test]
fn what_is_said_before_tls_is_no_answer() {
    let rig = Rig::new();
    let server = rig.server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.address();
    // Somebody on the way: an answer of its own, and then all that the server says.
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
            let _ = stream.write_all(answer);
            let mut onward = TcpStream::connect(server).unwrap();
            let mut said = [0; 16 * 1024];
            let length = stream.read(&mut said).unwrap_or(0);
            let _ = onward.write_all(&said[..length]);
            let _ =
                stream.write_all(&onward.read(&mut said).map_or(vec![], |it| said[..it].into()));
        }
    });
    let edge = rig.edge(address, "ca = \"ca.pem\"");
    expect_no_tls(edge, "not_tls", "what the server says is not TLS");
}

/// A server that reads something, says this, and leaves.
fn answering(text: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 16 * 1024]);
            let _ = stream.write_all(text);
        }
    });
    address
}

#[test]
fn insecure_believes_everybody_and_is_warned_of() {
    let server = {
        let issued = Authority::new("Another").server(&["other.test"]);
        Backend::start_tls(&TlsServer::new(&issued), script::serves("server"))
    };
    let mut edge = Rig::new().edge(server.address(), "insecure = true");
    edge.log_line(&["warning: every certificate of a server is believed"]);
    get(edge.address(), "/").expect(200);
    WebSocket::connect(edge.address(), "/ws").expect_echo("hello");
}

#[test]
fn a_server_hears_the_name_that_its_certificate_must_have() {
    let rig = Rig::new();
    let issued = rig.ca.server(&["localhost", "all.test", "one.test"]);
    let server = Backend::start_tls(&TlsServer::new(&issued), script::answers(200, "ok"));
    let (host, port) = ("localhost", server.address().port());
    for (of_all, of_one, heard) in [
        ("", "", "localhost"),
        (", server_name = \"all.test\"", "", "all.test"),
        (", server_name = \"all.test\"", ", server_name = \"one.test\"", "one.test"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("ca.pem"), rig.ca.pem());
        let one = [("a", server.address(), of_one)];
        let config = edge_of(&one, &format!("tls = {{ ca = \"ca.pem\"{of_all} }}\n"));
        let config = config.replace(&server.address().to_string(), &format!("{host}:{port}"));
        let edge = Tidewire::run_in(command(), dir, &config);
        get(edge.address(), "/").expect(200);
        let names: Vec<_> = server.greeted().into_iter().map(|it| it.server_name).collect();
        assert_eq!(names, [Some(heard.to_owned())]);
    }
}

#[test]
fn a_server_that_was_found_has_the_name_that_it_was_found_by() {
    let service = "srv-host=_ws._tcp.service.test,node1.test";
    for (source, records, heard) in [
        ("dns = \"nodes.test:{port}\"", "host-record=nodes.test,127.0.0.1", "nodes.test"),
        ("srv = \"_ws._tcp.service.test\"", "host-record=node1.test,127.0.0.1", "node1.test"),
    ] {
        let rig = Rig::new();
        let tls = TlsServer::new(&rig.ca.server(&["nodes.test", "node1.test"]));
        let server = Backend::start_tls(&tls, script::answers(200, "ok"));
        let port = server.address().port().to_string();
        let records = format!("{records}\n{service},{port},0,1");
        let Some(names) = NameServer::start(&records) else { return };
        let source = source.replace("{port}", &port);
        let found = format!(
            "tls = {{ ca = \"ca.pem\" }}\n\
             discovery = {{ {source}, nameserver = [\"{}\"], timeout = \"10s\" }}\n",
            names.address()
        );
        let edge = rig.run(&edge(&[], &found));
        edge.wait_until_ready();
        get(edge.address(), "/").expect(200);
        let names: Vec<_> = server.greeted().into_iter().map(|it| it.server_name).collect();
        assert_eq!(names, [Some(heard.to_owned())]);
    }
}

#[test]
fn a_certificate_is_shown_to_servers_that_want_one() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let rig = Rig::new();
        rig.ca.sign(Wanted::client("edge")).write(rig.dir.path(), "edge");
        let tls = TlsServer::asking_of_version(&rig.issued(), rig.ca.pem(), version);
        let server = Backend::start_tls(&tls, script::serves("server"));
        let tls = "ca = \"ca.pem\", cert = \"edge.pem\", key = \"edge.key\"";
        let edge = rig.edge(server.address(), tls);
        get(edge.address(), "/").expect(200);
        WebSocket::connect(edge.address(), "/ws").expect_echo("hello");
        assert!(server.greeted().iter().all(|it| it.has_certificate));
    }
}

#[test]
fn a_server_that_does_not_take_our_certificate_says_so() {
    let another = Authority::new("Another");
    for (version, shows, why) in [
        (&rustls::version::TLS13, false, "it wants a certificate of ours"),
        (&rustls::version::TLS13, true, "it does not take our certificate"),
        (&rustls::version::TLS12, true, "it does not take our certificate"),
    ] {
        let rig = Rig::new();
        another.sign(Wanted::client("edge")).write(rig.dir.path(), "edge");
        let tls = TlsServer::asking_of_version(&rig.issued(), rig.ca.pem(), version);
        let server = Backend::start_tls(&tls, script::serves("server"));
        let shown = if shows { ", cert = \"edge.pem\", key = \"edge.key\"" } else { "" };
        let mut edge = rig.edge(server.address(), &format!("ca = \"ca.pem\"{shown}"));
        get(edge.address(), "/").expect(502);
        edge.log_line(&["WARN", "no TLS with the server", "client_certificate", why]);
        edge.log_line(&["request", "status=502", "fault=\"server_tls\""]);
        let upgrade = WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws"));
        assert_eq!(upgrade.unwrap_err().0.status, 502);
        assert!(server.requests().is_empty());
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            // A server that has decided is not asked again.
            let reason = ["reason=\"client_certificate\""];
            edge.expect_metric("edge_server_tls_failures_total", &reason, 2.0);
        }
    }
}

#[test]
fn who_meets_a_server_that_does_not_take_our_certificate_goes_on_to_another() {
    let another = Authority::new("Another");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let rig = Rig::new();
        rig.ca.sign(Wanted::client("edge")).write(rig.dir.path(), "edge");
        let asking =
            |ca: &Authority| TlsServer::asking_of_version(&rig.issued(), ca.pem(), version);
        let takes = Backend::start_tls(&asking(&rig.ca), script::serves("takes it"));
        let refusers = [(); 2].map(|()| Backend::start_tls(&asking(&another), script::mirrors));
        let servers = [refusers[0].address(), refusers[1].address(), takes.address()];
        let tls = "tls = { ca = \"ca.pem\", cert = \"edge.pem\", key = \"edge.key\" }\n";
        let mut edge = rig.run(&edge(&servers, &format!("retries = 2\n{tls}")));
        for _ in 0..3 {
            // Whichever is asked first, and whoever comes first.
            for _ in 0..4 {
                assert_eq!(get(edge.address(), "/").expect(200).text(), "takes it");
            }
            WebSocket::connect(edge.address(), "/ws").expect_echo("hello");
        }
        // What may not be sent twice is not, once it has been sent. In TLS 1.2 it has not.
        let post = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let statuses: Vec<_> = (0..3).map(|_| ask(edge.address(), post).status).collect();
        let lost = statuses.iter().filter(|it| **it == 502).count();
        assert_eq!(lost, if version.version == rustls::ProtocolVersion::TLSv1_3 { 2 } else { 0 });
        for (refuser, name) in refusers.iter().zip(["server1", "server2"]) {
            assert!(refuser.requests().is_empty());
            let labels = [format!("server=\"{name}\""), "reason=\"client_certificate\"".to_owned()];
            let labels = labels.each_ref().map(String::as_str);
            edge.expect_metric_at_least("edge_server_tls_failures_total", &labels, 2.0);
            edge.log_line(&[
                "WARN",
                "no TLS with the server",
                name,
                "does not take our certificate",
            ]);
        }
        edge.expect_metric_at_least("edge_backend_redispatches_total", &[], 4.0);
    }
}

#[test]
fn sessions_with_a_server_are_resumed() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let rig = Rig::new();
        let tls = TlsServer::of_version(&rig.issued(), version);
        let server = Backend::start_tls(&tls, script::serves("server"));
        let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
        for round in 0..5 {
            // Each WebSocket has a connection of its own.
            WebSocket::connect(edge.address(), "/ws").expect_echo("hello");
            let greeted = server.greeted();
            assert_eq!(greeted.len(), 1);
            assert_eq!(greeted[0].is_resumed, round > 0, "{version:?}, round {round}");
        }
        for (result, handshakes) in [("result=\"full\"", 1.0), ("result=\"resumed\"", 4.0)] {
            edge.expect_metric("edge_server_tls_handshakes_total", &[result], handshakes);
        }
    }
}

#[test]
fn a_client_goes_on_to_a_server_that_is_who_it_has_to_be() {
    let rig = Rig::new();
    let wrong = Authority::new("Another").server(&["127.0.0.1"]);
    let wrong = Backend::start_tls(&TlsServer::new(&wrong), script::serves("wrong"));
    let right = rig.server();
    let more = "tls = { ca = \"ca.pem\" }\neject = { connect_errors = 3, base = \"1m\" }\n";
    let mut edge = rig.run(&edge(&[wrong.address(), right.address()], more));
    for _ in 0..6 {
        let mut socket = WebSocket::connect(edge.address(), "/ws");
        socket.expect_echo("hello");
    }
    edge.expect_metric_at_least("edge_backend_redispatches_total", &[], 3.0);
    edge.log_line(&["WARN", "server is ejected", "server=\"server1\""]);
    // Once for all who met it.
    let lines = edge.child.stderr();
    let said = lines.iter().filter(|line| line.contains("no TLS with the server")).count();
    assert_eq!(said, 1, "{lines:#?}");
}

#[test]
fn a_handshake_that_stalls_is_ended_by_the_time_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It takes connections, and says nothing on them.
    let held = thread::spawn(move || {
        let taken: Vec<_> = listener.incoming().map_while(Result::ok).take(2).collect();
        taken.into_iter().for_each(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    });
    let more = "retries = 0\ntimeout.connect = \"300ms\"\ntimeout.server = \"1h\"\n";
    let more = format!("tls = {{ ca = \"ca.pem\" }}\n{more}");
    let mut edge = Rig::new().run(&edge(&[address], &more));
    get(edge.address(), "/").expect(504);
    edge.log_line(&["WARN", "no TLS with the server", "timeout", "was not over in time"]);
    edge.log_line(&["request", "status=504", "fault=\"connect_timeout\""]);
    let upgrade = WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws"));
    assert_eq!(upgrade.unwrap_err().0.status, 504);
    edge.expect_metric("edge_server_tls_failures_total", &["reason=\"timeout\""], 2.0);
    // Both connections are closed.
    held.join().unwrap();
}

#[test]
fn large_messages_pass_both_ways_as_they_are() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let rig = Rig::new();
        let tls = TlsServer::of_version(&rig.issued(), version);
        let server = Backend::start_tls(&tls, script::echoes);
        let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
        let mut socket = WebSocket::connect(edge.address(), "/ws");
        for length in [1, 125, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 70_000, 1_000_000] {
            let message: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
            socket.send_frame(Opcode::Binary, &message);
            assert!(socket.next() == Got::Binary(message), "{length} bytes are others now");
        }
    }
}

#[test]
fn a_body_of_a_server_is_passed_on_and_one_that_is_cut_off_is_not_whole() {
    /// Of a body that ends with the connection.
    fn ends(request: &Request, peer: &mut Peer) {
        peer.send("HTTP/1.1 200 OK\r\n\r\n0123456789");
        if request.target == "/whole" {
            peer.finish();
        }
        peer.close();
    }
    let rig = Rig::new();
    let server = Backend::start_tls(&TlsServer::new(&rig.issued()), ends);
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    assert_eq!(get(edge.address(), "/whole").expect(200).text(), "0123456789");
    let mut peer = Peer::connect(edge.address());
    peer.send("GET /cut HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert!(peer.response_head().headers.has("transfer-encoding"));
    assert_eq!(peer.chunk().as_deref(), Some(&b"0123456789"[..]));
    peer.expect_end();
}

#[test]
fn a_server_that_ends_its_direction_is_heard_to_its_end_and_goes_on_hearing() {
    fn ends(request: &Request, peer: &mut Peer) {
        let mut socket = script::accepts(request, peer);
        socket.send("bye");
        socket.peer.finish();
        // What comes now is said again by nobody, and must be whole.
        assert_eq!(socket.next(), Got::Text("still here".into()));
        assert_eq!(socket.next(), Got::End);
        peer.close();
    }
    let rig = Rig::new();
    let server = Backend::start_tls(&TlsServer::new(&rig.issued()), ends);
    let mut edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    assert_eq!(socket.text(), "bye");
    assert_eq!(socket.next(), Got::End);
    socket.send("still here");
    socket.peer.finish();
    edge.log_line(&["websocket", "by=\"server\"", "reason=\"eof\"", "messages_in=1"]);
}

#[test]
fn a_server_that_is_cut_off_has_not_ended() {
    fn cut_off(request: &Request, peer: &mut Peer) {
        let mut socket = script::accepts(request, peer);
        socket.send("half a sto");
        // TCP ends, and TLS does not.
        peer.close();
    }
    let rig = Rig::new();
    let server = Backend::start_tls(&TlsServer::new(&rig.issued()), cut_off);
    let mut edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    assert_eq!(socket.text(), "half a sto");
    assert_eq!(socket.next(), Got::End);
    edge.log_line(&["websocket", "by=\"server\"", "reason=\"broken\""]);
}

#[test]
fn a_server_is_told_the_end_of_a_client_by_close_notify() {
    fn hears(request: &Request, peer: &mut Peer) {
        let mut socket = script::accepts(request, peer);
        let end = std::iter::from_fn(|| Some(socket.next())).find(|got| *got == Got::End);
        // A TLS connection that ends without it is an error to the library.
        assert!(end.is_some());
        let mut told = Peer::connect(request.headers.get("x-tell").unwrap().parse().unwrap());
        told.send("clean\n");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new();
    let server = Backend::start_tls(&TlsServer::new(&rig.issued()), hears);
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let tell = format!("\r\nX-Tell: {}\r\n\r\n", listener.local_addr().unwrap());
    let text = handshake("/ws").replace("\r\n\r\n", &tell);
    let socket = WebSocket::upgrade(Peer::connect(edge.address()), &text);
    drop(socket);
    let mut heard = String::new();
    listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "clean\n");
}

#[test]
fn authorities_that_change_hold_for_new_connections_and_leave_open_ones_alone() {
    let (rig, another) = (Rig::new(), Authority::new("Another"));
    let server = rig.server();
    let mut edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let mut open = WebSocket::connect(edge.address(), "/ws");
    open.expect_echo("before");
    write(&edge.directory().join("ca.pem"), another.pem());
    edge.log_line(&["INFO", "TLS towards servers: what was read is in use", "backend=\"nodes\""]);
    let address = edge.address();
    let refused = || {
        let upgrade = WebSocket::try_upgrade(Peer::connect(address), &handshake("/ws"));
        upgrade.err().map(|(response, _)| response.status)
    };
    // Nor by a session of before.
    assert_eq!(refused(), Some(502));
    open.expect_echo("still there");
    write(&edge.directory().join("ca.pem"), "half of a");
    edge.log_line(&["ERROR", "TLS towards servers", "`ca` has no certificate"]);
    edge.log_line(&["ERROR", "TLS towards servers", "what was in use stays"]);
    assert_eq!(refused(), Some(502));
    open.expect_echo("still there");
}

#[test]
fn a_hangup_has_the_files_read_at_once() {
    let (rig, another) = (Rig::new(), Authority::new("Another"));
    let server = rig.server();
    write(&rig.dir.path().join("ca.pem"), another.pem());
    let right = rig.ca.pem().to_owned();
    let mut edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    get(edge.address(), "/").expect(502);
    write(&edge.directory().join("ca.pem"), right);
    edge.child.signal(Signal::HUP);
    edge.log_line(&["INFO", "TLS towards servers: what was read is in use"]);
    get(edge.address(), "/").expect(200);
}

#[test]
fn probes_speak_tls_as_clients_connections_do() {
    for check in ["type = \"tcp\"", "type = \"http\"", "type = \"websocket\", path = \"/ws\""] {
        let rig = Rig::new();
        let right = rig.server();
        let wrong = Authority::new("Another").server(&["127.0.0.1"]);
        let wrong = Backend::start_tls(&TlsServer::new(&wrong), script::serves("wrong"));
        let servers = [
            ("right", right.address(), ", check = true"),
            ("wrong", wrong.address(), ", check = true"),
        ];
        let check = format!(
            "tls = {{ ca = \"ca.pem\" }}\n\
             check = {{ {check}, interval = \"50ms\", timeout = \"20s\", rise = 1, fall = 2 }}\n"
        );
        let mut edge = rig.run(&edge_of(&servers, &check));
        edge.log_line(&["WARN", "server is down", "wrong", "is of an issuer that is not believed"]);
        until("the right one is up", || {
            let passed = edge.metric("edge_server_checks_total", &["server=\"right\""]);
            (passed >= 3.0).then_some(())
        });
        assert_eq!(edge.metric("edge_server_up", &["server=\"right\""]), 1.0, "{check}");
        assert_eq!(edge.metric("edge_server_check_failures_total", &["server=\"right\""]), 0.0);
        for _ in 0..4 {
            assert_eq!(get(edge.address(), "/").expect(200).text(), "server");
        }
    }
}

#[test]
fn probes_speak_no_tls_where_the_configuration_says_so() {
    let rig = Rig::new();
    let server = rig.server();
    let plain = Backend::start(script::answers(200, "well"));
    let port = plain.address().port();
    let servers = [("a", server.address(), ", check = true")];
    let config = |more: &str| {
        let check = "type = \"http\", interval = \"50ms\", rise = 1, fall = 2";
        let check = format!("check = {{ {check}, port = {port}, {more} }}\n");
        edge_of(&servers, &format!("tls = {{ ca = \"ca.pem\" }}\n{check}"))
    };
    let with_tls = {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("ca.pem"), rig.ca.pem());
        let mut edge = Tidewire::run_in(command(), dir, &config("tls = true, timeout = \"1s\""));
        edge.log_line(&["WARN", "server is down"]);
        edge
    };
    drop(with_tls);
    plain.requests();
    // Another port is another listener: TLS is for the servers' own.
    let edge = rig.run(&config("timeout = \"20s\""));
    assert_eq!(plain.request().target, "/");
    get(edge.address(), "/").expect(200);
}

/// An edge whose server is on the Unix socket `app.sock`, with `server` in its table.
fn edge_by_socket(server: &str, tls: &str) -> String {
    let check = "type = \"http\", interval = \"50ms\", timeout = \"20s\", rise = 1, fall = 1";
    let nobody = "127.0.0.1:1".parse().unwrap();
    let more = format!("tls = {{ ca = \"ca.pem\"{tls} }}\ncheck = {{ {check} }}\n");
    edge_of(&[("a", nobody, server)], &more).replace("\"127.0.0.1:1\"", "\"unix:app.sock\"")
}

#[test]
fn tls_is_spoken_on_unix_sockets_by_clients_and_probes() {
    let (of_all, of_server) = (", server_name = \"node.test\"", ", server_name = \"app.test\"");
    let cases =
        [("", of_all, "node.test"), (of_server, "", "app.test"), (of_server, of_all, "app.test")];
    for (server, tls, name) in cases {
        let rig = Rig::new();
        let node =
            Backend::start_tls(&TlsServer::new(&rig.ca.server(&[name])), script::serves("a"));
        let door = UnixDoor::open(&rig.dir.path().join("app.sock"), node.address());
        let server = format!("{server}, check = true");
        let edge = rig.run(&edge_by_socket(&server, tls));
        until("probes pass", || {
            (edge.metric("edge_server_checks_total", &[]) >= 3.0).then_some(())
        });
        assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0, "{name}");
        assert_eq!(get(edge.address(), "/").expect(200).text(), "a");
        WebSocket::connect(edge.address(), "/ws").expect_echo("by a file, and sealed");
        // Clients and probes ask for the name, and there is no other way than by the file.
        let greeted = node.greeted();
        assert!(greeted.iter().all(|it| it.server_name.as_deref() == Some(name)), "{greeted:?}");
        // The first of them had the keys of a probe's connection to begin with.
        edge.expect_metric("edge_server_tls_handshakes_total", &["result=\"resumed\""], 2.0);
        assert!(door.accepted() >= 5);
    }
}

#[test]
fn who_is_on_a_unix_socket_has_to_have_the_name_that_is_written() {
    let rig = Rig::new();
    let node =
        Backend::start_tls(&TlsServer::new(&rig.ca.server(&["other.test"])), script::mirrors);
    let _door = UnixDoor::open(&rig.dir.path().join("app.sock"), node.address());
    let server = ", server_name = \"app.test\", check = true";
    let mut edge = rig.run(&edge_by_socket(server, ""));
    edge.log_line(&["WARN", "server is down", "is not for `app.test`, but for other.test"]);
    get(edge.address(), "/").expect(503);
    assert!(node.requests().is_empty(), "it was told something");
}

#[test]
fn a_tls_node_of_nginx_is_reached_by_websockets_and_requests() {
    let rig = Rig::new();
    rig.ca.server(&["node.test"]).write(rig.dir.path(), "node");
    let behind = Backend::start(script::serves("behind nginx"));
    let dir = rig.dir.path().display();
    let Some(nginx) = Nginx::start(&format!(
        "http {{ access_log off; server {{\n\
         listen 127.0.0.1:{{port}} ssl; server_name node.test;\n\
         ssl_certificate {dir}/node.pem; ssl_certificate_key {dir}/node.key;\n\
         ssl_client_certificate {dir}/ca.pem; ssl_verify_client on;\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
         proxy_set_header X-Name $ssl_server_name; proxy_set_header X-Verified $ssl_client_verify;\n\
         }} }} }}\n",
        behind.address()
    )) else {
        return;
    };
    rig.ca.sign(Wanted::client("edge")).write(rig.dir.path(), "edge");
    let tls =
        "ca = \"ca.pem\", server_name = \"node.test\", cert = \"edge.pem\", key = \"edge.key\"";
    let edge = rig.edge(nginx.address(), tls);
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.expect_echo("hello");
    let seen = behind.request();
    assert_eq!(seen.headers.get("x-name"), Some("node.test"));
    assert_eq!(seen.headers.get("x-verified"), Some("SUCCESS"));
    let message = "m".repeat(200_000);
    socket.expect_echo(&message);
    socket.send_close(1000, "");
    assert_eq!(socket.next(), Got::Close(Some(1000), String::new()));
    WebSocket::connect(edge.address(), "/ws").expect_echo("again");
    edge.expect_metric_at_least("edge_server_tls_handshakes_total", &["result=\"resumed\""], 1.0);
}

#[test]
fn a_hub_node_is_reached_by_tls_from_end_to_end() {
    let rig = Rig::new();
    let node_dir = tempfile::tempdir().unwrap();
    rig.issued().write(node_dir.path(), "node");
    let tls = "\n[listen.tls]\ncertificate = [{ cert = \"node.pem\", key = \"node.key\" }]\n";
    let config = hub("node1", "").replace("\n[hub]", &format!("{tls}\n[hub]"));
    let node = Tidewire::run_in(command(), node_dir, &config);
    let edge = rig.edge(node.address(), "ca = \"ca.pem\", min_version = \"1.3\"");
    let mut socket = WebSocket::connect(edge.address(), "/ws/room");
    socket.send("hello");
    assert!(socket.text().contains("hello"));
    drop(socket);
}

#[test]
fn plain_requests_share_a_connection_to_a_tls_server() {
    let rig = Rig::new();
    let server = rig.server();
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let text = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut peer = Peer::connect(edge.address());
    for _ in 0..10 {
        peer.send(text);
        assert_eq!(peer.response().expect(200).text(), "server");
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(
        ask(edge.address(), &text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).status,
        200
    );
}

#[test]
fn a_slow_client_holds_a_tls_server_back() {
    fn floods(request: &Request, peer: &mut Peer) {
        let mut socket = script::accepts(request, peer);
        let message = vec![7; 60_000];
        for _ in 0..200 {
            socket.send_frame(Opcode::Binary, &message);
        }
        while socket.next() != Got::End {}
    }
    let rig = Rig::new();
    let server = Backend::start_tls(&TlsServer::new(&rig.issued()), floods);
    let edge = rig.edge(server.address(), "ca = \"ca.pem\"");
    let peer = Peer::connect_with_buffer(edge.address(), 4096);
    let mut socket = WebSocket::upgrade(peer, &handshake("/ws"));
    let passed = || edge.metric("edge_tunnel_bytes_total", &["to_client"]);
    let mut before = 0.0;
    until("nothing more is taken", || {
        let after = passed();
        (after > 0.0 && std::mem::replace(&mut before, after) == after).then_some(())
    });
    assert!(passed() < 200.0 * 60_000.0, "all of it is held somewhere");
    for _ in 0..200 {
        assert!(socket.next() == Got::Binary(vec![7; 60_000]));
    }
}
