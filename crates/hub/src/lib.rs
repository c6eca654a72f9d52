//! Topics and subscribers: the WebSocket servers behind the edge, whose nodes pass messages to each
//! other through a broker.
//!
//! ```text
//!   client ─> shard ─> link ─> broker ══> broker ─> link ─> shard of each worker ─> its clients
//! ```
//!
//! A [`Hub`](hub::Hub) is a node. Each worker has a [`Shard`](shard::Shard) of it, which admits
//! clients. What a client says is published to its topic, and takes the road through the broker
//! also when all subscribers are on the same worker: one order, one code path.
//!
//! The hub knows nothing of HTTP: whoever has answered a handshake hands an
//! [`Upgraded`](tidewire_runtime::conn::Upgraded) connection over.

#![forbid(unsafe_code)]

pub mod admission;
pub mod allowance;
pub mod broker;
mod client;
mod client_task;
pub mod close;
pub mod config;
pub mod control;
mod delivery;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod hub;
mod interest;
mod link;
mod liveness;
pub mod metrics;
mod notice;
mod outbox;
pub mod pass;
pub mod permission;
pub mod protocol;
pub mod publication;
mod queue;
pub mod route;
pub mod shard;
mod striped;
mod subscribers;
pub mod template;
pub mod topic;
mod turn;
