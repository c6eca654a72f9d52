//! The wall clock as tokens, certificates and revocations count it.
//!
//! For what other machines have written down. Waits are counted in ticks; see [`crate::deadline`].

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in seconds since 1970; 0 on a machine whose clock is before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
