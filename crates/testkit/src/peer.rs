//! One end of a TCP connection, under TLS if it must be, on which a test says and hears every byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, CommonState, Connection, ServerConnection};
use rustls_pki_types::ServerName;
use socket2::{Domain, SockRef, Socket, Type};

use crate::deadline::DEADLINE;
use crate::tls::{TlsClient, TlsServer};

/// A TCP connection. What does not go as a test says it must is a panic, which names the line.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
    unread: Vec<u8>,
}

impl Peer {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&address, DEADLINE).map(Self::new)
    }

    /// From an address of this machine, such as another one of the loopback.
    #[track_caller]
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).expect("the address is this machine's");
        socket.connect(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        Self::new(socket.into())
    }

    /// With a receive buffer of about `bytes`, so that the kernel holds little for who does not
    /// read.
    #[track_caller]
    pub fn connect_with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into())
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket has the option");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket has the option");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket has the option");
        Self { stream, tls: None, unread: Vec::new() }
    }

    /// Waits up to `patience` for what comes, in place of [`DEADLINE`].
    pub fn wait_up_to(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a socket has the option");
    }

    /// With what another has read of it already.
    pub(crate) fn with_unread(stream: TcpStream, unread: Vec<u8>) -> Self {
        Self { unread, ..Self::new(stream) }
    }

    /// With TLS, for the server of this name or address.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, client: &TlsClient, name: &str) -> Self {
        Self::try_connect_tls(address, client, name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Peer::connect_tls`]. In TLS 1.3 a server says what it thinks of a client's certificate
    /// only after the client's handshake is over: the first read fails.
    pub fn try_connect_tls(
        address: SocketAddr,
        client: &TlsClient,
        name: &str,
    ) -> io::Result<Self> {
        let mut peer = Self::try_connect(address)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(client.config.clone(), name).map_err(io::Error::other)?;
        peer.secure(tls.into())?;
        Ok(peer)
    }

    /// Does the server's part of a TLS handshake. What does not come to one is an error.
    pub(crate) fn accept_tls(&mut self, server: &TlsServer) -> io::Result<()> {
        let tls = ServerConnection::new(server.config.clone()).map_err(io::Error::other)?;
        self.secure(tls.into())
    }

    fn secure(&mut self, tls: Connection) -> io::Result<()> {
        let mut tls = Box::new(tls);
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// The name that the client has asked for, when this is a server's end.
    pub fn server_name(&self) -> Option<&str> {
        match self.tls.as_deref() {
            Some(Connection::Server(tls)) => tls.server_name(),
            _ => None,
        }
    }

    /// What the TLS handshake has settled.
    ///
    /// # Panics
    /// Without TLS.
    #[track_caller]
    pub fn tls(&self) -> &CommonState {
        self.tls.as_deref().expect("there is TLS")
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Err(error) = self.try_send(bytes) {
            panic!("cannot send {} bytes: {error}", bytes.len());
        }
    }

    /// As [`Peer::send`], where the other side may end the connection meanwhile.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = &mut self.stream;
        match self.tls.as_deref_mut() {
            None => stream.write_all(bytes),
            Some(Connection::Client(tls)) => rustls::Stream::new(tls, stream).write_all(bytes),
            Some(Connection::Server(tls)) => rustls::Stream::new(tls, stream).write_all(bytes),
        }
    }

    /// Sends `bytes` again and again until nobody takes any for `patience`; how many were taken.
    #[track_caller]
    pub fn send_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).unwrap();
        let mut taken = 0;
        let error = loop {
            match self.stream.write(&bytes[taken % bytes.len()..]) {
                Ok(length) => taken += length,
                Err(error) => break error,
            }
            assert!(taken < 1 << 30, "a gigabyte is taken for nobody to read");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        self.stream.set_write_timeout(Some(DEADLINE)).unwrap();
        taken
    }

    /// The next `length` bytes.
    #[track_caller]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            if self.fill() == 0 {
                panic!("the end, after {:?}", String::from_utf8_lossy(&self.unread));
            }
        }
        self.unread.drain(..length).collect()
    }

    /// What comes next, up to and with `mark`; `None` when the end comes first, and before any
    /// byte.
    #[track_caller]
    pub fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut looked_at = 0;
        loop {
            let found = self.unread[looked_at..].windows(mark.len()).position(|it| it == mark);
            if let Some(at) = found {
                return Some(self.unread.drain(..looked_at + at + mark.len()).collect());
            }
            looked_at = self.unread.len().saturating_sub(mark.len() - 1);
            if self.fill() == 0 {
                let rest = String::from_utf8_lossy(&self.unread);
                assert!(rest.is_empty(), "the end, after {rest:?}");
                return None;
            }
        }
    }

    /// What is there already, or comes next: at least one byte, or none at the end.
    #[track_caller]
    pub fn take_some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.unread)
    }

    /// Waits for more, and keeps it to be taken; how much it is, 0 at the end.
    pub fn wait(&mut self) -> io::Result<usize> {
        self.read()
    }

    /// All that comes before the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// The other side ends its direction, and has nothing more to say.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the end: {:?}", String::from_utf8_lossy(&rest));
    }

    /// The connection is over, in whatever way.
    #[track_caller]
    pub fn expect_gone(&mut self) {
        loop {
            match self.read() {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("still there"),
                Err(_) => return,
            }
        }
    }

    /// Nothing comes for `time`, not even the end.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        let unread = String::from_utf8_lossy(&self.unread);
        assert!(unread.is_empty(), "{unread:?} is there");
        self.stream.set_read_timeout(Some(time)).unwrap();
        match self.read() {
            Ok(0) => panic!("the end comes"),
            Ok(_) => panic!("{:?} comes", String::from_utf8_lossy(&self.unread)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }

    /// Ends our direction; the other one stays open.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both directions.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("it is a socket");
    }

    /// Another handle to the same connection, without what is unread here. Not with TLS.
    pub fn another(&self) -> Self {
        assert!(self.tls.is_none(), "a TLS connection has one end");
        Self::new(self.stream.try_clone().expect("a socket can be cloned"))
    }

    /// The connection with its TLS and what is unread on it; left is a handle without either.
    pub fn take_over(&mut self) -> Self {
        let another = Self::new(self.stream.try_clone().expect("a socket can be cloned"));
        std::mem::replace(self, another)
    }

    #[track_caller]
    fn fill(&mut self) -> usize {
        match self.read() {
            Ok(length) => length,
            Err(error) => {
                panic!("{error}, after {:?}", String::from_utf8_lossy(&self.unread))
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let stream = &mut self.stream;
        let length = match self.tls.as_deref_mut() {
            None => stream.read(&mut buffer)?,
            Some(Connection::Client(tls)) => rustls::Stream::new(tls, stream).read(&mut buffer)?,
            Some(Connection::Server(tls)) => rustls::Stream::new(tls, stream).read(&mut buffer)?,
        };
        self.unread.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}
