//! The time that a peer has to go on with its body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The time that a peer has to go on with its body. Armed by the first wait, so that a body that
/// is there at once costs no timer.
#[derive(Debug)]
pub(crate) struct Wait {
    timeout: Duration,
    /// Bytes in a second. Who sends a byte shortly before each timeout would otherwise hold a
    /// server's connection for hours.
    rate: Option<u64>,
    /// How long was waited for what has come, and how much it is.
    waited: Duration,
    bytes: u64,
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, rate: None, waited: Duration::ZERO, bytes: 0, since: None, sleep: None }
    }

    /// Has the peer hold a rate, too, once it was waited for as long as the timeout.
    pub fn with_rate(mut self, rate: Option<u64>) -> Self {
        self.rate = rate;
        self
    }

    /// So many bytes have come.
    pub fn restart(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Whether the peer has had its time. Only what is spent here counts: that the other side
    /// takes nothing is not its fault.
    pub fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let end = now + self.left();
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(end),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx) == Poll::Ready(()))
    }

    fn left(&self) -> Duration {
        let Some(rate) = self.rate.filter(|&rate| rate > 0) else { return self.timeout };
        let earned = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        self.timeout.saturating_add(earned).saturating_sub(self.waited).min(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A peer that says `bytes` every `pause` seconds: whether it is still waited for after
    /// `seconds`.
    async fn check(rate: Option<u64>, bytes: usize, pause: u64, seconds: u64, expected: bool) {
        let mut wait = Wait::new(Duration::from_secs(30)).with_rate(rate);
        for _ in 0..seconds / pause {
            let over = poll_fn(|cx| if wait.is_over(cx) { Poll::Ready(()) } else { Poll::Pending });
            if tokio::time::timeout(Duration::from_secs(pause), over).await.is_ok() {
                assert!(!expected, "cut at {bytes} bytes every {pause} s");
                return;
            }
            wait.restart(bytes);
        }
        assert!(expected, "not cut at {bytes} bytes every {pause} s");
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_is_not_waited_for_for_ever() {
        check(None, 1, 29, 36_000, true).await;
        check(None, 1, 31, 60, false).await;
        check(Some(240), 1, 29, 60, false).await;
        check(Some(240), 100, 1, 120, false).await;
        check(Some(240), 250, 1, 36_000, true).await;
        check(Some(240), 7000, 29, 36_000, true).await;
        // What was sent fast is not held against who pauses, but no pause is longer than the
        // timeout.
        check(Some(240), 100_000, 29, 3_600, true).await;
        check(Some(240), 100_000, 31, 62, false).await;
    }
}
