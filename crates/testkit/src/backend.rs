//! A server that does what its script says, also what no server should.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::HandshakeKind;
use socket2::{Domain, Socket, Type};

use crate::deadline::DEADLINE;
use crate::http::Request;
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::tls::TlsServer;

/// A server on the loopback. Dropping it ends all of its connections.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    accepting: Option<JoinHandle<()>>,
}

/// What a server does with a request whose head was read. A further request is read when it
/// returns.
pub type Script = fn(&Request, &mut Peer);

/// What the TLS handshake with a client has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// The name that the client has asked for.
    pub server_name: Option<String>,
    pub alpn: Option<String>,
    /// Whether the client has shown a certificate.
    pub has_certificate: bool,
    pub is_resumed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicUsize,
    greeted: Mutex<Vec<Greeted>>,
    is_over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Backend {
    /// Starts one that serves each request as `script` says. Its port stays its own when it is
    /// dropped: no other test's server is found there.
    pub fn start(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_on(free_port(), script)
    }

    /// As [`Backend::start`], under TLS.
    #[track_caller]
    pub fn start_tls(
        tls: &TlsServer,
        script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(loopback(free_port()), Some(tls.clone()), script)
    }

    /// As [`Backend::start`], on a port of its own.
    #[track_caller]
    pub fn start_on(
        port: u16,
        script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(loopback(port), script)
    }

    /// As [`Backend::start`], on an address of its own.
    #[track_caller]
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(address, None, script)
    }

    #[track_caller]
    fn start_with(
        address: SocketAddr,
        tls: Option<TlsServer>,
        script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let (seen, requests) = channel();
        let accept = Accept { script: Arc::new(script), tls, shared: Arc::clone(&shared), seen };
        let accepting = Some(thread::spawn(move || accept.run(&listener)));
        Self { address, shared, requests, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The TLS handshakes that were made so far, and were not asked for yet.
    pub fn greeted(&self) -> Vec<Greeted> {
        std::mem::take(&mut *self.shared.greeted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next request that has reached it.
    #[track_caller]
    pub fn request(&self) -> Request {
        self.requests.recv_timeout(DEADLINE).expect("a request reaches the server")
    }

    /// The requests that have reached it and were not asked for yet.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; it is over when the port is closed.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct Accept<S> {
    script: Arc<S>,
    tls: Option<TlsServer>,
    shared: Arc<Shared>,
    seen: Sender<Request>,
}

impl<S: Fn(&Request, &mut Peer) + Send + Sync + 'static> Accept<S> {
    fn run(self, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.shared.is_over.load(Ordering::SeqCst) {
                return;
            }
            self.shared.accepted.fetch_add(1, Ordering::SeqCst);
            let another = stream.try_clone().expect("a socket can be cloned");
            self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(another);
            let script = Arc::clone(&self.script);
            let (seen, tls) = (self.seen.clone(), self.tls.clone());
            let shared = Arc::clone(&self.shared);
            // What goes wrong in a script is the end of its connection; the test sees that.
            thread::spawn(move || {
                let mut peer = Peer::new(stream);
                if let Some(tls) = tls {
                    // Who does not get through it is closed.
                    let Ok(()) = peer.accept_tls(&tls) else { return peer.close() };
                    let mut all = shared.greeted.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(Greeted::by(&peer));
                }
                while let Some(request) = peer.request() {
                    let _ = seen.send(request.clone());
                    script(&request, &mut peer);
                }
                peer.close();
            });
        }
    }
}

impl Greeted {
    fn by(peer: &Peer) -> Self {
        let tls = peer.tls();
        Self {
            server_name: peer.server_name().map(str::to_owned),
            alpn: tls.alpn_protocol().map(|it| String::from_utf8_lossy(it).into_owned()),
            has_certificate: tls.peer_certificates().is_some(),
            is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// A server that accepts nobody, and whose queue is full: the kernel does not answer who connects.
#[derive(Debug)]
pub struct NeverAccepts {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl NeverAccepts {
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&loopback(0).into()).expect("any port");
        listener.listen(0).expect("a bound socket can listen");
        let address = listener.local_addr().expect("a bound socket has an address");
        let address = address.as_socket().expect("it is an internet address");
        let connect = |_| TcpStream::connect_timeout(&address, FULL_AFTER).ok();
        let waiting = (0..8).map_while(connect).collect();
        Self { address, _listener: listener, _waiting: waiting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// On the loopback, who is not answered by then is not answered.
const FULL_AFTER: Duration = Duration::from_millis(200);
