//! How the servers of a backend are connected to: from which address, with which options, and with
//! whose header in front.
//!
//! Clients' connections and probes go this one way, so that a server which is found up is one that
//! clients get through to. TLS is spoken on top of it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidewire_runtime::dialer::{Dialer, NoSource};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::unix_peer::{self, UnixFault};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{error, warn};

use crate::address::{Address, HostPort};
use crate::backend::BackendConfig;
use crate::caller::Way;
use crate::send_proxy::{SendProxy, Whose};
use crate::server::Server;

/// How the servers of a backend are connected to.
#[derive(Debug)]
pub struct Connector {
    backend: String,
    pub dialer: Dialer,
    send_proxy: Option<SendProxy>,
    /// When it was said last that there was no address to connect from, or no leave to connect.
    said: Mutex<Option<Instant>>,
}

impl Connector {
    pub fn new(config: &BackendConfig) -> Self {
        let sources = config.source.iter().flat_map(|range| range.addresses());
        Self {
            backend: config.name.clone(),
            dialer: Dialer::new(config.tcp, sources.collect()),
            send_proxy: config.send_proxy,
            said: Mutex::default(),
        }
    }

    /// Whose a connection is that is made because of a client's, or of none; `None` when servers are
    /// not told.
    pub fn whose(&self, way: Option<Way>) -> Option<Whose> {
        self.send_proxy.map(|_| Whose::of(way))
    }

    /// Connects to `server`, because of a client's connection.
    ///
    /// # Errors
    /// As `connect(2)`, or when its name cannot be looked up; for want of an address to connect
    /// from, of kind `AddrNotAvailable`.
    pub async fn socket(&self, server: &Server, way: Option<Way>) -> io::Result<Socket> {
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(connected) = within_the_process(&server.address) {
            return connected;
        }
        let stream = self.stream(server, &server.address, self.whose(way)).await?;
        Ok(Socket::from_tcp(stream))
    }

    /// Connects to `address`, which is where `server` is, or where it is probed, and says whose the
    /// connection is, if that is told.
    ///
    /// # Errors
    /// As [`Connector::socket`].
    pub async fn stream(
        &self,
        server: &Server,
        address: &Address,
        whose: Option<Whose>,
    ) -> io::Result<TcpStream> {
        let mut stream = match address {
            Address::Tcp(address) => self.tcp(server, address).await?,
            Address::Unix(path) => {
                let connected = unix_peer::connect(path).await;
                connected.inspect_err(|fault| self.note_denied(server, fault))?
            }
        };
        if let (Some(version), Some(whose)) = (self.send_proxy, whose) {
            // By itself: there are servers that look for no more than it in what comes first. In a
            // box: connections of which nothing is said do not carry its room.
            Box::pin(async { stream.write_all(&whose.header(version)).await }).await?;
        }
        Ok(stream)
    }

    async fn tcp(&self, server: &Server, address: &HostPort) -> io::Result<TcpStream> {
        if let Some(address) = address.literal() {
            return self.dial(server, address).await;
        }
        let mut last = None;
        for address in address.resolve().await? {
            match self.dial(server, address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a name that resolves has an address"))
    }

    async fn dial(&self, server: &Server, to: SocketAddr) -> io::Result<TcpStream> {
        let connected = self.dialer.connect(to, &server.source_turns).await;
        if let Err(error) = &connected
            && no_source(error).is_some()
            && self.is_time_to_say()
        {
            error!(backend = self.backend, server = server.name, %error, "nothing to connect from");
        }
        connected
    }

    /// Says that a socket may not be opened: the server is well, and only an operator can help.
    fn note_denied(&self, server: &Server, fault: &UnixFault) {
        if matches!(fault, UnixFault::Denied(_)) && self.is_time_to_say() {
            warn!(backend = self.backend, server = server.name, error = %fault, "cannot connect");
        }
    }

    /// Whether it was not said for a while: it is the same for many clients.
    fn is_time_to_say(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = said.is_none_or(|at| at.elapsed() >= SAY_AGAIN);
        if is_time {
            *said = Some(Instant::now());
        }
        is_time
    }

    /// Says which of `source` are not addresses of this machine, now at the start. They may become
    /// so: an address may move between machines.
    pub fn look_at_sources(&self) {
        let is_foreign = |address: &IpAddr| {
            let bound = TcpListener::bind((*address, 0));
            bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
        };
        let foreign: Vec<_> = self.dialer.sources().addresses().filter(is_foreign).collect();
        let Some(first) = foreign.first() else { return };
        let (backend, count) = (&self.backend, foreign.len());
        warn!(backend, count, %first, "addresses in `source` are not this machine's: passed over");
    }
}

/// What was lacking, when a connection could not be made for want of an address of our own.
pub fn no_source(error: &io::Error) -> Option<&NoSource> {
    error.get_ref()?.downcast_ref()
}

#[cfg(any(test, feature = "fuzzing"))]
fn within_the_process(address: &Address) -> Option<io::Result<Socket>> {
    Socket::from_network(address.tcp()?.literal()?)
}

const SAY_AGAIN: Duration = Duration::from_secs(10);
