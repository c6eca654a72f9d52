//! Where a request's client is, when a proxy says so that is trusted to: for lists of addresses,
//! limits, the log, redirects, the Origin and servers.

use std::net::SocketAddr;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::haproxy::HaProxy;
use tidewire_testkit::http::{Request, Response, ask};
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script::echoes;
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::websocket::{WebSocket, handshake};
use tidewire_testkit::witness::Witness;
use tidewire_testkit::witness::head::Head;

const TRUSTED: &str = "trusted_proxies = { from = [\"127.0.0.0/8\", \"10.0.0.0/8\"] }";

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

    fn ask(&self, lines: &str) -> Response {
        ask(self.edge.address(), &format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"))
    }

    /// What the server gets of a request with these lines.
    #[track_caller]
    fn seen(&self, lines: &str) -> Head {
        self.ask(lines).expect(200);
        self.witness.seen().pop().expect("a request has come").head
    }

    #[track_caller]
    fn check(&self, lines: &str, forwarded_for: &str) {
        let head = self.seen(lines);
        assert_eq!(head.all("x-forwarded-for"), [forwarded_for], "{lines:?}");
    }
}

fn config(server: SocketAddr, listen: &str, more: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    edge(&[server], more).replacen(bind, &format!("{bind}{listen}\n"), 1)
}

#[test]
fn the_last_address_that_is_not_trusted_is_the_client() {
    let mut rig = Rig::new(TRUSTED);
    rig.check("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7, 127.0.0.1");
    rig.check(
        "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2\r\n",
        "203.0.113.7, 10.0.0.2, 127.0.0.1",
    );
    rig.check(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 2001:db8::7\r\n",
        "2001:db8::7, 127.0.0.1",
    );
    rig.check("", "127.0.0.1");
    let line = rig.edge.log_line(&["request", "client=203.0.113.7 "]);
    assert!(line.contains("via=127.0.0.1"), "{line}");
    let head = rig.seen(
        "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil.test\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
    );
    assert_eq!(
        head.get("forwarded"),
        Some("for=203.0.113.7;host=a.test;proto=https, for=127.0.0.1")
    );
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));
    assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
    assert_eq!(head.get("x-real-ip"), None);
    assert!(head.headers.iter().all(|(_, value)| !value.contains("6.6.6.6")), "{head:?}");
}

#[test]
fn whoever_is_not_trusted_says_nothing() {
    let rig = Rig::new("trusted_proxies = { from = \"10.0.0.0/8\", host = true }");
    let head = rig.seen(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n",
    );
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.get("x-forwarded-proto"), Some("http"));
    assert_eq!(head.get("host"), Some("a.test"));
    assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
}

#[test]
fn what_cannot_be_read_leaves_the_proxy_and_is_counted() {
    let rig = Rig::new(TRUSTED);
    let long = "10.0.0.2, ".repeat(500);
    let mut count = 0.0;
    for odd in
        ["unknown", "203.0.113.7, nonsense", "203.0.113.7:x", "0.0.0.0", "::", "\u{fc}", &long]
    {
        rig.check(&format!("X-Forwarded-For: {odd}\r\n"), "127.0.0.1");
        count += 1.0;
        rig.edge.expect_metric("edge_client_addresses_unreadable_total", &[], count);
    }
    let rig = Rig::new("trusted_proxies = { from = \"127.0.0.1\", header = \"forwarded\" }");
    for odd in
        ["for=\"6.6.6.6, for=203.0.113.7", "for=_hidden", "for=1.1.1.1;for=2.2.2.2", "garbage"]
    {
        rig.check(&format!("Forwarded: {odd}\r\n"), "127.0.0.1");
    }
    rig.edge.expect_metric("edge_client_addresses_unreadable_total", &[], 4.0);
}

#[test]
fn one_header_is_believed_and_no_other() {
    let lines = "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=203.0.113.2\r\n\
                 CF-Connecting-IP: 203.0.113.3\r\nX-Real-IP: 203.0.113.4\r\n";
    for (header, client) in [
        ("x-forwarded-for", "203.0.113.1"),
        ("Forwarded", "203.0.113.2"),
        ("CF-Connecting-IP", "203.0.113.3"),
        ("x-real-ip", "203.0.113.4"),
    ] {
        let listen = format!(
            "trusted_proxies = {{ from = \"127.0.0.1\", header = \"{header}\", onward = \"client\" }}"
        );
        let rig = Rig::new(&listen);
        rig.check(lines, client);
        rig.check("", "127.0.0.1");
    }
    // Two of what is single were not set by one proxy.
    let rig = Rig::new("trusted_proxies = { from = \"127.0.0.1\", header = \"cf-connecting-ip\" }");
    rig.check("CF-Connecting-IP: 6.6.6.6\r\nCF-Connecting-IP: 203.0.113.3\r\n", "127.0.0.1");
}

#[test]
fn the_scheme_is_the_one_that_the_client_has_asked_by() {
    let listen = format!("{TRUSTED}\nhttps_redirect = 443");
    let rig = Rig::new(&listen);
    let https = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(rig.seen(https).get("x-forwarded-proto"), Some("https"));
    for lines in ["X-Forwarded-Proto: http\r\n", "", "X-Forwarded-Proto: gopher\r\n"] {
        let answer = rig.ask(lines).expect(308);
        assert_eq!(answer.headers.get("location"), Some("https://a.test/"));
    }
    let deaf = "trusted_proxies = { from = \"127.0.0.1\", scheme = false }\nhttps_redirect = 443";
    Rig::new(deaf).ask(https).expect(308);
}

#[test]
fn the_host_is_taken_from_proxies_that_say_it() {
    let rig = Rig::new("trusted_proxies = { from = \"127.0.0.1\", host = true }");
    let head = rig.seen("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Host: b.test:81\r\n");
    assert_eq!(head.get("host"), Some("b.test:81"));
    assert_eq!(head.get("x-forwarded-host"), Some("b.test:81"));
    rig.ask("X-Forwarded-Host: b test\r\n").expect(400);
    assert_eq!(
        rig.seen("X-Forwarded-Host: b.test\r\nX-Forwarded-Host: c.test\r\n").get("host"),
        Some("a.test")
    );
    let rig =
        Rig::new("trusted_proxies = { from = \"127.0.0.1\", header = \"forwarded\", host = true }");
    let head = rig.seen(
        "Forwarded: for=6.6.6.6;host=evil, for=203.0.113.7;host=\"b.test:81\";proto=https\r\n",
    );
    assert_eq!(head.get("host"), Some("b.test:81"));
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));
}

#[test]
fn lists_and_limits_are_for_each_client_of_a_proxy() {
    let listen = format!(
        "{TRUSTED}\ndeny = \"203.0.113.66\"\nlimits = {{ per_address = {{ connections = 1 }} }}"
    );
    let more =
        "\n[limits]\nprofile = \"off\"\nper_address = { requests = \"2/h\", connections = 1 }\n";
    let backend =
        Backend::start(|request: &Request, peer: &mut Peer| match request.headers.has("upgrade") {
            true => echoes(request, peer),
            false => peer.send("HTTP/1.1 204 No Content\r\n\r\n"),
        });
    let edge = Tidewire::run(&config(backend.address(), &listen, more));
    // The clients of one connection.
    let mut proxy = Peer::connect(edge.address());
    let mut status = |client: &str| {
        proxy.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: {client}\r\n\r\n"));
        proxy.response().status
    };
    for client in ["203.0.113.1", "203.0.113.2"] {
        let found: Vec<u16> = (0..3).map(|_| status(client)).collect();
        assert_eq!(found.last(), Some(&429), "{client}: {found:?}");
        assert!(!found[..2].contains(&429), "{client}: {found:?}");
    }
    assert_eq!(status("203.0.113.66"), 403);
    let from = |client: &str| {
        handshake("/ws").replacen("\r\n\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n\r\n"), 1)
    };
    let open = |client: &str| WebSocket::try_upgrade(Peer::connect(edge.address()), &from(client));
    let mut all: Vec<WebSocket> =
        (1..=5).map(|last| open(&format!("198.51.100.{last}")).unwrap()).collect();
    assert_eq!(open("198.51.100.1").map(|_| ()).unwrap_err().0.status, 429);
    all.iter_mut().for_each(|one| one.expect_echo("of its own"));
}

#[test]
fn a_client_cannot_spend_the_quota_of_another() {
    let more = "\n[limits]\nprofile = \"off\"\nper_address = { requests = \"1/h\" }\n";
    let rig = Rig::with("trusted_proxies = { from = \"10.0.0.0/8\" }", more);
    rig.ask("X-Forwarded-For: 203.0.113.1\r\n").expect(200);
    rig.ask("X-Forwarded-For: 203.0.113.2\r\n").expect(429);
}

/// An edge before a hub node that asks Origin: the page of the edge's own site, by TLS that ends
/// before the edge, and that of another.
#[test]
fn a_hub_node_behind_an_edge_agrees_with_it_about_origins() {
    let bind = "bind = \"127.0.0.1:0\"\n";
    let node = hub("a", "").replacen(bind, &format!("{bind}{TRUSTED}\n"), 1);
    let mut node = Tidewire::run(&node);
    let rig = Tidewire::run(&config(node.address(), TRUSTED, ""));
    let with = |origin: &str| {
        let lines = format!(
            "\r\nOrigin: {origin}\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n"
        );
        handshake("/ws/echo").replacen("\r\n\r\n", &lines, 1)
    };
    let host = handshake("/").lines().find_map(|it| it.strip_prefix("Host: ").map(str::to_owned));
    let host = host.expect("a handshake has a host");
    let open =
        |address, origin: &str| WebSocket::try_upgrade(Peer::connect(address), &with(origin));
    let refused = |address, origin: &str| open(address, origin).map(|_| ()).unwrap_err().0.status;
    drop(open(rig.address(), &format!("https://{host}")).unwrap());
    node.log_line(&["websocket", "client=203.0.113.7 "]);
    for address in [rig.address(), node.address()] {
        assert_eq!(refused(address, "https://evil.test"), 403);
        assert_eq!(refused(address, &format!("http://{host}")), 403);
    }
}

/// A front that speaks HTTP, in its own words; `6.6.6.6` is what a client claims through it.
fn through(front: SocketAddr, edge: &mut Tidewire) {
    let peer = Peer::connect(front);
    let text = handshake("/ws").replacen("\r\n\r\n", "\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", 1);
    let mut websocket = WebSocket::upgrade(peer, &text);
    websocket.expect_echo("through a proxy");
    drop(websocket);
    // The client is on the loopback, too, and so the last address that is not trusted: 127.0.0.1
    // has to stay out of `from` for that, but for the port, which nobody says.
    edge.log_line(&["websocket", "client=127.0.0.1 ", "via=127.0.0.2"]);
}

const FRONT: &str = "trusted_proxies = { from = \"127.0.0.2\" }";

#[test]
fn haproxy_adds_the_client_and_what_it_claims_is_not_believed() {
    let backend = Backend::start(echoes);
    let mut edge = Tidewire::run(&config(backend.address(), FRONT, ""));
    let haproxy = HaProxy::start(&format!(
        "defaults\n  mode http\n  option forwardfor\n  timeout connect 5s\n  timeout client 30s\n  \
         timeout server 30s\nlisten front\n  bind 127.0.0.1:{{port}}\n  source 127.0.0.2\n  \
         server edge {}\n",
        edge.address()
    ));
    let Some(haproxy) = haproxy else { return };
    through(haproxy.address(), &mut edge);
}

#[test]
fn nginx_adds_the_client_and_what_it_claims_is_not_believed() {
    let backend = Backend::start(echoes);
    let mut edge = Tidewire::run(&config(backend.address(), FRONT, ""));
    let nginx = Nginx::start(&format!(
        "http {{ access_log off; server {{ listen 127.0.0.1:{{port}}; location / {{\n\
         proxy_pass http://{}; proxy_bind 127.0.0.2; proxy_http_version 1.1;\n\
         proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}",
        edge.address()
    ));
    let Some(nginx) = nginx else { return };
    through(nginx.address(), &mut edge);
}
