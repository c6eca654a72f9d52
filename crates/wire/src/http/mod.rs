//! What a proxy owes HTTP headers (RFC 9110, section 7.6), apart from parsing them.

pub mod cookies;
pub mod forwarded;
pub mod hop;
pub mod query;
pub mod tokens;
