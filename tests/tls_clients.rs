//! Certificates of clients: who is let in, and who is not.

use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidewire_testkit::certs::{Authority, Issued, Wanted, write};
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;

/// An edge that asks clients for certificates by `clients`.
struct Rig {
    servers: Authority,
    clients: Authority,
    edge: Tidewire,
}

impl Rig {
    /// With `client_cert`, the files `ca.pem` and, when `crl` makes one, `crl.pem`.
    #[track_caller]
    fn new(clients: Authority, client_cert: &str, crl: Option<String>) -> Self {
        let servers = Authority::new("Server CA");
        let dir = files(&servers, &clients, crl);
        let config = format!(
            "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listen.tls]\n\
             certificate = [{{ cert = \"0.pem\", key = \"0.key\" }}]\nreload = \"0s\"\n\
             client_cert = {client_cert}\n[[route]]\nrespond = {{ status = 200 }}\n"
        );
        let edge = Tidewire::run_in(command(), dir, &config);
        Self { servers, clients, edge }
    }

    /// Whether a request is answered; why not, otherwise.
    #[track_caller]
    fn ask(&self, client: &TlsClient) -> Result<(), String> {
        let address = self.edge.address();
        let peer = Peer::try_connect_tls(address, client, "a.test");
        let mut peer = peer.map_err(|error| error.to_string())?;
        peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        // In TLS 1.3 the refusal comes after the client's handshake.
        if peer.wait().map_err(|error| error.to_string())? == 0 {
            return Err("the end".to_owned());
        }
        peer.response().expect(200);
        Ok(())
    }

    fn without(&self) -> TlsClient {
        TlsClient::new(self.servers.pem())
    }

    fn with(&self, issued: &Issued) -> TlsClient {
        TlsClient::showing(self.servers.pem(), issued)
    }

    #[track_caller]
    fn refuses(&mut self, client: &TlsClient, alert: &str, logged: &str) {
        let why = self.ask(client).expect_err("this client is refused");
        assert!(why.contains(alert), "{why}");
        self.edge.log_line(&["connection", "reason=\"tls_handshake\"", logged]);
    }
}

fn files(servers: &Authority, clients: &Authority, crl: Option<String>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    servers.server(&["a.test"]).write(dir.path(), "0");
    write(&dir.path().join("ca.pem"), clients.pem());
    if let Some(crl) = crl {
        write(&dir.path().join("crl.pem"), crl);
    }
    dir
}

#[test]
fn a_required_certificate_must_be_there_and_right() {
    let mut rig = Rig::new(Authority::new("Client CA"), r#"{ ca = "ca.pem" }"#, None);
    let good = rig.clients.sign(Wanted::client("ann"));
    assert_eq!(rig.ask(&rig.with(&good)), Ok(()));
    rig.refuses(&rig.without(), "CertificateRequired", "certificate");
    let foreign = Authority::new("Another CA").sign(Wanted::client("eve"));
    rig.refuses(&rig.with(&foreign), "UnknownCA", "UnknownIssuer");
    // An authority that calls itself by the same name is another one.
    let same_name = Authority::new("Client CA").sign(Wanted::client("eve"));
    rig.refuses(&rig.with(&same_name), "Decrypt", "BadSignature");
    let expired = rig.clients.sign(Wanted::client("old").between(2020, 2021));
    rig.refuses(&rig.with(&expired), "CertificateExpired", "certificate expired");
    let early = rig.clients.sign(Wanted::client("young").between(2080, 2090));
    rig.refuses(&rig.with(&early), "", "not valid");
    // A server's certificate by the same authority does not make its owner a client.
    let server = rig.clients.server(&["b.test"]);
    rig.refuses(&rig.with(&server), "", "extended key usage");
    let reason = ["client_certificate"];
    rig.edge.expect_metric("edge_tls_handshake_failures_total", &reason, 6.0);
}

#[test]
fn an_optional_certificate_may_be_absent_but_not_wrong() {
    let optional = r#"{ mode = "optional", ca = ["ca.pem"] }"#;
    let mut rig = Rig::new(Authority::new("Client CA"), optional, None);
    assert_eq!(rig.ask(&rig.without()), Ok(()));
    let good = rig.clients.sign(Wanted::client("ann"));
    assert_eq!(rig.ask(&rig.with(&good)), Ok(()));
    let expired = rig.clients.sign(Wanted::client("old").between(2020, 2021));
    rig.refuses(&rig.with(&expired), "CertificateExpired", "certificate expired");
}

#[test]
fn a_revoked_certificate_is_refused() {
    let clients = Authority::new("Client CA");
    let (ann, eve) = (clients.sign(Wanted::client("ann")), clients.sign(Wanted::client("eve")));
    let crl = clients.revokes(&[&eve]);
    let client_cert = r#"{ ca = "ca.pem", crl = "crl.pem" }"#;
    let mut rig = Rig::new(clients, client_cert, Some(crl));
    assert_eq!(rig.ask(&rig.with(&ann)), Ok(()));
    rig.refuses(&rig.with(&eve), "CertificateRevoked", "Revoked");
}

#[test]
fn a_list_that_is_out_of_date_lets_nobody_in() {
    let clients = Authority::new("Client CA");
    let ann = clients.sign(Wanted::client("ann"));
    let crl = clients.revokes_until(&[], 2021);
    let client_cert = r#"{ ca = "ca.pem", crl = "crl.pem" }"#;
    let mut rig = Rig::new(clients, client_cert, Some(crl));
    rig.edge.log_line(&["crl.pem` was to be renewed by 2021-01-01"]);
    rig.refuses(&rig.with(&ann), "", "client's certificate");
}

#[test]
fn what_is_revoked_meanwhile_cannot_come_in_by_a_ticket() {
    let clients = Authority::new("Client CA");
    let ann = clients.sign(Wanted::client("ann"));
    let crl = clients.revokes(&[]);
    let client_cert = r#"{ ca = "ca.pem", crl = "crl.pem" }"#;
    let mut rig = Rig::new(clients, client_cert, Some(crl));
    let client = rig.with(&ann);
    for _ in 0..2 {
        assert_eq!(rig.ask(&client), Ok(()));
    }
    rig.edge.expect_metric("edge_tls_handshakes_total", &["resumed"], 1.0);
    write(&rig.edge.directory().join("crl.pem"), rig.clients.revokes(&[&ann]));
    rig.edge.child.signal(tidewire_testkit::child::Signal::HUP);
    rig.edge.expect_metric("edge_tls_reloads_total", &["ok"], 1.0);
    rig.refuses(&client, "CertificateRevoked", "Revoked");
}

#[test]
fn a_ticket_does_not_outlive_the_certificate_that_it_was_got_with() {
    let mut rig = Rig::new(Authority::new("Client CA"), r#"{ ca = "ca.pem" }"#, None);
    // Time enough for both on a busy machine.
    let end = SystemTime::now() + Duration::from_secs(7);
    let client = rig.with(&rig.clients.sign(Wanted::client("ann").until(end)));
    for _ in 0..2 {
        assert_eq!(rig.ask(&client), Ok(()));
    }
    rig.edge.expect_metric("edge_tls_handshakes_total", &["resumed"], 1.0);
    until("it is refused", || rig.ask(&client).err());
    rig.edge.log_line(&["has expired since its session began"]);
}
