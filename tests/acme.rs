//! Certificates from an authority: ordered by the real binary from one that checks everything it is
//! sent, and that comes to the node to see whose the names are.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tidewire_testkit::acme::Acme;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::{DEADLINE, SLOW_PROGRAM, until, until_within};
use tidewire_testkit::http::{Request, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{Opcode, client_frame, handshake, server_frame};

/// An authority, and what a node before one server needs to order from it.
struct Site {
    authority: Acme,
    server: Backend,
    storage: TempDir,
    http: u16,
    tls: u16,
}

impl Site {
    fn new() -> Self {
        let (http, tls) = (free_port(), free_port());
        let authority = Acme::start(http, tls);
        let storage = tempfile::tempdir().unwrap();
        Self { authority, server: Backend::start(serve), storage, http, tls }
    }

    /// A node with a plain and a TLS listener, with `more` of its `[acme]`.
    fn config(&self, more: &str) -> String {
        let Self { authority, server, storage, http, tls } = self;
        format!(
            r#"
[acme]
agree_to_terms = true
email = "admin@example.com"
directory = "{}"
ca = "{}"
storage = "{}"
{more}

[[listen]]
name = "secure"
bind = "127.0.0.1:{tls}"
tls = {{ acme = ["a.test", "b.test"] }}

[[listen]]
name = "plain"
bind = "127.0.0.1:{http}"

[[route]]
backend = "nodes"

[[backend]]
name = "nodes"
server = [{{ name = "server1", address = "{}" }}]
"#,
            authority.url(),
            authority.ca_file().display(),
            storage.path().join("acme").display(),
            server.address(),
        )
    }

    fn run(&self, more: &str) -> Tidewire {
        Tidewire::run(&self.config(more))
    }

    /// A WebSocket over TLS, its certificate checked for `name` by the authority's root.
    fn open(&self, name: &str) -> Result<Secure, String> {
        Secure::open(self.tls, &self.authority, name)
    }

    /// Waits until clients are taken in: after failures, each wait of the node is twice as long,
    /// and what another node has ordered is seen ten seconds later.
    fn wait_until_open(&self) -> Secure {
        until_within(SLOW_PROGRAM, "there is a certificate", || self.open("a.test").ok())
    }

    /// The files of the storage of this name.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(self.storage.path(), &mut |path| {
            if path.file_name().is_some_and(|it| it == name) {
                found.push(path.to_owned());
            }
        });
        found
    }
}

/// Echoes to WebSockets, and answers what is none.
fn serve(request: &Request, peer: &mut Peer) {
    match request.headers.has("upgrade") {
        true => script::echoes(request, peer),
        false => script::answers(200, "plain")(request, peer),
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        visit(&path);
        if path.is_dir() {
            walk(&path, visit);
        }
    }
}

/// An open WebSocket over TLS.
#[derive(Debug)]
struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Secure {
    fn open(port: u16, authority: &Acme, name: &str) -> Result<Self, String> {
        let mut this = Self::shake_hands(port, authority, name)?;
        let request = handshake("/ws").replace("a.test", name);
        this.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            this.stream.read_exact(&mut byte).map_err(|error| error.to_string())?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.starts_with("HTTP/1.1 101") { Ok(this) } else { Err(head) }
    }

    fn shake_hands(port: u16, authority: &Acme, name: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(Arc::new(tls), name).unwrap();
        let mut stream = TcpStream::connect_timeout(&loopback(port), DEADLINE)
            .map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).map_err(|error| error.to_string())?;
        }
        Ok(Self { stream: StreamOwned::new(tls, stream) })
    }

    #[track_caller]
    fn expect_echo(&mut self, text: &str) {
        self.stream.write_all(&client_frame(Opcode::Text, text.as_bytes())).unwrap();
        let expected = server_frame(Opcode::Text, text.as_bytes());
        let mut got = vec![0; expected.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert_eq!(got, expected);
    }

    /// The certificate that the node has shown.
    fn shown(&self) -> Vec<u8> {
        let shown = self.stream.conn.peer_certificates().expect("a certificate was shown");
        shown[0].to_vec()
    }
}

#[test]
fn a_certificate_is_ordered_by_tls_alpn_01_and_a_restart_uses_it_again() {
    let site = Site::new();
    let mut node = site.run("");
    let mut socket = site.wait_until_open();
    socket.expect_echo("over TLS");
    site.open("b.test").unwrap().expect_echo("by its other name");
    assert!(site.open("c.test").unwrap_err().contains("not valid for name"), "of another name");
    node.log_line(&["acme: issued", "a.test,b.test"]);
    node.expect_metric("acme_orders_total", &["result=\"issued\""], 1.0);
    assert_eq!(site.authority.contacts(), ["mailto:admin@example.com"]);
    let shown = socket.shown();
    drop(socket);
    node.terminate();
    assert_eq!(node.wait().status.code(), Some(0));
    // An authority that is away is no obstacle to what is kept.
    site.authority.change(|mood| mood.is_down = true);
    let _node = site.run("");
    assert_eq!(site.wait_until_open().shown(), shown);
    assert_eq!((site.authority.asked(), site.authority.accounts()), (1, 1));
}

#[test]
fn a_certificate_is_ordered_by_http_01_before_any_route() {
    let site = Site::new();
    let _node = site.run("challenge = \"http-01\"");
    site.wait_until_open().expect_echo("over TLS");
    // What is not pending goes its way: to the server.
    let server = loopback(site.http);
    get(server, "/.well-known/acme-challenge/no-such-token");
    let request = site.server.request();
    assert_eq!(request.target, "/ws");
    assert_eq!(site.server.request().target, "/.well-known/acme-challenge/no-such-token");
    assert_eq!(site.files("challenges").iter().map(|it| count(it)).sum::<usize>(), 0);
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_renewal_leaves_open_tunnels_alone() {
    let site = Site::new();
    site.authority.change(|mood| {
        (mood.backdated, mood.lifetime) = (Duration::from_secs(14), Duration::from_secs(10));
    });
    let _node = site.run("");
    let mut socket = site.wait_until_open();
    let first = socket.shown();
    socket.expect_echo("before");
    until("another certificate is shown", || {
        site.open("a.test").ok().filter(|it| it.shown() != first)
    });
    socket.expect_echo("after");
    assert_eq!(site.authority.accounts(), 1);
    // The next one may be issued between the two looks.
    until("each has its own key", || {
        (site.authority.keys().len() == site.authority.issued()).then_some(())
    });
}

#[test]
fn until_there_is_a_certificate_clients_are_refused_and_the_log_says_why() {
    let site = Site::new();
    site.authority.change(|mood| mood.is_down = true);
    let mut node = site.run("retry = \"300ms\"");
    node.log_line(&["ERROR", "acme: no certificate", "a.test,b.test", "down for maintenance"]);
    site.open("a.test").map(|_| ()).unwrap_err();
    node.log_line(&["clients are refused until there is a certificate"]);
    site.authority.change(|mood| mood.is_down = false);
    site.wait_until_open().expect_echo("at last");
    let failed = node.metric("acme_orders_total", &["result=\"failed\""]);
    assert!((1.0..10.0).contains(&failed), "{failed} orders failed: each wait is twice as long");
}

#[test]
fn what_an_authority_orders_to_wait_is_waited_also_after_a_restart() {
    let site = Site::new();
    site.authority.change(|mood| mood.rate_limit = Some(3600));
    let mut node = site.run("retry = \"100ms\"");
    let line = node.log_line(&["acme: no certificate", "too many certificates"]);
    let (_, field) = line.split_once("in_seconds=").expect("the line has it");
    let seconds: u64 = field.split(' ').next().unwrap().parse().expect("a number");
    assert!((3500..=3600).contains(&seconds), "{line}");
    node.expect_metric("acme_orders_total", &["result=\"rate_limited\""], 1.0);
    node.terminate();
    node.wait();
    site.authority.change(|mood| mood.rate_limit = None);
    let mut node = site.run("retry = \"100ms\"");
    node.log_line(&["acme: no certificate", "too many certificates"]);
    assert_eq!(site.authority.asked(), 1);
    // The way out for whoever knows better, as the docs say.
    node.terminate();
    node.wait();
    fs::remove_file(&site.files("retry.json")[0]).unwrap();
    let _node = site.run("");
    site.wait_until_open();
}

#[test]
fn a_nonce_that_is_called_bad_is_replaced() {
    let site = Site::new();
    site.authority.change(|mood| mood.bad_nonces = 2);
    let node = site.run("");
    site.wait_until_open();
    assert_eq!(site.authority.asked(), 1);
    assert_eq!(node.metric("acme_orders_total", &["result=\"failed\""]), 0.0);
}

#[test]
fn a_name_that_leads_elsewhere_is_told_with_what_the_authority_saw() {
    let site = Site::new();
    let elsewhere = Backend::start(|request, peer| {
        script::answers(200, "plain")(request, peer);
        peer.close();
    });
    site.authority.change(|mood| mood.http_port = elsewhere.address().port());
    let mut node = site.run("challenge = \"http-01\"\nretry = \"200ms\"");
    let line = node.log_line(&["acme: no certificate", "could not validate a.test"]);
    assert!(line.contains("not the key authorization"), "{line}");
    site.authority.change(|mood| mood.http_port = site.http);
    site.wait_until_open();
}

#[test]
fn an_order_that_hangs_is_given_up_and_repeated() {
    let site = Site::new();
    site.authority.change(|mood| mood.finalize_hangs = true);
    let mut node = site.run("retry = \"200ms\"\ntimeout = \"4s\"");
    node.log_line(&["acme: no certificate", "has not issued the certificate in time"]);
    site.authority.change(|mood| mood.finalize_hangs = false);
    site.wait_until_open();
}

#[test]
fn a_certificate_for_another_key_is_never_used() {
    let site = Site::new();
    site.authority.change(|mood| mood.signs_another_key = true);
    let mut node = site.run("retry = \"200ms\"");
    node.log_line(&["acme: no certificate", "its key is not the certificate's"]);
    assert!(site.files("certificate.pem").is_empty());
    site.authority.change(|mood| mood.signs_another_key = false);
    site.wait_until_open();
}

#[test]
fn an_account_that_the_authority_has_forgotten_is_made_anew() {
    let site = Site::new();
    let node = site.run("");
    site.wait_until_open();
    node.terminate();
    node.wait();
    site.authority.forget_accounts();
    fs::remove_file(&site.files("certificate.pem")[0]).unwrap();
    let _node = site.run("retry = \"100ms\"");
    site.wait_until_open();
    assert_eq!(site.authority.accounts(), 2);
}

#[test]
fn an_account_is_bound_to_one_that_the_authority_knows() {
    let site = Site::new();
    let key_file = site.authority.scratch().join("eab.key");
    fs::write(&key_file, "c2VjcmV0LXNlY3JldC1zZWNyZXQ=\n").unwrap();
    let secret = b"secret-secret-secret".to_vec();
    site.authority.change(|mood| mood.eab = Some(("kid-7".to_owned(), secret)));
    let eab = format!("eab = {{ key_id = \"kid-7\", key_file = \"{}\" }}", key_file.display());
    let mut node = site.run(&eab);
    site.wait_until_open();
    node.log_line(&["acme: new account"]);
    node.terminate();
    let said = node.wait().stderr.concat();
    assert!(!said.contains("c2VjcmV0") && !said.contains("secret-secret"), "{said}");
}

#[test]
fn storage_that_is_spoilt_is_told_and_does_not_end_the_node() {
    let site = Site::new();
    let node = site.run("");
    site.wait_until_open();
    node.terminate();
    node.wait();
    // A certificate that cannot be read: ordered again, once.
    fs::write(&site.files("certificate.pem")[0], "-----BEGIN NONSENSE").unwrap();
    let mut node = site.run("");
    node.log_line(&["ERROR", "certificate.pem is not used"]);
    site.wait_until_open();
    assert_eq!(site.authority.asked(), 2);
    node.terminate();
    node.wait();
    // Directories where files should be: nothing is ordered that cannot be kept.
    let file = site.files("certificate.pem").remove(0);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let mut node = site.run("retry = \"200ms\"");
    node.log_line(&["ERROR", "acme: storage", "certificate.pem"]);
    get(loopback(site.http), "/plain").expect(200);
    assert_eq!(site.authority.asked(), 2);
    fs::remove_dir(&file).unwrap();
    site.wait_until_open();
}

#[test]
fn a_handshake_for_a_challenge_gets_nothing_else_and_no_http() {
    let site = Site::new();
    let _node = site.run("");
    site.wait_until_open();
    // No challenge is pending.
    for name in ["a.test", "c.test"] {
        assert!(site.authority.knock(name).is_err(), "{name}");
    }
    // One of another node, as the storage has it.
    let pending = r#"{ "name": "a.test", "token": "t", "key_authorization": "t.k" }"#;
    let path = site.files("challenges").remove(0).join("of-another-node");
    fs::write(&path, pending).unwrap();
    let mut knocked = until("it is answered", || site.authority.knock("a.test").ok());
    let _ = knocked.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = knocked.read_to_end(&mut answer);
    assert_eq!(String::from_utf8_lossy(&answer), "", "HTTP over a challenge");
    fs::remove_file(&path).unwrap();
    until("it is taken back", || site.authority.knock("a.test").is_err().then_some(()));
    site.wait_until_open().expect_echo("for all others");
}

#[test]
fn nodes_with_one_storage_order_once_whichever_the_authority_comes_to() {
    let site = Site::new();
    let (tls, http) = (free_port(), free_port());
    let elsewhere = |more: &str| {
        let config = site.config(more).replace(&format!(":{}\"", site.tls), &format!(":{tls}\""));
        Tidewire::run(&config.replace(&format!(":{}\"", site.http), &format!(":{http}\"")))
    };
    let issued = |node: &Tidewire| node.metric("acme_orders_total", &["result=\"issued\""]);
    let [one, other] = [site.run(""), elsewhere("")];
    let shown = site.wait_until_open().shown();
    let there = || Secure::open(tls, &site.authority, "a.test").ok();
    assert_eq!(until("the other node has it", there).shown(), shown);
    assert_eq!((issued(&one) + issued(&other), site.authority.asked()), (1.0, 1));
    drop((one, other));
    fs::remove_file(&site.files("certificate.pem")[0]).unwrap();
    // The authority comes to a node that does not order, as it waits after a failure.
    site.authority.change(|mood| mood.is_down = true);
    let waits = site.run("retry = \"1h\"");
    until("it has failed", || site.files("retry.json").first().map(|_| ()));
    site.authority.change(|mood| mood.is_down = false);
    let orders = elsewhere("retry = \"100ms\"");
    assert_ne!(site.wait_until_open().shown(), shown);
    assert_eq!((issued(&waits), issued(&orders)), (0.0, 1.0));
}
