//! The log of somebody who reads slowly, or not at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ChildStderr;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tidewire_testkit::child::{Child, Signal};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::tidewire::command;

#[test]
fn lines_that_the_log_drops_are_counted() {
    let (node, _stderr) = Node::start("trace");
    assert_eq!(node.dropped(), 0);
    let mut client = TcpStream::connect(node.public).unwrap();
    let mut reader = client.try_clone().unwrap();
    let answers = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    let many = REQUEST.repeat(100);
    until("lines are dropped", || {
        client.write_all(many.as_bytes()).unwrap();
        (node.dropped() > 0).then_some(())
    });
    // And it still serves.
    assert_eq!(http::get(node.public, "/").status, 204);
    drop(node);
    let _ = answers.join().unwrap();
}

/// Also where that takes longer than all else that is done at the end.
#[test]
fn the_last_lines_are_written_however_slowly_they_are_read() {
    const ROUNDS: usize = 40;
    let (node, mut stderr) = Node::start("info");
    let mut client = Peer::connect(node.public);
    for _ in 0..ROUNDS {
        client.send(REQUEST.repeat(100));
        (0..100).for_each(|_| assert_eq!(client.response().status, 204));
    }
    assert_eq!(node.dropped(), 0);
    node.child.signal(Signal::TERM);
    let (mut said, mut some) = (Vec::new(), [0; 32 << 10]);
    while let count @ 1.. = stderr.read(&mut some).unwrap() {
        said.extend_from_slice(&some[..count]);
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(node.child.wait().status.code(), Some(0));
    let said = String::from_utf8(said).unwrap();
    let requests = said.lines().filter(|line| line.contains("access: request ")).count();
    assert_eq!(requests, 100 * ROUNDS);
    assert!(said.ends_with('\n'), "the last line is whole");
}

/// A program whose log is not read by itself.
struct Node {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    _directory: TempDir,
}

impl Node {
    fn start(level: &str) -> (Self, ChildStderr) {
        let (public, admin) = (loopback(free_port()), loopback(free_port()));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tidewire.toml");
        let text = format!(
            "workers = 1\n[[listen]]\nname = 'public'\nbind = '{public}'\n\
             [[route]]\nrespond = {{ status = 204 }}\n[admin]\nbind = '{admin}'\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut run = command();
        run.arg("run").arg("-c").arg(&file).env("TIDEWIRE_LOG", level);
        let (child, stderr) = Child::spawn_unread(run);
        until("it serves", || TcpStream::connect(public).and(TcpStream::connect(admin)).ok());
        (Self { child, public, admin, _directory: directory }, stderr)
    }

    #[track_caller]
    fn dropped(&self) -> u64 {
        let text = http::get(self.admin, "/metrics").expect(200).text();
        let line = text.lines().find_map(|it| it.strip_prefix("runtime_log_lines_dropped_total"));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        line.trim_start_matches("{}").trim().parse().expect("a count")
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
