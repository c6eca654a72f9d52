//! What is counted and said of TLS with a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::backend::Lease;
use crate::fault::Fault;

/// What is counted about TLS with a server. Once per connection.
#[derive(Debug, Default)]
pub struct TlsCounts {
    /// Handshakes with all that belongs to one.
    pub full: AtomicU64,
    /// Handshakes with the keys of an earlier connection.
    pub resumed: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
    /// What the log has said last, and when.
    said: Mutex<Option<(Failure, Instant)>>,
}

impl TlsCounts {
    /// How often it failed for this.
    pub fn failures(&self, failure: Failure) -> u64 {
        self.failures[failure as usize].load(Ordering::Relaxed)
    }

    pub(super) fn note_handshake(&self, is_resumed: bool) {
        let count = if is_resumed { &self.resumed } else { &self.full };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn note_failure(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the log is to say it at `now`: not for each of the clients that meet it.
    fn is_news(&self, failure: Failure, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = said.is_none_or(|(last, at)| {
            let pause = if last == failure { SAME_PAUSE } else { OTHER_PAUSE };
            now.saturating_duration_since(at) >= pause
        });
        if is_news {
            *said = Some((failure, now));
        }
        is_news
    }
}

/// Counts and says `fault` of the server of `lease`, if it is one of TLS: a server may say only
/// after the handshake that it does not take our certificate.
pub(crate) fn note(lease: &Lease, fault: &Fault) {
    if let Fault::Tls(error) = fault {
        failed(lease, Failure::of(error), &error.to_string());
    }
}

/// Counts and says that TLS with the server of `lease` has failed.
pub(super) fn failed(lease: &Lease, failure: Failure, error: &str) {
    let (backend, server) = (&lease.backend().name, lease.server());
    let counts = &server.counts.tls;
    counts.note_failure(failure);
    if counts.is_news(failure, Instant::now()) {
        let (name, address) = (&server.name, &server.address);
        let reason = failure.as_str();
        tracing::warn!(backend, server = name, %address, reason, error, "no TLS with the server");
    }
}

/// Between two lines that say the same of a server.
const SAME_PAUSE: Duration = Duration::from_secs(60);

/// Between two lines that say something else.
const OTHER_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_it_once_in_a_while() {
        let (counts, start) = (TlsCounts::default(), Instant::now());
        let said = |failure, seconds| counts.is_news(failure, start + Duration::from_secs(seconds));
        assert!(said(Failure::Expired, 0));
        assert!(!said(Failure::Expired, 59));
        assert!(said(Failure::Eof, 59));
        assert!(!said(Failure::Expired, 59), "two that take turns are no flood");
        assert!(said(Failure::Expired, 60));
        assert!(!said(Failure::Expired, 119));
        assert!(said(Failure::Expired, 120));
    }
}
