//! A real dnsmasq with records of its own, which can be changed and taken away.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::child::Child;
use crate::deadline::until;
use crate::port::{free_port, loopback};
use crate::skip;

/// A running name server for the names under `test`. What it says is true for a second.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    directory: TempDir,
    child: Option<Child>,
}

impl NameServer {
    /// Starts one with these records, a line each: `host-record=NAME,ADDRESS` or
    /// `srv-host=NAME,TARGET,PORT,PRIORITY,WEIGHT`. `None`, said aloud, when there is no such
    /// program.
    #[track_caller]
    pub fn start(records: &str) -> Option<Self> {
        if !skip::has("dnsmasq") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { address: loopback(free_port()), directory, child: None };
        server.serve(records);
        Some(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it say this from now on.
    #[track_caller]
    pub fn serve(&mut self, records: &str) {
        self.stop();
        let file = self.directory.path().join("dnsmasq.conf");
        let port = self.address.port();
        let config = format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
             no-daemon\npid-file\nlocal=/test/\nlocal-ttl=1\n{records}\n"
        );
        std::fs::write(&file, config).expect("a temporary directory can be written to");
        let mut command = Command::new("dnsmasq");
        command.arg(format!("--conf-file={}", file.display()));
        let mut child = Child::spawn(command);
        until("dnsmasq listens", || {
            assert!(!child.has_ended(), "dnsmasq: {:#?}", child.stderr());
            std::net::TcpStream::connect(self.address).ok()
        });
        self.child = Some(child);
    }

    /// It is away: who asks gets no answer.
    pub fn stop(&mut self) {
        self.child = None;
    }
}
