//! Counters that cost a plain store: each has one writer, its worker, and is read when scraped.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only one thread writes. A shared counter is a cache line that every core fights
/// for; this one is not.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub fn sub(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less), Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts about itself. Aligned so that no two workers share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections accepted, by this worker's listeners.
    pub accepted: Counter,
    /// Fresh connections handed on to a less loaded worker.
    pub handed_on: Counter,
    /// Times that accepting paused because the process or the system had no file left.
    pub accept_pauses: Counter,
    /// Connections open on this worker.
    pub connections: Counter,
}
