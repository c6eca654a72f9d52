//! What an idle client costs in memory: the budget that the hub is held to.
//!
//! The server is a child process, this binary once more, so that nothing of the clients is counted.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use support::service::{TestNode, config};
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_runtime::limit::raise_open_files;
use tidewire_runtime::units::Period;

#[test]
#[cfg(target_os = "linux")]
fn an_idle_client_costs_no_more_than_its_budget() {
    raise_open_files().unwrap();
    let server = Server::start();
    // The first ones pay for tables and pages that all share.
    let mut clients = open(server.address, 0..1_000);
    let before = server.memory();
    clients.extend(open(server.address, 1_000..5_000));
    let idle = (server.memory() - before) / 4_000;
    // The same clients once they have talked: buffers must have been given back.
    for client in &mut clients {
        talk(client);
    }
    let after = (server.memory() - before) / 4_000;
    eprintln!("bytes for each idle client: {idle} fresh, {after} after 16 KiB of talk");
    assert!(idle <= BUDGET_BYTES, "{idle} bytes for each idle client");
    assert!(after <= BUDGET_BYTES * 11 / 10, "{after} bytes for each client that has talked");
    server.stop();
}

/// The server, when this binary is started as one.
#[tokio::test]
#[ignore = "started by the test above, in a process of its own"]
async fn serve() {
    raise_open_files().unwrap();
    let memory = MemoryBroker::new();
    let mut config = config("server");
    config.ping = Period::from_secs(600);
    let node = TestNode::start(config, &memory, 1);
    println!("listening on {}", node.address);
    // Until the parent closes the pipe, or is gone.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
}

struct Server {
    child: Child,
    /// Kept open, as the child says more when it ends.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the server says where it listens");
            if let Some((_, address)) = line.trim().split_once("listening on ") {
                break address.parse().unwrap();
            }
        };
        Self { child, _stdout: stdout, address }
    }

    /// Its proportional set size, in bytes.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Clients on a hundred topics.
fn open(address: SocketAddr, numbers: std::ops::Range<usize>) -> Vec<TcpStream> {
    let open = |number: usize| {
        let mut client = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /others/{} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            number % 100
        );
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let length = client.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 101"));
        client
    };
    numbers.map(open).collect()
}

/// Sends 16 KiB of pings in two pieces that cut a frame, and reads the pongs: a topic's messages
/// would go to all its clients.
fn talk(client: &mut TcpStream) {
    let ping = [&b"\x89\xFD\0\0\0\0"[..], &[7; 125]].concat();
    let pings = ping.repeat(PINGS);
    for half in [&pings[..5_000], &pings[5_000..]] {
        client.write_all(half).unwrap();
    }
    client.read_exact(&mut vec![0; PINGS * (2 + 125)]).unwrap();
}

const PINGS: usize = 128;
const BUDGET_BYTES: usize = 1536;
