//! The edge's side of authentication: who may take which route, and what a server hears of it.
//!
//! ```text
//!   routes that match ─> gate ─> examination ─┬─> authority: a method of the crate auth
//!   (in their order)      │     (once each)   └─> forward: a sub-request to a backend, cached
//!                         ├─> Denial: 401, 403, 503
//!                         └─> Grant ─> credentials taken out, headers set, Live, Renewal
//! ```

pub mod access;
pub mod authority;
pub mod claims;
pub mod credentials;
pub mod denial;
pub mod examination;
pub mod forward;
pub mod gate;
pub mod headers;
pub mod renewal;
