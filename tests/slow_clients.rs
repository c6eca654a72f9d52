//! Clients that take their time: with a head, a body, a TLS handshake, an answer. Each is cut at its
//! deadline, nobody else waits, and what they hold meanwhile is bounded.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidewire_testkit::attack::raise_open_files;
use tidewire_testkit::certs::{Authority, Wanted};
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::skip;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::WebSocket;
use tidewire_testkit::witness::{Act, Witness};

#[test]
fn slow_heads_are_cut_and_nobody_waits() {
    check_slowhttptest("slowloris", &["-H", "-i", "1", "-t", "GET", "-x", "24"], "/", "5s");
}

#[test]
fn slow_bodies_are_cut_and_nobody_waits() {
    let arguments = ["-B", "-i", "1", "-t", "POST", "-s", "8192", "-x", "24"];
    check_slowhttptest("slow body", &arguments, "/take", "5s");
}

#[test]
fn slow_readers_are_cut_and_nobody_waits() {
    // It reads what its own kernel holds for it before it notices.
    let arguments = ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "4096"];
    check_slowhttptest("slow read", &arguments, "/files/big.bin", "2s");
}

/// Two hundred connections of Debian's `slowhttptest`: all are closed before its limit, its probes
/// are answered throughout, and a WebSocket beside them does not wait. Clients have `deadline`.
#[track_caller]
fn check_slowhttptest(prefix: &str, arguments: &[&str], path: &str, deadline: &str) {
    if !skip::has("slowhttptest") {
        return;
    }
    let deadlines = format!("http_request = \"{deadline}\"\nclient = \"{deadline}\"");
    let rig = Rig::with(&deadlines);
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join(prefix.replace(' ', "_"));
    let mut test = Command::new("slowhttptest");
    test.args(["-c", "200", "-r", "200", "-p", "3", "-l", SECONDS, "-g", "-o"]).arg(&report);
    test.args(arguments).arg("-u").arg(format!("http://{}{path}", rig.edge.address()));
    test.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let test = test.spawn().expect("it is installed");
    let said = thread::spawn(move || test.wait_with_output().expect("it ends by its own limit"));
    let mut neighbour = WebSocket::connect(rig.edge.address(), "/ws");
    let mut longest = Duration::ZERO;
    while !said.is_finished() {
        let asked = Instant::now();
        neighbour.expect_echo("not disturbed");
        longest = longest.max(asked.elapsed());
        neighbour.expect_silence(Duration::from_millis(5));
    }
    let said = String::from_utf8_lossy(&said.join().unwrap().stdout).into_owned();
    assert!(said.contains("No open connections left"), "{said}");
    // Who has to wait for slow clients waits for their deadlines; a busy machine is quicker.
    assert!(longest < Duration::from_secs(4), "an echo took {longest:?}");
    let table = fs::read_to_string(report.with_extension("csv")).expect("its report");
    let seconds: Vec<&str> = table.lines().skip(1).collect();
    assert!(seconds.len() > 1, "{table}");
    let is_served = |line: &&str| line.rsplit(',').next().is_some_and(|it| it.trim() != "0");
    assert!(seconds.iter().all(is_served), "somebody waited:\n{table}");
}

#[test]
fn readers_that_stop_are_cut_at_their_deadline() {
    let rig = Rig::start();
    let readers: Vec<Peer> = ["/files/big.bin", "/big"]
        .into_iter()
        .flat_map(|path| (0..20).map(move |_| path))
        .map(|path| {
            let mut peer = Peer::connect_with_buffer(rig.edge.address(), 4 << 10);
            peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            peer.take(100);
            peer
        })
        .collect();
    let held = rig.edge.child.memory();
    let slow = || rig.edge.child.stderr().iter().filter(|it| it.contains("\"slow\"")).count();
    until("all are cut", || (slow() == readers.len()).then_some(()));
    let after = rig.edge.child.memory();
    assert!(after <= held + (1 << 20), "{after} bytes when they are gone, {held} before");
    rig.check_served();
}

#[test]
fn slow_handshakes_are_cut_at_their_deadline() {
    let ca = Authority::new("Test CA");
    let issued = ca.sign(Wanted::server(&["a.test"]));
    let directory = tempfile::tempdir().unwrap();
    issued.write(directory.path(), "0");
    let config = "workers = 1\n[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [listen.tls]\ncertificate = [{ cert = \"0.pem\", key = \"0.key\" }]\n\
         [[route]]\nrespond = { status = 200, body = \"hi\" }\n\
         [timeout]\nclient_hs = \"4s\"\n";
    let edge = Tidewire::run_in(command(), directory, config);
    // A record of 512 bytes with a ClientHello, as far as it comes.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut dripping: Vec<Peer> = (0..100).map(|_| Peer::connect(edge.address())).collect();
    let begun = Instant::now();
    for byte in hello {
        for peer in &mut dripping {
            // Where the machine is slow, some are cut already.
            let _ = peer.try_send(&[byte]);
        }
        // Whoever comes meanwhile is served.
        let client = TlsClient::new(ca.pem());
        let mut honest = Peer::connect_tls(edge.address(), &client, "a.test");
        honest.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(honest.response().expect(200).text(), "hi");
    }
    dripping.iter_mut().for_each(Peer::expect_gone);
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(12), "the last was cut after {taken:?}");
}

/// Two thousand clients with half a head hold little, keep nobody waiting, and are gone at their
/// deadline.
#[test]
fn two_thousand_half_heads_starve_nobody() {
    raise_open_files();
    let rig = Rig::with("http_request = \"15s\"\nclient = \"2s\"");
    // What a thread needs once is there before.
    rig.check_served();
    let half = || {
        let mut peer = Peer::connect(rig.edge.address());
        peer.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Half: ");
        peer
    };
    let begun = Instant::now();
    let warm: Vec<Peer> = (0..100).map(|_| half()).collect();
    rig.check_served();
    let before = rig.edge.child.memory();
    let mut all: Vec<Peer> = (0..2_000).map(|_| half()).collect();
    rig.check_served();
    let each = rig.edge.child.memory().saturating_sub(before) / all.len() as u64;
    assert!(begun.elapsed() < Duration::from_secs(15), "too slow a machine to tell");
    assert!(each < HALF_HEAD_BYTES, "{each} bytes are held for half a head");
    let asked = Instant::now();
    rig.check_served();
    assert!(asked.elapsed() < Duration::from_secs(6), "a new client waits {:?}", asked.elapsed());
    all.iter_mut().for_each(Peer::expect_gone);
    drop(warm);
    rig.check_served();
}

/// An edge with short deadlines before a server, and with a large file.
struct Rig {
    _witness: Witness,
    edge: Tidewire,
}

impl Rig {
    fn start() -> Self {
        Self::with("http_request = \"5s\"\nclient = \"2s\"")
    }

    fn with(timeouts: &str) -> Self {
        let witness = Witness::acting(|head, _| match head.target.as_str() {
            "/big" => {
                let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n");
                vec![Act::send(length), Act::Flood(vec![b'x'; 1 << 16], BIG)]
            }
            _ if head.is_handshake() => {
                let key = head.get("sec-websocket-key").expect("a clean handshake has a key");
                vec![Act::send(tidewire_testkit::websocket::switch(key)), Act::Echo]
            }
            _ => vec![Act::Body, Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")],
        });
        let directory = tempfile::tempdir().unwrap();
        write_big(&directory);
        let config = format!(
            r#"workers = 1
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
path = "/files/*"
static = {{ dir = "{}" }}
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{}" }}]
[log]
format = "json"
[timeout]
{timeouts}
"#,
            directory.path().display(),
            witness.address()
        );
        Self { edge: Tidewire::run_in(command(), directory, &config), _witness: witness }
    }

    #[track_caller]
    fn check_served(&self) {
        let mut peer = Peer::connect(self.edge.address());
        peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(peer.response().expect(200).text(), "ok");
    }
}

/// A file of zeros that takes no room.
fn write_big(directory: &TempDir) {
    let file = fs::File::create(directory.path().join("big.bin")).unwrap();
    file.set_len(BIG as u64).unwrap();
}

/// More than the kernel holds for two sockets.
const BIG: usize = 64 << 20;
/// The limit of `slowhttptest`; what it tests is over long before.
const SECONDS: &str = "30";
/// hyper's buffer of 8 KiB for a head, the session, its task: 15 KB when measured.
const HALF_HEAD_BYTES: u64 = 24 << 10;
