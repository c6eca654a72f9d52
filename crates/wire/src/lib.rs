//! Bytes to messages and back: the WebSocket codec (RFC 6455), HTTP header hygiene (RFC 9110), and
//! the PROXY protocol.
//!
//! Everything here is pure. There is no IO, no clock, no randomness and no task: bytes and limits
//! go in, events, values or what the peer did wrong come out. Sockets, timers and policy belong to
//! the crates above.

#![forbid(unsafe_code)]

pub mod http;
pub mod proxy_protocol;
mod violation;
pub mod ws;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub use violation::{Traffic, Violation};
