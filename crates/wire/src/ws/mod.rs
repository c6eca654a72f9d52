//! The WebSocket protocol, RFC 6455.
//!
//! `handshake` decides whether a connection becomes a WebSocket. After it, an endpoint reads with
//! `message`, a tunnel follows with `cursor`, and both sides write with `frame` and `close`.

mod assembly;
pub mod close;
pub mod cursor;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
