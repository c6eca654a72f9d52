//! Connections that we make: from which address of this machine, and with which options.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::source_pool::SourcePool;
use crate::tcp_options::TcpOptions;

/// How connections are made that are alike.
#[derive(Debug, Default)]
pub struct Dialer {
    tcp: TcpOptions,
    /// Empty where the kernel chooses.
    sources: SourcePool,
    spent: Spent,
    pub counts: DialCounts,
}

/// What is counted about connections that are made.
#[derive(Debug, Default)]
pub struct DialCounts {
    /// Source addresses that were passed over, as they had no port left or are not this machine's.
    pub skips: AtomicU64,
    /// Connections that could not be made for want of a source address.
    pub exhausted: AtomicU64,
}

/// Why a connection could not be made for want of an address of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSource {
    pub to: SocketAddr,
    /// Addresses that had no port left.
    pub spent: usize,
    /// One that is not this machine's, if there was one.
    pub foreign: Option<IpAddr>,
    /// Whether there are addresses to choose from at all.
    pub has_pool: bool,
}

impl NoSource {
    /// Whether it is for want of ports, and not of an address.
    pub fn is_for_want_of_ports(&self) -> bool {
        // Without a pool, the kernel says the same when this machine has no IPv6.
        self.spent > 0 && (self.has_pool || self.to.is_ipv4())
    }
}

impl Dialer {
    pub fn new(tcp: TcpOptions, sources: SourcePool) -> Self {
        Self { tcp, sources, spent: Spent::default(), counts: DialCounts::default() }
    }

    /// The addresses that connections are made from; none where the kernel chooses.
    pub fn sources(&self) -> &SourcePool {
        &self.sources
    }

    /// Connects to `to`. `turns` counts the connections to the same server: each of them begins with
    /// the next source address, and goes on to another one while there is no port.
    ///
    /// # Errors
    /// As `connect(2)`; of kind `AddrNotAvailable`, a [`NoSource`].
    pub async fn connect(&self, to: SocketAddr, turns: &AtomicUsize) -> io::Result<TcpStream> {
        let has_pool = !self.sources.is_empty();
        let mut missed = NoSource { to, spent: 0, foreign: None, has_pool };
        if !has_pool {
            match self.connect_from(None, to).await {
                Err(Missed::Spent) => missed.spent = 1,
                Err(Missed::Foreign) => {}
                Err(Missed::Failed(error)) => return Err(error),
                Ok(stream) => return Ok(stream),
            }
        } else {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            for source in self.sources.turn(to, turn) {
                match self.connect_from(Some(source), to).await {
                    Err(Missed::Spent) => missed.spent += 1,
                    Err(Missed::Foreign) => missed.foreign = Some(source),
                    Err(Missed::Failed(error)) => return Err(error),
                    Ok(stream) => return Ok(stream),
                }
                self.counts.skips.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.counts.exhausted.fetch_add(1, Ordering::Relaxed);
        Err(missed.into())
    }

    async fn connect_from(
        &self,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<TcpStream, Missed> {
        if self.spent.has(source, to) {
            return Err(Missed::Spent);
        }
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.tcp.apply(&SockRef::from(&socket))?;
        if let Some(source) = source {
            bind(&socket, source)?;
        }
        #[cfg(all(test, target_os = "linux"))]
        tests::narrow(&socket);
        match socket.connect(to).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                self.spent.note(source, to);
                Err(Missed::Spent)
            }
            connected => Ok(connected?),
        }
    }
}

/// Binds a socket to an address of our own, and to no port yet: which ones are free depends on where
/// it connects to.
fn bind(socket: &TcpSocket, source: IpAddr) -> Result<(), Missed> {
    bind_without_port(socket)?;
    match socket.bind(SocketAddr::new(source, 0)) {
        // Without the option above, it is here that there is no port.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Missed::Spent),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(Missed::Foreign),
        bound => Ok(bound?),
    }
}

#[cfg(target_os = "linux")]
fn bind_without_port(socket: &TcpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, as `socket` owns it, and the option (ip(7):
    // IP_BIND_ADDRESS_NO_PORT, of both families) is read from an int of that size, which lives on.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Elsewhere a port is taken of those that an address has for all that it connects to.
#[cfg(not(target_os = "linux"))]
fn bind_without_port(_: &TcpSocket) -> io::Result<()> {
    Ok(())
}

/// Why a source address came to nothing.
enum Missed {
    /// It has no port left for this connection.
    Spent,
    /// It is not this machine's.
    Foreign,
    /// It is not for want of an address.
    Failed(io::Error),
}

impl From<io::Error> for Missed {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Pairs of addresses that had no port left a moment ago. The kernel looks at every port to find
/// that out, for a millisecond and more: not for each client that comes.
#[derive(Debug, Default)]
struct Spent {
    is_any: AtomicBool,
    pairs: Mutex<HashMap<(Option<IpAddr>, SocketAddr), Instant>>,
}

impl Spent {
    fn has(&self, source: Option<IpAddr>, to: SocketAddr) -> bool {
        if !self.is_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut pairs = self.pairs();
        let is_fresh = |noted: &Instant| noted.elapsed() < SPENT_FOR;
        match pairs.get(&(source, to)) {
            Some(noted) if is_fresh(noted) => true,
            Some(_) => {
                pairs.retain(|_, noted| is_fresh(noted));
                self.is_any.store(!pairs.is_empty(), Ordering::Relaxed);
                false
            }
            None => false,
        }
    }

    fn note(&self, source: Option<IpAddr>, to: SocketAddr) {
        let mut pairs = self.pairs();
        if pairs.len() >= PAIRS_MAX {
            pairs.clear();
        }
        pairs.insert((source, to), Instant::now());
        self.is_any.store(true, Ordering::Relaxed);
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<(Option<IpAddr>, SocketAddr), Instant>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, spent, foreign, has_pool } = *self;
        if !has_pool {
            let why = "or this machine has no address of its family";
            return write!(f, "no port of this machine is left for {to}, {why}");
        }
        match (spent, foreign) {
            (0, None) => {
                let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "no address in `source` is of {family}, as {to} is")
            }
            (0, Some(foreign)) => {
                write!(f, "no address in `source` is this machine's, such as {foreign}")
            }
            (spent, None) => write!(f, "no port is left for {to} from the {spent} in `source`"),
            (spent, Some(foreign)) => write!(
                f,
                "no port is left for {to} from {spent} in `source`, and others, such as {foreign}, \
                 are not this machine's"
            ),
        }
    }
}

impl std::error::Error for NoSource {}

impl From<NoSource> for io::Error {
    fn from(missed: NoSource) -> Self {
        Self::new(io::ErrorKind::AddrNotAvailable, missed)
    }
}

/// How long a pair of addresses is taken to have no port.
const SPENT_FOR: Duration = Duration::from_millis(500);

/// Most pairs that are remembered; what is forgotten is found out again.
const PAIRS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpListener;

    use super::*;

    thread_local! {
        /// The only ports that connections of this thread are made from, if any are set.
        static PORTS: Cell<Option<(u16, u16)>> = const { Cell::new(None) };
    }

    /// Leaves a socket the ports that this thread has set.
    #[cfg(target_os = "linux")]
    pub(super) fn narrow(socket: &TcpSocket) {
        use std::os::fd::AsRawFd;

        /// ip(7), since Linux 6.3.
        const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
        let Some((first, last)) = PORTS.get() else { return };
        let range = u32::from(last) << 16 | u32::from(first);
        let size = size_of::<u32>() as libc::socklen_t;
        // SAFETY: as in `bind_without_port`; the option is read from 32 bits.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                IP_LOCAL_PORT_RANGE,
                (&raw const range).cast(),
                size,
            )
        };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    fn dialer(sources: &[&str]) -> Dialer {
        let sources = sources.iter().map(|it| it.parse::<IpAddr>().unwrap()).collect();
        Dialer::new(TcpOptions::default(), sources)
    }

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    /// Where `count` connections of a dialer come from, or why there is none, as far as it got.
    fn come(dialer: &Dialer, count: usize) -> (Vec<String>, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        on_a_runtime(async {
            let (mut open, mut sources) = (Vec::new(), Vec::new());
            let turns = AtomicUsize::new(0);
            for _ in 0..count {
                match dialer.connect(to, &turns).await {
                    Ok(stream) => open.push(stream),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
                        let said = error.to_string().replace(&to.to_string(), "TO");
                        return (sources, Some(said));
                    }
                }
                sources.push(listener.accept().unwrap().1.ip().to_string());
            }
            (sources, None)
        })
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn connections_come_from_each_address_in_turn() {
        let dialer = dialer(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        let (sources, fault) = come(&dialer, 6);
        assert_eq!(fault, None);
        let turn = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        assert_eq!(sources, [turn, turn].concat());
        assert_eq!(dialer.counts.skips.load(Ordering::Relaxed), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_address_that_is_not_this_machine_s_is_passed_over() {
        let dialer = dialer(&["127.0.0.2", "203.0.113.99"]);
        let (sources, fault) = come(&dialer, 4);
        assert_eq!((sources, fault), (vec!["127.0.0.2".to_owned(); 4], None));
        assert_eq!(dialer.counts.skips.load(Ordering::Relaxed), 2);
        assert_eq!(dialer.counts.exhausted.load(Ordering::Relaxed), 0);
        let none = self::dialer(&["203.0.113.99"]);
        let (_, fault) = come(&none, 1);
        let said = "no address in `source` is this machine's, such as 203.0.113.99";
        assert_eq!(fault.as_deref(), Some(said));
        assert_eq!(none.counts.exhausted.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_pool_of_one_family_reaches_no_server_of_the_other() {
        let (_, fault) = come(&dialer(&["::1"]), 1);
        let said = "no address in `source` is of IPv4, as TO is";
        assert_eq!(fault.as_deref(), Some(said));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn each_address_has_its_own_ports_until_all_are_used_up() {
        let mut seen = Vec::new();
        // Who listens on one of the ports, on whatever address, takes it from all: then it is
        // another ten.
        for first in (45_000..47_000).step_by(100) {
            let dialer = dialer(&["127.0.0.5", "127.0.0.6"]);
            let ports = Some((first, first + 9));
            PORTS.set(ports);
            let (sources, fault) = come(&dialer, 30);
            PORTS.set(None);
            let of = |address| sources.iter().filter(|it| *it == address).count();
            let counts = [of("127.0.0.5"), of("127.0.0.6")];
            if counts != [10, 10] {
                seen.push(counts);
                continue;
            }
            let said = "no port is left for TO from the 2 in `source`";
            assert_eq!(fault.as_deref(), Some(said));
            assert_eq!(dialer.counts.exhausted.load(Ordering::Relaxed), 1);
            // Each end has its own: another server is reached all the same.
            PORTS.set(ports);
            let (sources, fault) = come(&dialer, 4);
            PORTS.set(None);
            assert_eq!((sources.len(), fault), (4, None));
            return;
        }
        panic!("{seen:?} of ten ports each");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_a_pool_it_is_said_that_no_port_is_left() {
        let dialer = dialer(&[]);
        PORTS.set(Some((45_100, 45_101)));
        let (sources, fault) = come(&dialer, 3);
        PORTS.set(None);
        assert!(sources.len() <= 2);
        let said = fault.expect("there are no more ports");
        assert!(said.starts_with("no port of this machine is left for TO"), "{said}");
    }

    #[test]
    fn what_is_spent_is_not_tried_again_at_once_and_not_given_up_for_good() {
        let spent = Spent::default();
        let (source, to) = (Some(IpAddr::from([127, 0, 0, 5])), "127.0.0.1:80".parse().unwrap());
        let other = "127.0.0.2:80".parse().unwrap();
        assert!(!spent.has(source, to));
        // Not for long: whoever is held up looks too late.
        let is_noted = (0..20).any(|_| {
            spent.note(source, to);
            spent.has(source, to)
        });
        assert!(is_noted && !spent.has(source, other) && !spent.has(None, to));
        let long_ago = Instant::now().checked_sub(SPENT_FOR).expect("the machine is up for longer");
        spent.pairs().insert((source, to), long_ago);
        assert!(!spent.has(source, to));
        assert!(
            !spent.is_any.load(Ordering::Relaxed),
            "nothing is looked up when nothing is spent"
        );
    }
}
