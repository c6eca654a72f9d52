//! A connection as it is handed from one owner to the next, always on the same thread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use crate::connections::Watch;
use crate::socket::Socket;

/// A client's connection, as accepted.
#[derive(Debug)]
pub struct Conn {
    pub socket: Socket,
    /// Its place among the worker's connections: deadline, drain, load.
    pub watch: Watch,
    /// [`UNIX`] when it came by a Unix socket.
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// A connection on which HTTP has ended and WebSocket begins (RFC 6455, section 4).
#[derive(Debug)]
pub struct Upgraded {
    pub conn: Conn,
    /// What the client sent behind its handshake, to be taken before anything from the socket.
    pub leftover: Bytes,
}

/// Stands for the two ends of a Unix socket, which have no address. No TCP connection has it.
pub const UNIX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Whether `address` stands for an end of a Unix socket.
pub fn is_unix(address: SocketAddr) -> bool {
    address.port() == 0 && address.ip().is_unspecified()
}
