//! A real redis-server, which can be killed and come back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::child::{Child, Signal};
use crate::deadline::{DEADLINE, until};
use crate::port::{free_port, loopback};
use crate::skip;

/// A running redis-server that keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    directory: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one; `None`, said aloud, when there is no such program.
    pub fn start() -> Option<Self> {
        if !skip::has("redis-server") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { port: free_port(), directory, child: None };
        server.run();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, again on the same port if it was killed.
    #[track_caller]
    pub fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.directory.path());
        self.child = Some(Child::spawn(command));
        until("redis answers", || self.command("PING").filter(|reply| reply.contains("PONG")));
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.child = None;
    }

    /// As `kill -STOP`: its connections stay open and nothing answers.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    #[track_caller]
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The raw reply to a command of one line, if there is one.
    pub fn command(&self, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect(loopback(self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
        let mut reply = vec![0; 64 * 1024];
        let length = stream.read(&mut reply).ok()?;
        Some(String::from_utf8_lossy(&reply[..length]).into_owned())
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        self.child.as_ref().expect("it runs").signal(signal);
    }
}
