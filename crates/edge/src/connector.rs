//! How the servers of a backend are connected to.
//!
//! Clients' connections and probes go this one way, so that a server which is found up is one that
//! clients get through to. TLS is spoken on top of it.

use std::io;

use tidewire_runtime::dialer::Dialer;
use tidewire_runtime::socket::Socket;
use tidewire_runtime::unix_peer;
use tokio::net::TcpStream;

use crate::address::{Address, HostPort};
use crate::server::Server;

/// How the servers of a backend are connected to.
#[derive(Debug, Default)]
pub struct Connector {
    dialer: Dialer,
}

impl Connector {
    /// Connects to `server`, for a client.
    ///
    /// # Errors
    /// As `connect(2)`, or when its name cannot be looked up.
    pub async fn socket(&self, server: &Server) -> io::Result<Socket> {
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(connected) = within_the_process(&server.address) {
            return connected;
        }
        self.stream(server, &server.address).await.map(Socket::from_tcp)
    }

    /// Connects to `address`, which is where `server` is, or where it is probed.
    ///
    /// # Errors
    /// As [`Connector::socket`].
    pub async fn stream(&self, server: &Server, address: &Address) -> io::Result<TcpStream> {
        match address {
            Address::Tcp(address) => self.tcp(server, address).await,
            Address::Unix(path) => Ok(unix_peer::connect(path).await?),
        }
    }

    async fn tcp(&self, server: &Server, address: &HostPort) -> io::Result<TcpStream> {
        let turns = &server.source_turns;
        if let Some(address) = address.literal() {
            return self.dialer.connect(address, turns).await;
        }
        let mut last = None;
        for address in address.resolve().await? {
            match self.dialer.connect(address, turns).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a name that resolves has an address"))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
fn within_the_process(address: &Address) -> Option<io::Result<Socket>> {
    Socket::from_network(address.tcp()?.literal()?)
}
