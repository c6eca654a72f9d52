//! Certificates from an ACME authority (RFC 8555): ordered, kept, renewed, and put where handshakes
//! find them, without touching a connection.
//!
//! ```text
//!   keeper ──due──> order ──> offer ──> challenges (edge) <── the authority looks
//!     │  ^            └──> certificate
//!     v  └── storage: certificates, account, locks, challenges
//!   resolver (edge)
//! ```
//!
//! All of it happens on one thread of its own: the storage may be a network's, which must not hold
//! up workers or the control plane. `config`, `challenge` and `metrics` are there without the
//! feature `acme`, too: they are part of what the program says.

pub mod challenge;
pub mod config;
pub mod metrics;

#[cfg(not(feature = "acme"))]
mod absent;
#[cfg(feature = "acme")]
mod authority;
#[cfg(feature = "acme")]
mod client;
#[cfg(feature = "acme")]
mod issued;
#[cfg(feature = "acme")]
mod keeper;
#[cfg(feature = "acme")]
mod names;
#[cfg(feature = "acme")]
mod offer;
#[cfg(feature = "acme")]
mod order;
#[cfg(feature = "acme")]
mod schedule;
#[cfg(feature = "acme")]
mod storage;
#[cfg(feature = "acme")]
mod thread;

#[cfg(not(feature = "acme"))]
pub use self::absent::Acme;
#[cfg(feature = "acme")]
pub use self::thread::Acme;

#[cfg(all(test, feature = "acme"))]
mod tests;
