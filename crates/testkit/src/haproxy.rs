//! Debian's HAProxy with a configuration of its own.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::child::Child;
use crate::deadline::until;
use crate::http::get;
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::skip;

/// A running HAProxy.
#[derive(Debug)]
pub struct HaProxy {
    address: SocketAddr,
    _child: Child,
    _directory: TempDir,
}

impl HaProxy {
    /// Starts one with `config`, in which `{port}` stands for the port that it listens on; `None`,
    /// said aloud, when there is no such program.
    #[track_caller]
    pub fn start(config: &str) -> Option<Self> {
        if !skip::has("haproxy") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = loopback(free_port());
        let file = directory.path().join("haproxy.cfg");
        let config = config.replace("{port}", &address.port().to_string());
        std::fs::write(&file, config).expect("a temporary directory can be written to");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let mut child = Child::spawn(command);
        until("haproxy listens", || {
            assert!(!child.has_ended(), "haproxy: {:#?}", child.stderr());
            Peer::try_connect(address).ok()
        });
        Some(Self { address, _child: child, _directory: directory })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a request through it is answered by a server.
    #[track_caller]
    pub fn wait_until_it_reaches_a_server(&self, path: &str) {
        until("haproxy has a server", || (get(self.address, path).status < 500).then_some(()));
    }
}
