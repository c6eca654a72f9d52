//! What the tests of the hub share.

#![allow(dead_code)] // Each test crate uses a part of it.

pub mod client;
pub mod nodes;
pub mod recorder;
pub mod redis_server;
pub mod service;

use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `is_true`, asking again and again; panics with `what` at the deadline.
pub async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
