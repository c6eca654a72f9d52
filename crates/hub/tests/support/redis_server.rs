//! A real redis-server of a test's own, on a free port of the loopback.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running redis-server; killed when dropped.
pub struct RedisServer {
    port: u16,
    /// What other tests see of its port, also while it is down.
    _reservation: Option<UdpSocket>,
    options: Vec<String>,
    directory: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one, or says that it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(options)?;
        server.run();
        Some(server)
    }

    /// One that has its port and does not run yet.
    pub fn prepare(options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            eprintln!("SKIPPED: redis-server is not installed");
            return None;
        }
        let (port, reservation) = reserve_port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        Some(Self { port, _reservation: reservation, options, directory, child: None })
    }

    /// Starts it, again on the same port if it was killed.
    pub fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// As `kill -STOP`: its connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn url_for(&self, who: &str) -> String {
        format!("redis://{who}@127.0.0.1:{}", self.port)
    }

    /// Runs one command, as redis-cli would, and returns the raw reply.
    pub fn command(&self, arguments: &[&[u8]]) -> String {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&request).unwrap();
        let mut reply = vec![0; 64 * 1024];
        let length = stream.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Killing needs no thaw: SIGKILL ends a stopped process too.
        self.kill();
    }
}

/// A port of the loopback that nobody listens on, below those of outgoing connections, so that none
/// of these takes it while its server is down. It is reserved as the testkit's `free_port` does it:
/// on UDP and another address, where it is in nobody's way.
fn reserve_port() -> (u16, Option<UdpSocket>) {
    let random = RandomState::new();
    let ports = (0_u32..).map(|attempt| 20_000 + (random.hash_one(attempt) % 12_000) as u16);
    let mut reserved = ports.filter_map(|port| {
        let reservation = match UdpSocket::bind((Ipv4Addr::new(127, 77, 77, 77), port)) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return None,
            // There is no second address of the loopback.
            Err(_) => None,
        };
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some((port, reservation))
    });
    reserved.next().expect("attempts do not end")
}
