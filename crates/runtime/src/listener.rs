//! Listening sockets, one per worker for each address, and the accept loop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::conn::{Conn, UNIX};
use crate::deadline::{Tick, ticks};
use crate::mailbox::{Refused, Sender};
use crate::socket::Socket;
use crate::tcp_options::TcpOptions;
use crate::unix_socket::{self, SocketFile, SocketRights};
use crate::worker::{Loads, Order, Service, Worker};

/// A bound address, none of its sockets accepting yet: one per worker, or a single one of Unix.
#[derive(Debug)]
pub struct Listener {
    index: usize,
    address: Address,
    sockets: Vec<Bound>,
    options: ListenOptions,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    /// A Unix socket, by its file.
    Unix(PathBuf),
}

/// How an address is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    pub tcp: TcpOptions,
    /// Of a Unix socket.
    pub rights: SocketRights,
    /// Connections that the kernel holds for us, per worker; it caps this at `somaxconn`.
    pub backlog: u32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { tcp: TcpOptions::default(), rights: SocketRights::default(), backlog: BACKLOG }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Address {
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listener {
    /// Binds `address` for `workers` workers. `index` is what [`Service::serve`] is told.
    ///
    /// # Errors
    /// As `bind(2)`; `AddrInUse` also when the other process shares its port with SO_REUSEPORT.
    pub fn bind(
        index: usize,
        address: &Address,
        workers: usize,
        options: ListenOptions,
    ) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::bind_tcp(index, *address, workers, options),
            Address::Unix(path) => {
                let backlog = options.backlog.cast_signed();
                let (socket, file) = unix_socket::listen(path, &options.rights, backlog)?;
                let sockets = vec![Bound::Unix(socket, file)];
                Ok(Self { index, address: address.clone(), sockets, options })
            }
        }
    }

    fn bind_tcp(
        index: usize,
        address: SocketAddr,
        workers: usize,
        options: ListenOptions,
    ) -> io::Result<Self> {
        // SO_REUSEPORT would let two programs take connections from each other in silence. Asking
        // once without it finds the other one. A port that the system chooses is nobody else's.
        if address.port() != 0 {
            open(address, Share::No, &options.tcp)?;
        }
        let first = open(address, Share::Yes, &options.tcp)?;
        let address = local_address(&first)?;
        let mut sockets = vec![first];
        for _ in 1..workers {
            sockets.push(open(address, Share::Yes, &options.tcp)?);
        }
        for socket in &sockets {
            socket.listen(options.backlog.cast_signed())?;
        }
        let sockets = sockets.into_iter().map(|socket| Bound::Tcp(socket.into())).collect();
        Ok(Self { index, address: Address::Tcp(address), sockets, options })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A connection just accepted, on its way to another worker.
#[derive(Debug)]
pub(crate) struct Fresh {
    stream: std::net::TcpStream,
    way: Way,
}

impl Fresh {
    /// Serves the connection on this thread, which counts it already.
    pub(crate) fn adopt(self, worker: &Rc<Worker>, service: &Rc<dyn Service>, loads: &Loads) {
        match TcpStream::from_std(self.stream) {
            Ok(stream) => serve(worker, service, Socket::from_tcp(stream), self.way),
            Err(error) => {
                loads.sub(worker.index());
                warn!(%error, "a fresh connection could not be adopted");
            }
        }
    }
}

/// How a connection came: from whom, to which address, by which listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    peer: SocketAddr,
    local: SocketAddr,
    listener: usize,
}

/// A worker's socket of a listener.
#[derive(Debug)]
pub(crate) struct Accepting {
    listener: usize,
    socket: Bound,
    options: ListenOptions,
}

/// Turns listeners into the sockets of each worker. A single socket is for one of them, which hands
/// on what it accepts.
pub(crate) fn per_worker(listeners: Vec<Listener>, workers: usize) -> Vec<Vec<Accepting>> {
    let mut all: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
    for (place, listener) in listeners.into_iter().enumerate() {
        let Listener { index, sockets, options, .. } = listener;
        let first = if sockets.len() < workers { place % workers } else { 0 };
        for (worker, socket) in all[first..].iter_mut().zip(sockets) {
            worker.push(Accepting { listener: index, socket, options });
        }
    }
    all
}

/// Starts an accept loop for each of the worker's sockets.
pub(crate) fn accept_on(
    worker: &Rc<Worker>,
    loads: &std::sync::Arc<Loads>,
    service: &Rc<dyn Service>,
    sockets: Vec<Accepting>,
    peers: &Rc<[Sender<Order>]>,
) -> Vec<JoinHandle<()>> {
    let start = |Accepting { listener, socket, options }| {
        let accept = Accept {
            worker: Rc::clone(worker),
            loads: std::sync::Arc::clone(loads),
            service: Rc::clone(service),
            peers: Rc::clone(peers),
            listener,
            tcp: options.tcp,
        };
        tokio::task::spawn_local(accept.run(socket))
    };
    sockets.into_iter().map(start).collect()
}

/// Gives a connection its place on this worker and to the service.
pub(crate) fn serve(worker: &Rc<Worker>, service: &Rc<dyn Service>, socket: Socket, way: Way) {
    let watch = worker.enter();
    let conn = Conn { socket, watch, peer: way.peer, local: way.local };
    service.serve(conn, way.listener);
}

struct Accept {
    worker: Rc<Worker>,
    loads: std::sync::Arc<Loads>,
    service: Rc<dyn Service>,
    peers: Rc<[Sender<Order>]>,
    listener: usize,
    tcp: TcpOptions,
}

/// A listening socket in the worker's runtime.
enum Source {
    Tcp(TcpListener),
    /// With its file, which is there for as long as somebody accepts.
    Unix(UnixListener, #[expect(dead_code)] SocketFile),
}

impl Source {
    fn new(bound: Bound) -> (Self, SocketAddr) {
        match bound {
            Bound::Tcp(socket) => {
                let local = socket.local_addr().expect("a bound socket has an address");
                let listener = TcpListener::from_std(socket).expect("the listener is non-blocking");
                (Self::Tcp(listener), local)
            }
            Bound::Unix(socket, file) => {
                let listener =
                    UnixListener::from_std(socket).expect("the listener is non-blocking");
                (Self::Unix(listener, file), UNIX)
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await,
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // As one of TCP, which is read, written and shut down by the same calls: another
                // kind of stream would be an arm in each of them, and eight bytes for every socket.
                let stream = std::net::TcpStream::from(OwnedFd::from(stream.into_std()?));
                Ok((TcpStream::from_std(stream)?, UNIX))
            }
        }
    }
}

impl Accept {
    async fn run(self, socket: Bound) {
        let (listener, local) = Source::new(socket);
        let mut shortage = Shortage::default();
        for number in 1.. {
            if number % ACCEPTED_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
            let accepted = match shortage.is_on() {
                false => listener.accept().await,
                true => tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = tokio::time::sleep(SHORTAGE_OVER) => {
                        shortage.end();
                        warn!(%local, "accepting again");
                        continue;
                    }
                },
            };
            match accepted {
                Ok((stream, peer)) => {
                    if shortage.has_passed(self.worker.now()) {
                        shortage.end();
                        warn!(%local, "accepting again");
                    }
                    self.place(stream, Way { peer, local, listener: self.listener });
                }
                Err(error) if is_exhaustion(&error) => {
                    if shortage.goes_on(self.worker.now()) {
                        self.worker.metrics().accept_pauses.add(1);
                        warn!(%local, %error, "accepting pauses until files are free again");
                    }
                    // The listener stays readable: without the pause this loop would spin.
                    tokio::time::sleep(EXHAUSTION_PAUSE).await;
                }
                // The peer was gone before we came to it (ECONNABORTED and its like).
                Err(error) => debug!(%local, %error, "a connection ended before it was accepted"),
            }
        }
    }

    fn place(&self, stream: TcpStream, way: Way) {
        self.worker.metrics().accepted.add(1);
        // Linux gives the options of the listener to what it accepts.
        if cfg!(not(target_os = "linux")) && way.peer != UNIX {
            let _ = self.tcp.apply(&SockRef::from(&stream));
        }
        let here = self.worker.index();
        self.loads.add(here);
        let target = self.loads.place(here);
        if target == here {
            return serve(&self.worker, &self.service, Socket::from_tcp(stream), way);
        }
        self.loads.add(target);
        self.loads.sub(here);
        match stream.into_std() {
            Ok(stream) => self.hand_on(Fresh { stream, way }, target),
            Err(error) => {
                self.loads.sub(target);
                debug!(%error, "a connection ended before it was placed");
            }
        }
    }

    fn hand_on(&self, fresh: Fresh, target: usize) {
        let Err(Refused(order)) = self.peers[target].send(Order::Adopt(fresh)) else {
            return self.worker.metrics().handed_on.add(1);
        };
        // The other worker is too busy to take it: keep it.
        self.loads.sub(target);
        let Order::Adopt(fresh) = order else { return };
        self.loads.add(self.worker.index());
        fresh.adopt(&self.worker, &self.service, &self.loads);
    }
}

/// A shortage of files. Clients that come and go at the limit make it end and begin many times a
/// second; it counts as over only when it has been for a while, so that the log has a line for each
/// shortage and not for each client.
#[derive(Debug, Default)]
struct Shortage {
    last: Option<Tick>,
}

impl Shortage {
    /// There is no file now. True when that is news.
    fn goes_on(&mut self, now: Tick) -> bool {
        self.last.replace(now).is_none()
    }

    fn is_on(&self) -> bool {
        self.last.is_some()
    }

    /// Whether there has been no want of files for a while.
    fn has_passed(&self, now: Tick) -> bool {
        self.last.is_some_and(|last| now >= last.saturating_add(ticks(SHORTAGE_OVER)))
    }

    fn end(&mut self) {
        self.last = None;
    }
}

enum Share {
    No,
    Yes,
}

fn open(address: SocketAddr, share: Share, options: &TcpOptions) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if let Share::Yes = share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` may be bound side by side; each says what it means.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    options.apply(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &RawSocket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet address"))
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Enough for a reconnect storm between two turns of a worker.
const BACKLOG: u32 = 4096;

/// How many are accepted before those that are there already have their turn: each newcomer's
/// handshake is some work of its own.
const ACCEPTED_PER_TURN: u64 = 8;

const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);

/// How long there must be files for a shortage to be over.
const SHORTAGE_OVER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_its_listener() {
        let mut options = ListenOptions::default();
        options.tcp.user_timeout = crate::units::Period::from_secs(33);
        options.tcp.keepalive.probes = 7;
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(0, &any, 1, options).unwrap();
        let address = listener.address().tcp().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let Bound::Tcp(socket) = &listener.sockets[0] else { panic!("it is bound to TCP") };
        let accepted = loop {
            match socket.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        // Elsewhere they are set when it is placed.
        if cfg!(target_os = "linux") {
            let accepted = SockRef::from(&accepted);
            assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(Duration::from_secs(33)));
            assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 7);
            assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        }
        drop(client);
    }

    #[test]
    fn a_shortage_is_told_once_until_it_has_been_over_for_a_while() {
        let mut shortage = Shortage::default();
        assert!(!shortage.has_passed(5));
        assert!(shortage.goes_on(10));
        assert!(!shortage.goes_on(11));
        assert!(!shortage.has_passed(12));
        assert!(!shortage.goes_on(13));
        assert!(shortage.has_passed(13 + ticks(SHORTAGE_OVER)));
        shortage.end();
        assert!(!shortage.has_passed(40));
        assert!(shortage.goes_on(50));
    }
}
