//! A connection as it is handed from one owner to the next, always on the same thread.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::connections::Watch;
use crate::socket::Socket;

/// A client's connection, as accepted.
#[derive(Debug)]
pub struct Conn {
    pub socket: Socket,
    /// Its place among the worker's connections: deadline, drain, load.
    pub watch: Watch,
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
