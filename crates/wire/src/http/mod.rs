//! What a proxy owes HTTP: where its messages begin and end (RFC 9112), and what goes on of its
//! headers (RFC 9110, section 7.6).

pub mod cookies;
pub mod forwarded;
pub mod framing;
pub mod hop;
pub mod query;
pub mod said;
pub mod tokens;
