//! Servers that are found: by the addresses of a name, by the records of a service, in a file.
//!
//! ```text
//!   lookup ──> what was found ──> Roster ──> the servers of the backend
//!     (dns, file)                  (names, weights, at most so many; holds what was while it must)
//! ```
//!
//! Live WebSockets stay where they are when a server goes: it gets no new clients, and is forgotten
//! when the last has left it. What cannot be looked up changes nothing: each kind of address of each
//! host is as it was answered last.
//!
//! To add a source: a file here, its key in [`config`], an arm in `keeper::Source`.

pub mod config;
pub mod dns;
pub mod file;
mod keeper;
mod known;
pub mod roster;

pub use keeper::{Discovery, DiscoveryView};
