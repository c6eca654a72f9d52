//! Credentials in, identity out: who a client is, whether that still holds, what it may do.
//!
//! ```text
//!   request ──> Presented ──Method──> Identity ──┬─> routes, headers for servers, topics
//!                             (before the 101)   └─> Live ──expired, revoked──> the WebSocket ends
//! ```
//!
//! No socket is read here: the edge finds credentials in requests, and what has to be fetched
//! (key sets) is fetched on the control plane. To add a method: a file beside `jwt`, a variant of
//! `method::Method`, a key of `config::AuthConfig`.

#![forbid(unsafe_code)]

pub mod api_key;
pub mod basic;
pub mod client_cert;
pub mod config;
mod entries;
pub mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gossip;
pub mod identity;
pub mod jwks;
pub mod jwt;
pub mod kept_file;
pub mod key_set;
pub mod live;
pub mod method;
pub mod place;
pub mod random;
pub mod remote;
pub mod revocation;
pub mod secret;
pub mod template;
