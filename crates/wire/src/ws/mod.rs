//! The WebSocket protocol, RFC 6455.
//!
//! `handshake` decides whether a connection becomes a WebSocket. After it, an endpoint reads with
//! `message`, a tunnel follows with `cursor` and judges with `judge`, and both sides write with `frame`
//! and `close`. `rules` is what a frame may be.

mod assembly;
pub mod close;
pub mod cursor;
pub mod frame;
pub mod handshake;
pub mod judge;
pub mod mask;
pub mod message;
pub mod rules;
