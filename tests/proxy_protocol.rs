//! The PROXY protocol before a listener: required of the peers that are listed for it, taken from
//! nobody else, and what it says is where the client is.

use std::time::Duration;

use tidewire_testkit::certs::Authority;
use tidewire_testkit::haproxy::HaProxy;
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script::echoes;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{WebSocket, handshake};
use tidewire_testkit::witness::Witness;
use tidewire_testkit::{backend::Backend, deadline::until};

const LISTED: &str = "proxy_protocol = { from = \"127.0.0.0/8\" }";

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An edge before a witness, with `listen` of its listener's keys and `more` behind.
struct Rig {
    witness: Witness,
    edge: Tidewire,
}

impl Rig {
    fn new(listen: &str) -> Self {
        Self::with(listen, "")
    }

    fn with(listen: &str, more: &str) -> Self {
        let witness = Witness::start();
        let edge = Tidewire::run(&config(witness.address(), listen, more));
        Self { witness, edge }
    }

    /// With little patience for headers.
    fn hasty(listen: &str) -> Self {
        let witness = Witness::start();
        let config = config(witness.address(), listen, "").replace("\"20s\"", "\"1s\"");
        Self { witness, edge: Tidewire::run(&config) }
    }

    fn connect(&self) -> Peer {
        Peer::connect(self.edge.address())
    }

    /// A connection that begins with `bytes`.
    fn begin(&self, bytes: impl AsRef<[u8]>) -> Peer {
        let mut peer = self.connect();
        peer.send(bytes);
        peer
    }

    /// Where the last request came from, as its server has heard.
    fn forwarded_for(&self) -> String {
        let seen = self.witness.seen().pop().expect("a request has come");
        seen.head.get("x-forwarded-for").expect("the client's address is there").to_owned()
    }

    /// Waits until so many headers have come to this.
    #[track_caller]
    fn expect_outcomes(&self, result: &str, expected: f64) {
        until(result, || (self.outcomes(result) >= expected).then_some(()));
        assert_eq!(self.outcomes(result), expected, "{result}");
    }

    fn outcomes(&self, result: &str) -> f64 {
        let text = self.edge.metrics();
        let label = format!("result=\"{result}\"");
        let line =
            text.lines().find(|it| it.starts_with("edge_proxy_headers") && it.contains(&label));
        line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

fn config(server: std::net::SocketAddr, listen: &str, more: &str) -> String {
    format!(
        "[timeout]\nclient_hs = \"20s\"\n\n[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         {listen}\n\n[[route]]\nbackend = \"nodes\"\n\n[[backend]]\nname = \"nodes\"\n\
         server = [{{ name = \"server1\", address = \"{server}\" }}]\n{more}"
    )
}

fn line(client: &str) -> String {
    format!("PROXY TCP4 {client} 198.51.100.1 4444 80\r\n")
}

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, body].concat()
}

fn tcp4(client: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let addresses = [&client[..], &[198, 51, 100, 1], &[0x11, 0x5c, 0, 80], tlvs].concat();
    binary(1, 0x11, &addresses)
}

#[test]
fn the_client_is_where_the_header_says() {
    let mut rig = Rig::new(LISTED);
    for (header, client) in [
        (line("203.0.113.7").into_bytes(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4444 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.8 ::1 4444 80\r\n".to_vec(), "203.0.113.8"),
        (tcp4([203, 0, 113, 9], b"\x20\0\x02hi"), "203.0.113.9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0, 0, &[]), "127.0.0.1"),
        (binary(1, 0, &[7; 30]), "127.0.0.1"),
    ] {
        let mut peer = rig.begin([&header[..], GET.as_bytes()].concat());
        peer.response().expect(200);
        assert_eq!(rig.forwarded_for(), client);
        // It holds for the connection.
        peer.send(GET);
        peer.response().expect(200);
        assert_eq!(rig.forwarded_for(), client);
    }
    rig.edge.log_line(&["request", "client=203.0.113.7:4444", "via=127.0.0.1"]);
    rig.edge.log_line(&["request", "client=[2001:db8::7]:4444", "via=127.0.0.1"]);
    rig.expect_outcomes("client", 4.0);
    rig.expect_outcomes("own", 3.0);
}

#[test]
fn a_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let rig = Rig::with(LISTED, "");
    let headers = [line("203.0.113.7").into_bytes(), tcp4([203, 0, 113, 7], b"\x20\0\x02hi")];
    for header in headers {
        let whole = [&header[..], GET.as_bytes()].concat();
        for cut in [1, 5, 12, 15, header.len() - 1, header.len(), header.len() + 1] {
            let mut peer = rig.begin(&whole[..cut]);
            until("it has the first piece", || {
                (rig.edge.metric("runtime_connections", &[]) >= 1.0).then_some(())
            });
            peer.send(&whole[cut..]);
            peer.response().expect(200);
            assert_eq!(rig.forwarded_for(), "203.0.113.7");
            peer.close();
        }
    }
    assert_eq!(rig.witness.doubts(), []);
}

#[test]
fn it_comes_before_tls() {
    let authority = Authority::new("test");
    let dir = tempfile::tempdir().unwrap();
    authority.server(&["a.test"]).write(dir.path(), "server");
    let witness = Witness::start();
    let tls = "tls = { certificate = [{ cert = \"server.pem\", key = \"server.key\" }] }";
    let config = config(witness.address(), &format!("{LISTED}\n{tls}"), "");
    let files: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
    let config = config
        .replace("server.pem", &files.iter().find(|it| is_cert(it)).unwrap().display().to_string())
        .replace(
            "server.key",
            &files.iter().find(|it| !is_cert(it)).unwrap().display().to_string(),
        );
    let edge = Tidewire::run(&config);
    let haproxy = HaProxy::start(&front(edge.address(), "send-proxy-v2"));
    let Some(haproxy) = haproxy else { return };
    let client = TlsClient::new(authority.pem());
    let mut peer = Peer::connect_tls(haproxy.address(), &client, "a.test");
    peer.send(GET);
    peer.response().expect(200);
    let seen = witness.seen().pop().unwrap().head;
    assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
    // A handshake without a header before it is none.
    assert!(Peer::try_connect_tls(edge.address(), &client, "a.test").is_err());
}

fn is_cert(path: &std::path::Path) -> bool {
    std::fs::read_to_string(path).unwrap().contains("CERTIFICATE")
}

#[test]
fn whoever_is_listed_and_says_none_is_closed() {
    let mut rig = Rig::new(LISTED);
    for (bytes, reason, result) in [
        (GET.as_bytes().to_vec(), "another protocol than PROXY", "not_proxy"),
        (b"\x16\x03\x01\x02\0\x01".to_vec(), "another protocol than PROXY", "not_proxy"),
        (b"PROXY TCP4 203.0.113.7 1.1.1.1 1 2\n".to_vec(), "a line of version 1", "malformed"),
        (b"PROXY TCP4 203.0.113.07 1.1.1.1 1 2\r\n".to_vec(), "a line of version 1", "malformed"),
        (format!("PROXY UNKNOWN {}", "x".repeat(200)).into(), "longer than 107 bytes", "malformed"),
        (tcp4([203, 0, 113, 7], b"\x20\xff\xffhi"), "a TLV reaches beyond", "malformed"),
        (tcp4([203, 0, 113, 7], b"\x03\0\x04abcd"), "the checksum is wrong", "checksum"),
        (tcp4([0, 0, 0, 0], b""), "0.0.0.0, is nobody's", "malformed"),
        (binary(1, 0x11, &[1; 11]), "11 more bytes, too few", "malformed"),
        (binary(1, 0x12, &[1; 12]), "0x12 is no family", "malformed"),
        (binary(2, 0x11, &[1; 12]), "command 2", "malformed"),
        (
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[1; 12]].concat(),
            "65535 more bytes, over the limit of 4096",
            "malformed",
        ),
    ] {
        let before = rig.outcomes(result);
        rig.begin(&bytes).expect_gone();
        rig.edge.log_line(&["connection", "reason=\"proxy_header\"", "phase=\"proxy\"", reason]);
        rig.expect_outcomes(result, before + 1.0);
    }
    assert_eq!(rig.witness.count(), 0);
}

#[test]
fn a_second_header_is_no_request() {
    let rig = Rig::new(LISTED);
    let twice = format!("{}{}{GET}", line("203.0.113.7"), line("203.0.113.8"));
    let mut peer = rig.begin(twice);
    peer.response().expect(400);
    peer.expect_gone();
    assert_eq!(rig.witness.count(), 0);
}

#[test]
fn half_a_header_is_cut_in_time() {
    let mut rig = Rig::hasty(LISTED);
    for half in
        [&b""[..], b"P", b"PROXY TCP4 203.0.113.7 1.1", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb"]
    {
        let mut peer = rig.begin(half);
        peer.expect_gone();
        rig.edge.log_line(&["reason=\"client_hs_timeout\"", "phase=\"proxy\""]);
    }
    // One byte at a time does not make it longer.
    let mut slow = rig.connect();
    for byte in line("203.0.113.7").as_bytes() {
        std::thread::sleep(Duration::from_millis(120));
        if slow.try_send(&[*byte]).is_err() {
            break;
        }
    }
    slow.expect_gone();
    rig.expect_outcomes("timeout", 5.0);
    assert_eq!(rig.witness.count(), 0);
    // Whoever leaves before is no news.
    let rig = Rig::new(LISTED);
    drop(rig.begin("PROXY TCP4"));
    rig.expect_outcomes("eof", 1.0);
    assert_eq!(rig.witness.count(), 0);
}

#[test]
fn a_peer_that_is_not_listed_is_closed_unread_or_served_as_itself() {
    let mut rig = Rig::new("proxy_protocol = { from = \"192.0.2.0/24\" }");
    rig.begin(line("203.0.113.7") + GET).expect_gone();
    rig.begin(GET).expect_gone();
    rig.edge.log_line(&[
        "reason=\"denied\"",
        "phase=\"proxy\"",
        "not listed for the PROXY protocol",
    ]);
    rig.expect_outcomes("unlisted", 2.0);
    assert_eq!(rig.witness.count(), 0);

    let rig = Rig::new("proxy_protocol = { from = \"192.0.2.0/24\", others = \"serve\" }");
    rig.begin(GET).response().expect(200);
    assert_eq!(rig.forwarded_for(), "127.0.0.1");
    // What it says is a bad request, and not a header.
    for header in [line("203.0.113.7").into_bytes(), tcp4([203, 0, 113, 7], b"")] {
        let answer = rig.begin([&header[..], GET.as_bytes()].concat()).response();
        assert_eq!(answer.status, 400);
    }
    assert_eq!(rig.witness.count(), 1);
}

#[test]
fn rules_and_limits_are_for_the_client_and_not_for_the_balancer() {
    let listen = format!(
        "{LISTED}\nallow = \"203.0.113.0/24\"\ndeny = \"203.0.113.66\"\n\
         limits = {{ per_address = {{ connections = 2 }} }}"
    );
    let backend = Backend::start(echoes);
    let more = "\n[limits]\nprofile = \"off\"\n";
    let mut edge = Tidewire::run(&config(backend.address(), &listen, more));
    let begin = |edge: &Tidewire, client: &str| {
        let mut peer = Peer::connect(edge.address());
        peer.send(line(client));
        peer
    };
    begin(&edge, "203.0.113.66").expect_gone();
    edge.log_line(&["client=203.0.113.66:4444", "reason=\"denied\""]);
    begin(&edge, "192.0.2.9").expect_gone();
    let open = |client: &str| WebSocket::upgrade(begin(&edge, client), &handshake("/ws"));
    // More than one address may have, from one balancer.
    let mut all: Vec<_> = (1..=4)
        .flat_map(|last| {
            let client = format!("203.0.113.{last}");
            [open(&client), open(&client)]
        })
        .collect();
    let mut third = begin(&edge, "203.0.113.1");
    third.response().expect(429);
    all.iter_mut().for_each(|one| one.expect_echo("still here"));
    assert_eq!(
        backend.request().headers.get("x-forwarded-for").map(|it| it.starts_with("203.0.113.")),
        Some(true)
    );
}

#[test]
fn those_who_wait_with_their_header_do_not_keep_others_out() {
    let rig = Rig::with(&format!("{LISTED}\nlimits = {{ total = {{ connections = 3 }} }}"), "");
    let _silent: Vec<Peer> = (0..20).map(|_| rig.connect()).collect();
    rig.begin(line("203.0.113.7") + GET).response().expect(200);
}

#[test]
fn a_drain_does_not_wait_for_headers() {
    let rig = Rig::new(LISTED);
    let mut silent = rig.begin("PROXY ");
    until("it is there", || (rig.edge.metric("runtime_connections", &[]) == 1.0).then_some(()));
    rig.edge.terminate();
    silent.expect_gone();
    assert!(rig.edge.wait().status.success());
}

/// HAProxy before the edge, passing bytes on.
fn front(edge: std::net::SocketAddr, how: &str) -> String {
    format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen front\n  bind 127.0.0.1:{{port}}\n  server edge {edge} {how}\n"
    )
}

#[test]
fn haproxy_says_where_clients_are() {
    for how in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let backend = Backend::start(echoes);
        let mut edge = Tidewire::run(&config(backend.address(), LISTED, ""));
        let Some(haproxy) = HaProxy::start(&front(edge.address(), how)) else { return };
        let peer = Peer::connect(haproxy.address());
        let client = peer.local_address();
        let mut websocket = WebSocket::upgrade(peer, &handshake("/ws"));
        websocket.expect_echo("through HAProxy");
        drop(websocket);
        edge.log_line(&["websocket", &format!("client={client}"), "via=127.0.0.1"]);
    }
}

#[test]
fn haproxy_checks_its_server_with_local() {
    let rig = Rig::new(LISTED);
    let how = "send-proxy-v2 check check-send-proxy inter 50ms";
    let Some(haproxy) = HaProxy::start(&front(rig.edge.address(), how)) else { return };
    until("checks have come", || (rig.outcomes("own") >= 2.0).then_some(()));
    let mut peer = Peer::connect(haproxy.address());
    peer.send(GET);
    peer.response().expect(200);
}

#[test]
fn nginx_says_where_clients_are() {
    let backend = Backend::start(echoes);
    let mut edge = Tidewire::run(&config(backend.address(), LISTED, ""));
    let blocks = format!(
        "stream {{ server {{ listen 127.0.0.1:{{port}}; proxy_pass {}; proxy_protocol on; }} }}",
        edge.address()
    );
    let Some(nginx) = Nginx::start(&blocks) else { return };
    let peer = Peer::connect(nginx.address());
    let client = peer.local_address();
    let mut websocket = WebSocket::upgrade(peer, &handshake("/ws"));
    websocket.expect_echo("through nginx");
    drop(websocket);
    edge.log_line(&["websocket", &format!("client={client}"), "via=127.0.0.1"]);
}

#[test]
fn a_tidewire_can_stand_behind_a_balancer_that_speaks_ipv6() {
    let witness = Witness::start();
    let port = free_port();
    let listen = "proxy_protocol = { from = \"::1\" }";
    let config = config(witness.address(), listen, "")
        .replace("bind = \"127.0.0.1:0\"", &format!("bind = [\"127.0.0.1:0\", \"[::1]:{port}\"]"));
    let edge = Tidewire::run_by(command(), &config);
    let mut peer = Peer::connect(std::net::SocketAddr::new("::1".parse().unwrap(), port));
    peer.send(line("203.0.113.7") + GET);
    peer.response().expect(200);
    let seen = witness.seen().pop().unwrap().head;
    assert_eq!(seen.get("x-forwarded-for"), Some("203.0.113.7"));
    let _ = (edge, loopback(port));
}
