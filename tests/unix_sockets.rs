//! Clients that come by a Unix socket: who may, whose their requests are, and what becomes of the
//! file.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::haproxy::HaProxy;
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script::{answers, echoes};
use tidewire_testkit::tidewire::{Tidewire, command, edge};
use tidewire_testkit::websocket::{WebSocket, handshake};
use tidewire_testkit::witness::Witness;

/// An edge on a Unix socket, and on TCP, before a witness.
struct Rig {
    witness: Witness,
    edge: Tidewire,
    path: PathBuf,
}

impl Rig {
    fn new(listen: &str) -> Self {
        Self::with(listen, "")
    }

    fn with(listen: &str, more: &str) -> Self {
        let witness = Witness::start();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        let config = config(witness.address(), listen, more);
        let edge = Tidewire::run_in(command(), directory, &config);
        Self { witness, edge, path }
    }

    /// The answer to a request with these lines, by the socket.
    fn ask(&self, lines: &str) -> String {
        ask(
            &self.path,
            &format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{lines}\r\n"),
        )
    }

    /// Where the last request came from, as its server has heard.
    fn heard(&self, name: &str) -> String {
        let seen = self.witness.seen().pop().expect("a request has come");
        seen.head.get(name).unwrap_or_default().to_owned()
    }
}

fn config(server: std::net::SocketAddr, listen: &str, more: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    let with = format!("bind = [\"127.0.0.1:0\", \"unix:edge.sock\"]\n{listen}\n");
    edge(&[server], more).replacen(bind, &with, 1)
}

fn ask(path: &Path, text: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    // Whoever is not let in is closed, perhaps before all is written or read.
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn requests_come_by_a_socket_with_its_rights() {
    let mut rig = Rig::new("unix = { mode = \"600\" }");
    let file = std::fs::metadata(&rig.path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o600);
    assert!(rig.ask("").starts_with("HTTP/1.1 200"));
    assert_eq!(rig.heard("x-forwarded-for"), "unknown");
    assert_eq!(rig.heard("forwarded"), "for=unknown;host=a.test;proto=http");
    rig.edge.log_line(&["request", "client=unix "]);
    // It was made beside its name, and nothing is left there.
    let names = std::fs::read_dir(rig.path.parent().unwrap()).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().filter(|it| it.starts_with("edge.sock")).count() == 1, "{names:?}");
}

#[test]
fn a_client_of_the_socket_has_no_address_for_anybody_who_is_told() {
    let (server, service) = (Witness::start(), Backend::start(answers(200, "")));
    let more = format!(
        "[[backend]]\nname = \"login\"\nserver = [{{ name = \"s\", address = \"{}\" }}]\n\
         [[auth]]\nname = \"sso\"\nforward = {{ backend = \"login\", path = \"/verify\" }}\n",
        service.address()
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let told = "auth = \"sso\"\nrequest_header.set.X-Client = \"{client.address}\"\nbackend";
    let config = config(server.address(), "", &more).replacen("backend", told, 1);
    let edge = Tidewire::run_in(command(), directory, &config);
    let rig = Rig { witness: server, edge, path };
    assert!(rig.ask("X-Forwarded-For: 6.6.6.6\r\n").starts_with("HTTP/1.1 200"));
    assert_eq!(service.request().headers.get("x-forwarded-for"), Some("unknown"));
    assert_eq!(rig.heard("x-client"), "unknown");
}

#[test]
fn what_a_client_of_the_socket_says_is_believed_when_unix_is_trusted() {
    let rig = Rig::new("trusted_proxies = { from = \"unix\" }");
    assert!(rig.ask("X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\n").starts_with("HTTP/1.1 200"));
    assert_eq!(rig.heard("x-forwarded-for"), "203.0.113.7, unknown");
    // Not of somebody else.
    let mut peer = Peer::connect(rig.edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    peer.response().expect(200);
    assert_eq!(rig.heard("x-forwarded-for"), "127.0.0.1");
    let rig = Rig::new("trusted_proxies = { from = \"127.0.0.1\" }");
    assert!(rig.ask("X-Forwarded-For: 6.6.6.6\r\n").starts_with("HTTP/1.1 200"));
    assert_eq!(rig.heard("x-forwarded-for"), "unknown");
}

#[test]
fn a_list_of_addresses_lets_no_one_in_who_has_none() {
    let rig = Rig::new("allow = \"127.0.0.1\"");
    assert_eq!(rig.ask(""), "");
    let rig = Rig::new("allow = \"203.0.113.0/24\"\ntrusted_proxies = { from = \"unix\" }");
    assert!(rig.ask("X-Forwarded-For: 203.0.113.7\r\n").starts_with("HTTP/1.1 200"));
    assert!(rig.ask("X-Forwarded-For: 192.0.2.1\r\n").starts_with("HTTP/1.1 403"));
    assert!(rig.ask("").starts_with("HTTP/1.1 403"));
}

#[test]
fn clients_without_an_address_share_no_quota_of_one() {
    let more = "\n[limits]\nprofile = \"off\"\nper_address = { requests = \"1/h\" }\n";
    let rig = Rig::with("limits = { per_address = { connections = 1 } }", more);
    let _held = UnixStream::connect(&rig.path).unwrap();
    for _ in 0..3 {
        assert!(rig.ask("").starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn the_file_goes_with_the_process_and_a_stale_one_makes_way() {
    let witness = Witness::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let other = tempfile::tempdir().unwrap();
    // The same path for each of them.
    let config = config(witness.address(), "", "")
        .replace("unix:edge.sock", &format!("unix:{}", path.display()));
    drop(UnixListener::bind(&path).unwrap());
    let first = Tidewire::run_in(command(), other, &config);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    assert!(ask(&path, get).starts_with("HTTP/1.1 200"));
    // A second one does not take it away.
    let mut check = command();
    let file = directory.path().join("second.toml");
    std::fs::write(&file, &config).unwrap();
    let output = check.arg("run").arg("-c").arg(&file).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot listen on unix:") && said.contains("in use"), "{said}");
    assert!(ask(&path, get).starts_with("HTTP/1.1 200"));
    first.terminate();
    assert!(first.wait().status.success());
    assert!(!path.exists());
    // What is no socket is not touched.
    std::fs::write(&path, "precious").unwrap();
    let output = command().arg("run").arg("-c").arg(&file).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("there is a file that is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_killed_process_leaves_a_file_that_the_next_one_takes() {
    let witness = Witness::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let config = config(witness.address(), "", "")
        .replace("unix:edge.sock", &format!("unix:{}", path.display()));
    let mut first = Tidewire::run(&config);
    first.child.kill();
    assert!(path.exists());
    let _second = Tidewire::run(&config);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    assert!(ask(&path, get).starts_with("HTTP/1.1 200"));
}

#[test]
fn all_workers_serve_what_one_accepts() {
    let backend = Backend::start(echoes);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let config = format!("workers = 2\n{}", config(backend.address(), "", ""));
    let edge = Tidewire::run_in(command(), directory, &config);
    let open = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(handshake("/ws").as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    };
    let _open: Vec<UnixStream> = (0..20).map(|_| open()).collect();
    for worker in 0..2 {
        let label = format!("worker=\"{worker}\"");
        assert!(edge.metric("runtime_connections", &[&label]) >= 8.0);
    }
}

#[test]
fn haproxy_and_nginx_come_by_it() {
    let backend = Backend::start(echoes);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let listen = "unix = { mode = \"666\" }\nproxy_protocol = { from = \"unix\" }";
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut edge = Tidewire::run_in(command(), directory, &config(backend.address(), listen, ""));
    let front = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen front\n  bind 127.0.0.1:{{port}}\n  server edge unix@{} send-proxy-v2\n",
        path.display()
    );
    if let Some(haproxy) = HaProxy::start(&front) {
        let peer = Peer::connect(haproxy.address());
        let client = peer.local_address();
        let mut websocket = WebSocket::upgrade(peer, &handshake("/ws"));
        websocket.expect_echo("through HAProxy and a file");
        drop(websocket);
        edge.log_line(&["websocket", &format!("client={client}"), "via=unix"]);
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let listen = "unix = { mode = \"666\" }\ntrusted_proxies = { from = \"unix\" }";
    let mut edge = Tidewire::run_in(command(), directory, &config(backend.address(), listen, ""));
    let nginx = Nginx::start(&format!(
        "http {{ access_log off; server {{ listen 127.0.0.1:{{port}}; location / {{\n\
         proxy_pass http://unix:{}; proxy_http_version 1.1; proxy_set_header Host $host;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}",
        path.display()
    ));
    if let Some(nginx) = nginx {
        let mut websocket = WebSocket::upgrade(Peer::connect(nginx.address()), &handshake("/ws"));
        websocket.expect_echo("through nginx and a file");
        drop(websocket);
        edge.log_line(&["websocket", "client=127.0.0.1 ", "via=unix"]);
    }
}

#[test]
fn tls_is_spoken_over_a_socket_as_well() {
    let path = tempfile::tempdir().unwrap();
    let authority = tidewire_testkit::certs::Authority::new("test");
    authority.server(&["a.test"]).write(path.path(), "site");
    let names: Vec<_> =
        std::fs::read_dir(path.path()).unwrap().map(|it| it.unwrap().path()).collect();
    let is_cert = |path: &&PathBuf| std::fs::read_to_string(path).unwrap().contains("CERTIFICATE");
    let (cert, key) =
        (names.iter().find(is_cert).unwrap(), names.iter().find(|it| !is_cert(it)).unwrap());
    let listen = format!(
        "tls = {{ certificate = [{{ cert = \"{}\", key = \"{}\" }}] }}",
        cert.display(),
        key.display()
    );
    let rig = Rig::new(&listen);
    let mut curl = std::process::Command::new("curl");
    let ca = path.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(&ca);
    let output = curl.arg("--unix-socket").arg(&rig.path).arg("https://a.test/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{said}");
    assert_eq!(rig.heard("x-forwarded-proto"), "https");
}
