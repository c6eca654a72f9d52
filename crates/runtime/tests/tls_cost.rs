//! What a TLS connection costs: memory while it is idle, and CPU for a handshake and for an echo.
//!
//! The server is a child process, this binary once more, so that nothing of the clients is counted.
//! The memory is a promise; the CPU is printed, by the test that is ignored:
//! `cargo test --release -p tidewire-runtime --test tls_cost -- --ignored cpu --nocapture`

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use support::{Authority, echo_in_scratch, name};
use tidewire_runtime::allocator::Giveback;
use tidewire_runtime::limit::raise_open_files;
use tidewire_runtime::socket::Socket;
use tokio::task::LocalSet;

/// The allocator of the program, as memory is what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Client = StreamOwned<ClientConnection, TcpStream>;

#[test]
fn an_idle_connection_holds_no_buffer() {
    raise_open_files().unwrap();
    let server = Server::start();
    let config = server.client_config();
    // The first ones pay for tables and pages that all share.
    let mut clients = open(&server, &config, 200);
    for client in &mut clients {
        talk(client, 60_000);
    }
    let before = server.settled_memory();
    let mut clients = open(&server, &config, CONNECTIONS);
    let fresh = (server.settled_memory() - before) / CONNECTIONS;
    for client in &mut clients {
        talk(client, 64);
    }
    let most = before + BUDGET_BYTES * CONNECTIONS;
    let idle = server.memory_down_to(most).saturating_sub(before) / CONNECTIONS;
    // The same once they have talked: buffers must have been given back.
    for client in &mut clients {
        talk(client, 60_000);
    }
    let after = server.memory_down_to(most).saturating_sub(before) / CONNECTIONS;
    eprintln!("bytes per idle TLS connection: {fresh} fresh, {idle} used, {after} after 60 KB");
    assert!(idle <= BUDGET_BYTES, "{idle} bytes for each idle connection");
    assert!(after <= BUDGET_BYTES, "{after} bytes for each one that has talked");
    server.stop();
}

#[test]
#[ignore = "prints figures, which mean something in a release build only"]
fn cpu() {
    raise_open_files().unwrap();
    let server = Server::start();
    let mut config = server.client_config();
    let resuming = Arc::new(config.clone());
    config.resumption = Resumption::disabled();
    open(&server, &config, 100);

    let before = server.cpu();
    open(&server, &config, HANDSHAKES);
    let full = (server.cpu() - before) / HANDSHAKES as u32;
    let before = server.cpu();
    for _ in 0..HANDSHAKES {
        let mut client = connect(&server, &resuming);
        talk(&mut client, 64);
    }
    let resumed = (server.cpu() - before) / HANDSHAKES as u32;
    eprintln!("CPU per handshake: {full:?} full, {resumed:?} resumed with an echo");
    for size in [64, 1_000, 16_000, 60_000] {
        let mut client = connect(&server, &resuming);
        talk(&mut client, size);
        let before = server.cpu();
        for _ in 0..ECHOES {
            talk(&mut client, size);
        }
        let cost = (server.cpu() - before) / ECHOES as u32;
        eprintln!("CPU per echo of {size} bytes: {cost:?}");
    }
    server.stop();
}

/// The server, when this binary is started as one.
#[test]
#[ignore = "started by the tests above, in a process of its own"]
fn serve() {
    raise_open_files().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let authority = Authority::new();
        let config = authority.server();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("certificate {}", hex(&authority.certificate));
        println!("listening on {}", listener.local_addr().unwrap());
        tokio::task::spawn_local(async {
            let giveback = Giveback::default();
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                giveback.tick();
            }
        });
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let config = config.clone();
                tokio::task::spawn_local(async move {
                    let accepted = Socket::from_tcp(stream).accept_tls(&config).await;
                    if let Ok((socket, _)) = accepted {
                        tokio::task::spawn_local(echo_in_scratch(socket));
                    }
                });
            }
        });
        // Until the parent closes the pipe, or is gone.
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    });
}

struct Server {
    child: Child,
    /// Kept open, as the child says more when it ends.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    certificate: Vec<u8>,
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
        let certificate = unhex(&said(&mut stdout, "certificate "));
        let address = said(&mut stdout, "listening on ").parse().unwrap();
        Self { child, _stdout: stdout, address, certificate }
    }

    fn client_config(&self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone().into()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[&TLS13]);
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// Its proportional set size in bytes, once it has given back what it does not need.
    fn settled_memory(&self) -> usize {
        let mut memory = self.memory();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.memory();
            if now == memory {
                break;
            }
            memory = now;
        }
        memory
    }

    /// As [`Self::settled_memory`]. A server that is held up has not given back anything yet: it
    /// has some more time to come down to `most`.
    fn memory_down_to(&self, most: usize) -> usize {
        let begun = Instant::now();
        let mut memory = self.settled_memory();
        while memory > most && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
            memory = self.memory();
        }
        memory
    }

    fn memory(&self) -> usize {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// What it has used, all its threads together.
    fn cpu(&self) -> Duration {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            let path = task.unwrap().path().join("schedstat");
            let line = std::fs::read_to_string(path).unwrap();
            sum += line.split_whitespace().next().unwrap().parse::<u64>().unwrap();
        }
        Duration::from_nanos(sum)
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn said(stdout: &mut impl BufRead, word: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the server says {word:?}");
        if let Some((_, rest)) = line.trim().split_once(word) {
            return rest.to_owned();
        }
    }
}

fn open(server: &Server, config: &ClientConfig, count: usize) -> Vec<Client> {
    let config = Arc::new(config.clone());
    (0..count).map(|_| connect(server, &config)).collect()
}

/// A client whose handshake is over, on both sides: it has got its ticket.
fn connect(server: &Server, config: &Arc<ClientConfig>) -> Client {
    let tcp = TcpStream::connect(server.address).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name()).unwrap();
    let mut tcp_half = &tcp;
    while tls.is_handshaking() || tls.tls13_tickets_received() == 0 {
        tls.complete_io(&mut tcp_half).unwrap();
    }
    StreamOwned::new(tls, tcp)
}

fn talk(client: &mut Client, size: usize) {
    client.write_all(&vec![7; size]).unwrap();
    client.flush().unwrap();
    client.read_exact(&mut vec![0; size]).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

const CONNECTIONS: usize = 2_000;
const HANDSHAKES: usize = 1_000;
const ECHOES: usize = 10_000;

/// The whole tunnel may cost 10 KiB; this is the TLS side of it with its task.
const BUDGET_BYTES: usize = 8 * 1024;
