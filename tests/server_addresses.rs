//! How servers are connected to: what they are told of a client in front of everything else, from
//! which addresses, and with which options of TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::certs::Authority;
use tidewire_testkit::child_socket::{TcpSettings, settings};
use tidewire_testkit::deadline::until;
use tidewire_testkit::haproxy::HaProxy;
use tidewire_testkit::http::get;
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::{WebSocket, switch};
use tidewire_testkit::witness::Witness;

/// A server that hears every byte of each connection, and answers what looks like a request.
struct Ear {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone)]
struct Heard {
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn count(&self, word: &str) -> usize {
        self.text().matches(word).count()
    }
}

impl Ear {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let ear = Self { address, heard: Arc::clone(&heard) };
        thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let index = {
                    let mut heard = heard.lock().unwrap();
                    heard.push(Heard { from, bytes: Vec::new() });
                    heard.len() - 1
                };
                let heard = Arc::clone(&heard);
                thread::spawn(move || hear(stream, &heard, index));
            }
        });
        ear
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The connections on which there were requests with this in their head.
    fn asked(&self, word: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|it| it.text().contains(word)).collect()
    }
}

fn hear(mut stream: TcpStream, heard: &Mutex<Vec<Heard>>, index: usize) {
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let text = {
            let mut heard = heard.lock().unwrap();
            heard[index].bytes.extend_from_slice(&buffer[..length]);
            heard[index].text()
        };
        if !text.ends_with("\r\n\r\n") {
            continue;
        }
        let key = text.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let answer = match key {
            Some(key) => switch(key),
            None => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// An edge with one worker, whose listener has `listen`, before `server`.
fn config(server: SocketAddr, listen: &str, backend: &str) -> String {
    format!(
        "workers = 1\n[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n{listen}\n\n\
         [[route]]\nbackend = \"nodes\"\n\n[[backend]]\nname = \"nodes\"\n{backend}\n"
    )
    .replace("SERVER", &format!("{{ name = \"a\", address = \"{server}\" }}"))
}

fn edge(server: SocketAddr, listen: &str, backend: &str) -> Tidewire {
    Tidewire::run(&config(server, listen, &format!("server = [SERVER]\n{backend}")))
}

const GET: &str = "GET /plain HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[track_caller]
fn ask(peer: &mut Peer) {
    peer.send(GET);
    peer.response().expect(200);
}

fn line(client: SocketAddr, edge: SocketAddr) -> String {
    let (from, to) = (client.ip(), edge.ip());
    format!("PROXY TCP4 {from} {to} {} {}\r\n", client.port(), edge.port())
}

/// The header of version 2 for the same.
fn binary(client: SocketAddr, edge: SocketAddr) -> Vec<u8> {
    let ip = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(it) => it.octets(),
        std::net::IpAddr::V6(_) => panic!("it is IPv4"),
    };
    let ports = [client.port().to_be_bytes(), edge.port().to_be_bytes()].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &ip(client), &ip(edge), &ports].concat()
}

#[test]
fn a_connection_begins_with_whose_it_is_once_and_serves_nobody_else() {
    for version in ["v1", "v2"] {
        let ear = Ear::start();
        let edge = edge(ear.address, "", &format!("send_proxy = \"{version}\""));
        let header = |client: &Peer| match version {
            "v1" => line(client.local_address(), edge.address()).into_bytes(),
            _ => binary(client.local_address(), edge.address()),
        };
        let (mut one, mut other) = (Peer::connect(edge.address()), Peer::connect(edge.address()));
        for _ in 0..3 {
            ask(&mut one);
            ask(&mut other);
        }
        let heard = ear.heard();
        assert_eq!(heard.len(), 2, "each client has a connection, which is kept for it");
        for (heard, client) in heard.iter().zip([&one, &other]) {
            let header = header(client);
            let (found, rest) = heard.bytes.split_at(header.len());
            assert_eq!(found.escape_ascii().to_string(), header.escape_ascii().to_string());
            assert!(rest.starts_with(b"GET /plain HTTP/1.1\r\n"), "{}", heard.text());
            assert_eq!(
                (heard.count("GET /plain"), heard.count("PROXY")),
                (3, usize::from(version == "v1"))
            );
            assert_eq!(heard.count("QUIT"), usize::from(version == "v2"));
        }
        // What others have left is not for a third one.
        let mut third = Peer::connect(edge.address());
        ask(&mut third);
        assert_eq!(ear.heard().len(), 3);
        assert!(ear.heard()[2].bytes.starts_with(&header(&third)));
    }
}

#[test]
fn without_it_connections_are_shared_and_begin_with_the_request() {
    let ear = Ear::start();
    let edge = edge(ear.address, "", "");
    for _ in 0..3 {
        ask(&mut Peer::connect(edge.address()));
    }
    let heard = ear.heard();
    assert_eq!((heard.len(), heard[0].count("GET /plain")), (1, 3));
    assert!(heard[0].bytes.starts_with(b"GET "));
}

#[test]
fn a_websocket_begins_with_its_client() {
    let ear = Ear::start();
    let edge = edge(ear.address, "", "send_proxy = \"v1\"");
    let socket = WebSocket::connect(edge.address(), "/ws");
    let heard = ear.heard();
    let header = line(socket.peer.local_address(), edge.address());
    assert!(heard[0].text().starts_with(&format!("{header}GET /ws HTTP/1.1\r\n")));
}

#[test]
fn it_is_the_client_that_proxies_have_said() {
    let ear = Ear::start();
    let listen = "proxy_protocol = { from = \"127.0.0.1\" }";
    let edge1 = edge(ear.address, listen, "send_proxy = \"v1\"");
    let mut peer = Peer::connect(edge1.address());
    peer.send("PROXY TCP4 203.0.113.7 198.51.100.1 4444 443\r\n");
    ask(&mut peer);
    let expected = "PROXY TCP4 203.0.113.7 198.51.100.1 4444 443\r\nGET ";
    assert!(ear.heard()[0].text().starts_with(expected), "{}", ear.heard()[0].text());

    let ear = Ear::start();
    let listen = "trusted_proxies = { from = \"127.0.0.1\" }";
    let edge2 = edge(ear.address, listen, "send_proxy = \"v1\"");
    let mut peer = Peer::connect(edge2.address());
    let port = edge2.address().port();
    // One connection of a proxy, the requests of several: of two families, as the edge has another.
    for client in ["203.0.113.7", "203.0.113.8", "203.0.113.7", "2001:db8::7"] {
        let forwarded = format!("X-Forwarded-For: {client}\r\n\r\n");
        peer.send(GET.replacen("\r\n\r\n", &format!("\r\n{forwarded}"), 1));
        peer.response().expect(200);
        let last = ear.heard().pop().unwrap();
        let expected = match client.contains(':') {
            true => format!("PROXY TCP6 {client} ::ffff:127.0.0.1 0 {port}\r\nGET "),
            false => format!("PROXY TCP4 {client} 127.0.0.1 0 {port}\r\nGET "),
        };
        assert!(last.text().starts_with(&expected), "{}", last.text());
        assert_eq!(last.count("GET "), 1);
    }
    assert_eq!(ear.heard().len(), 4, "one address may be many clients: none is kept");
}

#[test]
fn of_a_client_without_an_address_nothing_is_said() {
    let ear = Ear::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let config = config(ear.address, "", "server = [SERVER]\nsend_proxy = \"v1\"").replacen(
        "\"127.0.0.1:0\"",
        "[\"127.0.0.1:0\", \"unix:edge.sock\"]",
        1,
    );
    let _edge = Tidewire::run_in(command(), directory, &config);
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = GET.replacen("Host", "Connection: close\r\nHost", 1);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let heard = ear.heard();
    assert_eq!(heard.len(), 2, "nobody knows whether they are one");
    assert!(heard.iter().all(|it| it.text().starts_with("PROXY UNKNOWN\r\nGET ")));
}

#[test]
fn probes_say_that_they_are_the_edge_s_own() {
    for (kind, mark) in [("tcp", ""), ("http", "GET /check"), ("websocket", "GET /check")] {
        let ear = Ear::start();
        let check = format!(
            "server = [{{ name = \"a\", address = \"{}\", check = true }}]\nsend_proxy = \"v1\"\n\
             check = {{ type = \"{kind}\", path = \"/check\", interval = \"50ms\", \
             timeout = \"20s\" }}",
            ear.address
        );
        let _edge = edge_with(ear.address, &check);
        until("it is probed", || (ear.asked("PROXY").len() >= 2).then_some(()));
        let probe = ear.asked("PROXY").remove(0).text();
        assert!(probe.starts_with(&format!("PROXY UNKNOWN\r\n{mark}")), "{kind}: {probe}");
    }
    // Where else than at the server's own address, only when it is said.
    for (more, has_header) in [("", false), (", send_proxy = true", true)] {
        let (ear, server) = (Ear::start(), Backend::start(script::mirrors));
        let check = format!(
            "server = [{{ name = \"a\", address = \"{}\", check = true, check_address = \"{}\" }}]\n\
             send_proxy = \"v2\"\ncheck = {{ type = \"http\", interval = \"50ms\"{more} }}",
            server.address(),
            ear.address
        );
        let _edge = edge_with(ear.address, &check);
        until("it is probed", || (!ear.asked("GET /").is_empty()).then_some(()));
        let probe = ear.asked("GET /").remove(0);
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / ";
        assert_eq!(probe.bytes.starts_with(local), has_header, "{}", probe.text());
    }
}

fn edge_with(server: SocketAddr, backend: &str) -> Tidewire {
    Tidewire::run(&config(server, "", backend))
}

#[test]
fn haproxy_nginx_and_tidewire_take_it() {
    for version in ["v1", "v2"] {
        let send = format!(
            "send_proxy = \"{version}\"\n\
             check = {{ type = \"http\", interval = \"50ms\", timeout = \"20s\" }}"
        );
        let checked = |server: SocketAddr| {
            let server = format!("{{ name = \"a\", address = \"{server}\", check = true }}");
            edge_with("127.0.0.1:1".parse().unwrap(), &format!("server = [{server}]\n{send}"))
        };
        let haproxy = HaProxy::start(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend front\n  bind 127.0.0.1:{port} accept-proxy\n\
             http-request return status 200 content-type text/plain lf-string \"%ci:%cp %fi:%fp\"\n",
        );
        let nginx = Nginx::start(
            "http { access_log off; server { listen 127.0.0.1:{port} proxy_protocol;\n\
             location / { return 200 \"$proxy_protocol_addr:$proxy_protocol_port \
             $proxy_protocol_server_addr:$proxy_protocol_server_port\"; } } }",
        );
        for server in
            [haproxy.as_ref().map(|it| it.address()), nginx.as_ref().map(|it| it.address())]
        {
            let Some(server) = server else { continue };
            let edge = checked(server);
            let mut peer = Peer::connect(edge.address());
            for _ in 0..2 {
                peer.send(GET);
                let expected = format!("{} {}", peer.local_address(), edge.address());
                assert_eq!(peer.response().expect(200).text(), expected);
            }
            until("probes are taken as well", || {
                (edge.metric("edge_server_checks_total", &[]) >= 3.0).then_some(())
            });
            assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);
        }
        let witness = Witness::start();
        let taking = "proxy_protocol = { from = \"127.0.0.1\" }";
        let inner = edge(witness.address(), taking, "");
        let outer = checked(inner.address());
        let mut socket = WebSocket::connect(outer.address(), "/ws");
        socket.expect_echo("through two edges");
        let seen = witness.seen();
        let seen = seen.iter().find(|it| it.head.target == "/ws").expect("it has come");
        // The outer edge says it in a header of the request as well, which the inner one replaces.
        assert_eq!(seen.head.get("x-forwarded-for"), Some("127.0.0.1"));
        let client = socket.peer.local_address();
        drop(socket);
        let mut inner = inner;
        inner.log_line(&["websocket", &format!("client={client}"), "via=127.0.0.1"]);
    }
}

#[test]
fn it_comes_before_tls() {
    let authority = Authority::new("test");
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path();
    authority.server(&["a.test"]).write(files, "site");
    tidewire_testkit::certs::write(&files.join("ca.pem"), authority.pem());
    let witness = Witness::start();
    let shown = files.display();
    let listen = format!(
        "proxy_protocol = {{ from = \"127.0.0.1\" }}\n\
         tls = {{ certificate = [{{ cert = \"{shown}/site.pem\", key = \"{shown}/site.key\" }}] }}"
    );
    let inner = edge(witness.address(), &listen, "");
    let outer = edge(
        inner.address(),
        "",
        &format!(
            "send_proxy = \"v2\"\ntls = {{ ca = \"{shown}/ca.pem\", server_name = \"a.test\" }}"
        ),
    );
    let mut socket = WebSocket::connect(outer.address(), "/ws");
    socket.expect_echo("within TLS");
    let client = socket.peer.local_address();
    drop(socket);
    let mut inner = inner;
    inner.log_line(&["websocket", &format!("client={client}"), "tls=\"1.3\""]);
}

/// How many connections came from each address.
fn sources(ear: &Ear) -> BTreeMap<String, usize> {
    let mut sources = BTreeMap::new();
    for heard in ear.asked("GET /ws") {
        *sources.entry(heard.from.ip().to_string()).or_default() += 1;
    }
    sources
}

#[test]
fn each_server_is_connected_to_from_all_addresses_of_the_pool_in_turn() {
    let ears = [Ear::start(), Ear::start()];
    let servers = ears.each_ref().map(|ear| ear.address);
    let backend = format!(
        "server = [{{ name = \"a\", address = \"{}\" }}, {{ name = \"b\", address = \"{}\" }}]\n\
         source = [\"127.0.0.2-127.0.0.4\", \"127.0.0.5\"]",
        servers[0], servers[1]
    );
    let edge =
        Tidewire::run(&config(servers[0], "", &backend).replacen("workers = 1", "workers = 2", 1));
    // Two servers in turn, and an even number of addresses: each server sees all of them.
    let _open: Vec<_> = (0..40).map(|_| WebSocket::connect(edge.address(), "/ws")).collect();
    for ear in &ears {
        let all = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
        let expected = all.map(|address| (address.to_owned(), 5)).into_iter().collect();
        assert_eq!(sources(ear), expected);
    }
    assert_eq!(edge.metric("edge_backend_source_skips_total", &[]), 0.0);
}

#[test]
fn requests_and_probes_come_from_the_pool_as_well() {
    let ear = Ear::start();
    let backend = format!(
        "server = [{{ name = \"a\", address = \"{}\", check = true }}]\nsource = [\"127.0.0.8/31\"]\n\
         check = {{ type = \"http\", path = \"/check\", interval = \"20ms\" }}",
        ear.address
    );
    let edge = edge_with(ear.address, &backend);
    ask(&mut Peer::connect(edge.address()));
    until("there were some probes", || (ear.asked("/check").len() >= 4).then_some(()));
    let from: Vec<_> = ear.heard().iter().map(|it| it.from.ip().to_string()).collect();
    assert!(from.iter().all(|it| it == "127.0.0.8" || it == "127.0.0.9"), "{from:?}");
    assert!(from.contains(&"127.0.0.8".into()) && from.contains(&"127.0.0.9".into()), "{from:?}");
}

#[test]
fn an_address_that_is_not_this_machine_s_is_passed_over() {
    let ear = Ear::start();
    let mut edge = edge(ear.address, "", "source = [\"203.0.113.99\", \"127.0.0.6\"]");
    edge.log_line(&["WARN", "not this machine's", "first=203.0.113.99"]);
    for _ in 0..4 {
        drop(WebSocket::connect(edge.address(), "/ws"));
    }
    assert_eq!(sources(&ear), BTreeMap::from([("127.0.0.6".to_owned(), 4)]));
    edge.expect_metric("edge_backend_source_skips_total", &[], 2.0);
    assert_eq!(edge.metric("edge_backend_no_source_total", &[]), 0.0);
}

#[test]
fn a_server_is_connected_to_from_addresses_of_its_family_only() {
    let (v4, v6) = (Ear::start(), Ear::start_at("[::1]:0"));
    let servers = |ears: &[&Ear]| {
        let server = |(index, ear): (usize, &&Ear)| {
            format!("{{ name = \"{index}\", address = \"{}\", check = true }}, ", ear.address)
        };
        ears.iter().enumerate().map(server).collect::<String>()
    };
    let check = "check = { type = \"http\", path = \"/check\", interval = \"50ms\" }";
    let check_from = |ears: &[&Ear], source: &str| {
        let backend = format!("server = [{}]\nsource = [{source}]\n{check}", servers(ears));
        let edge = edge_with(v4.address, &backend);
        for _ in 0..8 {
            drop(WebSocket::connect(edge.address(), "/ws"));
        }
        for ear in ears {
            let before = ear.asked("/check").len();
            until("it is probed", || (ear.asked("/check").len() >= before + 2).then_some(()));
        }
        for none in ["edge_backend_source_skips_total", "edge_backend_no_source_total"] {
            assert_eq!(edge.metric(none, &[]), 0.0, "{none} with {source}");
        }
        assert_eq!(edge.metric("edge_server_connect_errors_total", &[]), 0.0, "{source}");
    };
    check_from(&[&v6], "\"::1\"");
    assert_eq!(sources(&v6), BTreeMap::from([("::1".to_owned(), 8)]));
    // In a mixed pool, the turns of IPv4 are among the addresses of it.
    check_from(&[&v4, &v6], "\"127.0.0.2\", \"::1\", \"127.0.0.3\"");
    assert_eq!(sources(&v6), BTreeMap::from([("::1".to_owned(), 12)]));
    assert_eq!(sources(&v4).values().sum::<usize>(), 4);
    let from: BTreeSet<_> = v4.heard().iter().map(|it| it.from.ip().to_string()).collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3"].map(str::to_owned).into(), "clients and probes");
}

#[test]
fn a_server_that_is_found_and_has_a_family_that_no_source_has_is_said() {
    for (at, source, family) in [("[::1]:0", "127.0.0.7", "IPv6"), ("127.0.0.1:0", "::1", "IPv4")] {
        let ear = Ear::start_at(at);
        let directory = tempfile::tempdir().unwrap();
        let server = format!("[[server]]\nname = \"a\"\naddress = \"{}\"\n", ear.address);
        std::fs::write(directory.path().join("servers.toml"), server).unwrap();
        let backend = format!(
            "discovery = {{ file = \"servers.toml\" }}\nsource = [\"{source}\"]\nretries = 0"
        );
        let config = config(ear.address, "", &backend);
        let mut edge = Tidewire::run_in(command(), directory, &config);
        get(edge.address(), "/").expect(503);
        edge.log_line(&["ERROR", "nothing to connect from", "server=\"a\"", family]);
        edge.log_line(&["request", "fault=\"no_source\""]);
        assert_eq!(ear.heard().len(), 0);
    }
}

#[test]
fn it_is_said_when_there_is_no_address_left_to_connect_from() {
    let ear = Ear::start();
    let mut edge = edge(ear.address, "", "source = [\"203.0.113.99\"]\nretries = 0");
    for _ in 0..3 {
        get(edge.address(), "/").expect(503);
    }
    edge.log_line(&["ERROR", "nothing to connect from", "server=\"a\"", "203.0.113.99"]);
    edge.log_line(&["request", "fault=\"no_source\"", "status=503"]);
    edge.expect_metric("edge_backend_no_source_total", &[], 3.0);
    assert_eq!(ear.heard().len(), 0);
}

#[test]
fn connections_to_servers_have_the_options_of_their_backend() {
    let seconds = Duration::from_secs;
    let expected = |time, interval, probes, user_timeout: Option<u64>| TcpSettings {
        is_nodelay: true,
        is_kept_alive: true,
        time: seconds(time),
        interval: seconds(interval),
        probes,
        user_timeout: user_timeout.map(seconds),
    };
    let set = "tcp = { keepalive = { time = \"7s\", interval = \"3s\", probes = 2 }, user_timeout = \"21s\" }";
    let cases = [("", expected(60, 15, 4, Some(120))), (set, expected(7, 3, 2, Some(21)))];
    for (backend, expected) in cases {
        let ear = Ear::start();
        let edge = edge(ear.address, "", backend);
        let _socket = WebSocket::connect(edge.address(), "/ws");
        ask(&mut Peer::connect(edge.address()));
        // The tunnel's, and the one that is kept.
        assert_eq!(settings(&edge.child, ear.address), [expected; 2]);
    }
    let ear = Ear::start();
    let edge =
        edge(ear.address, "", "tcp = { keepalive = { time = \"0s\" }, user_timeout = \"0s\" }");
    let _socket = WebSocket::connect(edge.address(), "/ws");
    let found = settings(&edge.child, ear.address);
    assert!(!found[0].is_kept_alive && found[0].user_timeout.is_none() && found[0].is_nodelay);
}
