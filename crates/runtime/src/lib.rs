//! The floor that edge and hub stand on: threads that own their connections.
//!
//! A [`worker::Worker`] is one thread with one single-threaded runtime. A connection is accepted by
//! a worker (or handed on to a less loaded one while it is fresh) and never changes thread again.
//! Between threads there are bounded [`mailbox`]es and immutable snapshots, and no locks on a hot
//! path. What only Linux has stays inside this crate, behind a portable path.

pub mod account;
pub mod allocator;
pub mod buffer;
pub mod byte_rate;
pub mod clock;
pub mod conn;
pub mod connections;
pub mod core_dump;
pub mod deadline;
pub mod dialer;
pub mod groups;
pub mod limit;
pub mod listener;
pub mod mailbox;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod memory;
pub mod metrics;
pub mod newcomers;
pub mod percent;
pub mod privilege;
pub mod pump;
pub mod rate;
pub mod socket;
pub mod source_pool;
pub mod tcp_options;
pub mod tls;
pub mod turn;
pub mod units;
pub mod unix_peer;
pub mod unix_socket;
pub mod worker;
