//! How a node's orders ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// Orders since the start, by how they ended.
#[derive(Debug, Default)]
pub struct AcmeMetrics {
    counts: [AtomicU64; OrderResult::ALL.len()],
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderResult {
    Issued,
    Failed,
    RateLimited,
}

impl OrderResult {
    pub const ALL: [Self; 3] = [Self::Issued, Self::Failed, Self::RateLimited];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed => "failed",
            Self::RateLimited => "rate_limited",
        }
    }
}

impl AcmeMetrics {
    #[cfg(feature = "acme")]
    pub fn count(&self, result: OrderResult) {
        self.counts[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn value(&self, result: OrderResult) -> u64 {
        self.counts[result as usize].load(Ordering::Relaxed)
    }
}
