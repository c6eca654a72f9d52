//! Listening sockets, one per worker for each address, and the accept loop.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::conn::Conn;
use crate::deadline::{Tick, ticks};
use crate::mailbox::{Refused, Sender};
use crate::socket::Socket;
use crate::worker::{Loads, Order, Service, Worker};

/// A bound address: a socket per worker, none of them accepting yet.
#[derive(Debug)]
pub struct Listener {
    index: usize,
    address: SocketAddr,
    sockets: Vec<std::net::TcpListener>,
}

impl Listener {
    /// Binds `address` for `workers` workers. `index` is what [`Service::serve`] is told.
    ///
    /// # Errors
    /// As `bind(2)`; `AddrInUse` also when the other process shares its port with SO_REUSEPORT.
    pub fn bind(index: usize, address: SocketAddr, workers: usize) -> io::Result<Self> {
        // SO_REUSEPORT would let two programs take connections from each other in silence. Asking
        // once without it finds the other one.
        let mut address = address;
        {
            let probe = open(address, Share::No)?;
            address = local_address(&probe)?;
        }
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = open(address, Share::Yes)?;
            socket.listen(BACKLOG)?;
            sockets.push(socket.into());
        }
        Ok(Self { index, address, sockets })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// Turns listeners into the sockets of each worker, with the index of the listener.
pub(crate) fn per_worker(
    listeners: Vec<Listener>,
    workers: usize,
) -> Vec<Vec<(usize, std::net::TcpListener)>> {
    let mut all: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (worker, socket) in all.iter_mut().zip(listener.sockets) {
            worker.push((listener.index, socket));
        }
    }
    all
}

/// Starts an accept loop for each of the worker's sockets.
pub(crate) fn accept_on(
    worker: &Rc<Worker>,
    loads: &std::sync::Arc<Loads>,
    service: &Rc<dyn Service>,
    sockets: Vec<(usize, std::net::TcpListener)>,
    peers: &Rc<[Sender<Order>]>,
) -> Vec<JoinHandle<()>> {
    let start = |(index, socket)| {
        let accept = Accept {
            worker: Rc::clone(worker),
            loads: std::sync::Arc::clone(loads),
            service: Rc::clone(service),
            peers: Rc::clone(peers),
            listener: index,
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
}

impl Accept {
    async fn run(self, socket: std::net::TcpListener) {
        let local = socket.local_addr().expect("a bound socket has an address");
        let listener = TcpListener::from_std(socket).expect("the listener is non-blocking");
        let mut shortage = Shortage::default();
        loop {
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
        #[cfg(not(target_os = "linux"))]
        let _ = set_options(&SockRef::from(&stream));
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

fn open(address: SocketAddr, share: Share) -> io::Result<RawSocket> {
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
    set_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What every client connection gets: no delay for small frames, and a keepalive that finds a peer
/// that is gone within two minutes.
fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

fn local_address(socket: &RawSocket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet address"))
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Connections that the kernel holds for us, per worker; it caps this at `somaxconn`.
const BACKLOG: i32 = 4096;

const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);

/// How long there must be files for a shortage to be over.
const SHORTAGE_OVER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

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
