//! Files of TLS that change while the node runs: new connections get what is in them, open ones are
//! left alone, and what is wrong changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tidewire_testkit::certs::{Authority, Wanted, write};
use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

struct Rig {
    ca: Authority,
    edge: Tidewire,
}

impl Rig {
    /// A hub with a certificate for `old.test` at `chain.pem` and `key.pem`, or where `place` puts
    /// it.
    #[track_caller]
    fn new(reload: &str, place: impl Fn(&Path, &Authority)) -> Self {
        let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
        place(dir.path(), &ca);
        let config = format!(
            "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listen.tls]\n\
             certificate = [{{ cert = \"live.pem\", key = \"live.key\" }}]\n\
             reload = \"{reload}\"\n[[route]]\npath = \"/ws/{{topic}}\"\n\
             hub = {{ topic = \"{{topic}}\" }}\n[hub]\n"
        );
        Self { edge: Tidewire::run_in(command(), dir, &config), ca }
    }

    fn connect(&self, name: &str) -> Option<Peer> {
        let client = TlsClient::new(self.ca.pem()).without_resumption();
        Peer::try_connect_tls(self.edge.address(), &client, name).ok()
    }

    #[track_caller]
    fn open(&self, name: &str) -> WebSocket {
        let peer = self.connect(name).expect("there is a certificate for the name");
        WebSocket::upgrade(peer, &handshake("/ws/room"))
    }

    fn dir(&self) -> &Path {
        self.edge.directory()
    }

    #[track_caller]
    fn wait_for(&self, result: &str, count: f64) {
        until("the files are read", || {
            let found = self.edge.metric("edge_tls_reloads_total", &[result]);
            (found == count).then_some(())
        });
    }
}

fn for_old(dir: &Path, ca: &Authority) {
    ca.server(&["old.test"]).write(dir, "live");
}

#[track_caller]
fn echoes(socket: &mut WebSocket, text: &str) {
    socket.send(text);
    assert_eq!(socket.next(), Got::Text(text.to_owned()));
}

#[test]
fn files_that_change_serve_new_connections_and_leave_open_ones_alone() {
    let rig = Rig::new("200ms", for_old);
    let mut before = rig.open("old.test");
    echoes(&mut before, "before");
    rig.ca.server(&["new.test"]).write(rig.dir(), "live");
    rig.wait_for("ok", 1.0);
    let mut after = rig.open("new.test");
    assert!(rig.connect("old.test").is_none());
    echoes(&mut before, "still there");
    assert_eq!(after.next(), Got::Text("still there".to_owned()));
    echoes(&mut after, "after");
    assert_eq!(before.next(), Got::Text("after".to_owned()));
    let expiry = rig.edge.metric("edge_tls_certificate_expiry_timestamp_seconds", &["live.pem"]);
    assert_eq!(expiry, 3_786_912_000.0, "2090-01-01");
}

#[test]
fn a_directory_that_is_swapped_by_a_link_is_seen() {
    // As Kubernetes has it: live.pem -> ..data/live.pem, ..data -> a directory.
    let rig = Rig::new("200ms", |dir, ca| {
        fs::create_dir(dir.join("..1")).unwrap();
        ca.server(&["old.test"]).write(&dir.join("..1"), "live");
        symlink("..1", dir.join("..data")).unwrap();
        for file in ["live.pem", "live.key"] {
            symlink(Path::new("..data").join(file), dir.join(file)).unwrap();
        }
    });
    assert!(rig.connect("old.test").is_some());
    fs::create_dir(rig.dir().join("..2")).unwrap();
    rig.ca.server(&["new.test"]).write(&rig.dir().join("..2"), "live");
    symlink("..2", rig.dir().join("..next")).unwrap();
    fs::rename(rig.dir().join("..next"), rig.dir().join("..data")).unwrap();
    rig.wait_for("ok", 1.0);
    assert!(rig.connect("new.test").is_some());
}

#[test]
fn files_that_are_wrong_change_nothing_and_are_said_once() {
    let mut rig = Rig::new("200ms", for_old);
    let other = rig.ca.server(&["other.test"]);
    write(&rig.dir().join("live.key"), &other.key);
    rig.wait_for("failed", 1.0);
    rig.edge.log_line(&["ERROR", "live.key` is not the key of the certificate"]);
    rig.edge.log_line(&["ERROR", "what was in use stays"]);
    assert!(rig.connect("old.test").is_some());
    write(&rig.dir().join("live.pem"), "half of a");
    rig.wait_for("failed", 2.0);
    rig.edge.log_line(&["ERROR", "live.pem` has no certificate"]);
    assert!(rig.connect("old.test").is_some());
    // The other half comes, and all is well.
    write(&rig.dir().join("live.pem"), &other.cert);
    rig.wait_for("ok", 1.0);
    assert!(rig.connect("other.test").is_some());
    // Each wrong state was read once, however often it was looked at.
    rig.wait_for("failed", 2.0);
}

#[test]
fn an_expired_certificate_does_not_take_the_place_of_a_good_one() {
    // By a hangup: it must not be read between its two files.
    let rig = Rig::new("0s", for_old);
    rig.ca.sign(Wanted::server(&["old.test"]).between(2020, 2021)).write(rig.dir(), "live");
    rig.edge.child.signal(Signal::HUP);
    rig.wait_for("failed", 1.0);
    assert!(rig.connect("old.test").is_some());
}

#[test]
fn a_hangup_has_files_read_at_once_and_reload_0_never_by_themselves() {
    let rig = Rig::new("0s", for_old);
    let mut open = rig.open("old.test");
    rig.ca.server(&["new.test"]).write(rig.dir(), "live");
    rig.edge.child.signal(Signal::HUP);
    rig.wait_for("ok", 1.0);
    assert!(rig.connect("new.test").is_some());
    echoes(&mut open, "still there");
    rig.edge.child.signal(Signal::HUP);
    rig.wait_for("ok", 2.0);
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
    let expired = ca.sign(Wanted::server(&["old.test"]).between(2020, 2021));
    expired.write(dir.path(), "live");
    let config = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listen.tls]\n\
                  certificate = [{ cert = \"live.pem\", key = \"live.key\" }]\n\
                  [[route]]\nrespond = { status = 200 }\n";
    let mut edge = Tidewire::run_in(command(), dir, config);
    edge.log_line(&["warning: `live.pem` expired on 2021-01-01"]);
    edge.log_line(&["ERROR", "expired, clients refuse it", "expires=2021-01-01"]);
}
