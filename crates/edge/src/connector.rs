//! How the servers of a backend are connected to: from which address, with which options, and with
//! whose header in front.
//!
//! Clients' connections and probes go this one way, so that a server which is found up is one that
//! clients get through to. TLS is spoken on top of it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidewire_runtime::dialer::{Dialer, NoSource};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::unix_peer::{self, UnixFault};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::address::{Address, HostPort};
use crate::backend::BackendConfig;
use crate::caller::Way;
use crate::send_proxy::{SendProxy, Whose};
use crate::server::Server;
use crate::timeout::Timeouts;

/// How the servers of a backend are connected to.
#[derive(Debug)]
pub struct Connector {
    backend: String,
    pub dialer: Dialer,
    send_proxy: Option<SendProxy>,
    /// The time that a connection has, whatever addresses its server's name has.
    connect_time: Duration,
    /// When it was said last that there was no address to connect from, or no leave to connect.
    said: Mutex<Option<Instant>>,
}

impl Connector {
    pub fn new(config: &BackendConfig, timeouts: &Timeouts) -> Self {
        let sources = config.source.iter().flat_map(|range| range.addresses());
        Self {
            backend: config.name.clone(),
            dialer: Dialer::new(config.tcp, sources.collect()),
            send_proxy: config.send_proxy,
            connect_time: timeouts.connect(),
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
        let only = match address.literal() {
            Some(address) => address,
            None => match *address.resolve().await? {
                [address] => address,
                // In a box: what several attempts need is not room in each connection that needs one.
                ref several => return Box::pin(self.first_of(server, several)).await,
            },
        };
        self.dial(server, only).await
    }

    /// Connects to whichever of `addresses` answers first (RFC 8305): the next is tried when one has
    /// failed, or is silent for a while, as the silent ones would use up all the time there is.
    async fn first_of(&self, server: &Server, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let addresses = in_turn(addresses);
        // Each has its turn before the time for a connection is over.
        let pace = self.connect_time / addresses.len().max(1) as u32;
        let pace = pace.min(NEXT_ADDRESS_AFTER);
        let mut dials = FuturesUnordered::new();
        let mut last = None;
        for address in addresses {
            dials.push(self.dial(server, address));
            let connected = timeout(pace, first_connected(&mut dials, &mut last)).await;
            if let Ok(Some(stream)) = connected {
                return Ok(stream);
            }
        }
        let connected = first_connected(&mut dials, &mut last).await;
        connected.ok_or_else(|| last.expect("a name that resolves has an address"))
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

/// The first that is connected; `None` when all have failed, the last of them as `last` says.
async fn first_connected(
    dials: &mut FuturesUnordered<impl Future<Output = io::Result<TcpStream>>>,
    last: &mut Option<io::Error>,
) -> Option<TcpStream> {
    while let Some(connected) = dials.next().await {
        match connected {
            Ok(stream) => return Some(stream),
            Err(error) => *last = Some(error),
        }
    }
    None
}

/// The two families by turns, in the order of each, and the first stays so: one whose network is
/// broken has many addresses as likely as one.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (ours, others): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|it| it.is_ipv4() == is_v4);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let pairs = std::iter::from_fn(|| match [ours.next(), others.next()] {
        [None, None] => None,
        pair => Some(pair),
    });
    pairs.flatten().flatten().take(ADDRESSES_MAX).collect()
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

/// "Connection Attempt Delay" (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Of one name, as many are tried for a connection.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(connect: &str) -> Connector {
        let config = serde_json::from_str(r#"{ "name": "nodes" }"#).unwrap();
        let timeouts: Timeouts =
            serde_json::from_value(serde_json::json!({ "connect": connect })).unwrap();
        Connector::new(&config, &timeouts)
    }

    fn server() -> Server {
        let config = serde_json::from_str(r#"{ "name": "a", "address": "a.test:80" }"#).unwrap();
        Server::new(&config, Duration::ZERO)
    }

    /// An address that nobody answers at, for as long as what holds it lives: the queue of a
    /// listener that accepts nobody is full.
    async fn black_hole() -> (SocketAddr, impl Sized) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(FULL_AFTER, TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (address, (listener, waiting))
    }

    #[tokio::test]
    async fn a_silent_address_does_not_cost_a_name_its_others() {
        let (silent, _held) = black_hole().await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let well = listener.local_addr().unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for addresses in [vec![silent, well], vec![silent, refusing, well], vec![refusing, well]] {
            let connector = connector("10m");
            let (server, shown) = (server(), format!("{addresses:?}"));
            let connected = connector.first_of(&server, &addresses);
            // The one that is silent is given up by its kernel after two minutes.
            let stream = timeout(Duration::from_secs(60), connected).await.expect(&shown).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), well, "{shown}");
        }
    }

    #[tokio::test]
    async fn when_all_addresses_have_failed_it_is_said_at_once() {
        let refusing = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let all = vec![refusing(), refusing()];
        let error = connector("10m").first_of(&server(), &all).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn families_take_turns_and_the_first_stays_first() {
        let check = |given: &str, expected: &str| {
            let of = |digit: char| match digit.is_ascii_digit() {
                true => SocketAddr::from(([10, 0, 0, digit as u8 - b'0'], 80)),
                false => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, digit as u16], 80)),
            };
            let all = |text: &str| text.chars().map(of).collect::<Vec<_>>();
            assert_eq!(in_turn(&all(given)), all(expected), "{given}");
        };
        check("abc12", "a1b2c");
        check("12a", "1a2");
        check("123", "123");
        check("a", "a");
        check("", "");
    }

    const FULL_AFTER: Duration = Duration::from_millis(200);
}
