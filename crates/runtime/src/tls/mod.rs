//! TLS under a [`Socket`](crate::socket::Socket): records in, bytes out, and nothing held between.
//!
//! ```text
//!   kernel ──recv──> thread's ciphertext scratch ──open, in place──> the caller's buffer
//!                         │ part of a record                │ more than fits
//!                         v                                 v
//!                        kept                           plaintext      exact-size, freed when used
//!
//!   the caller's slices ──seal, 16 KiB a record──> thread's sealed scratch ──one send──> kernel
//!                                                        │ what it does not take
//!                                                        v
//!                                                      unsent
//! ```
//!
//! rustls' buffered connections keep their vectors at the size of the last burst, some 30 KB for
//! each idle connection. So its unbuffered interface is used: `session` is all that touches it,
//! `channel` has the three rests above and the ends of both directions, `handshake` is the way
//! there, `config` what a listener's configuration must have for it.
//!
//! Both ends of a connection are spoken: listeners accept, and servers are connected to.

mod channel;
pub mod client;
pub mod config;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod scratch;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use channel::{TlsStream, shutdown};
pub use handshake::Secured;
pub(crate) use handshake::accept;
