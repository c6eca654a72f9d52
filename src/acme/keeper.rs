//! Keeps the certificate of some names: there, valid, and the same on every node.
//!
//! ```text
//!             ┌── not due: sleep ──┐
//!             v                    │
//!   ──> Look: install what is kept ┴─ due ──> Lock ──> Order ──┬─ issued: keep, install ──> Look
//!             ^                          taken │               └─ failed: note until when ──> Look
//!             └────────────────────────────────┘
//! ```
//!
//! Whatever a round needs to know it reads from the storage, so that nodes and restarts need no
//! other word between them. The lock makes one of all nodes order, and one order at a time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::authority::Authority;
use super::issued::Issued;
use super::metrics::OrderResult;
use super::names::Names;
use super::order::{OrderError, order};
use super::schedule::{backoff, renewal};
use super::storage::{Retry, StorageError, unix_seconds};

/// Puts a certificate where handshakes find it.
pub type Install = Arc<dyn Fn(&Issued) + Send + Sync>;

/// Keeps the certificate of some names.
pub struct Keeper {
    pub authority: Authority,
    pub names: Names,
    pub install: Install,
    installed: Option<Issued>,
    /// Where in its time this node renews, so that nodes and names are spread.
    chance: f64,
    /// What has been logged, so that it is not again until something else has.
    said: Said,
    begun: SystemTime,
    /// The failure that this process has noted last, for which it waits in full.
    noted: Option<Retry>,
    /// That failure, when it could not be kept.
    unkept: Option<Retry>,
}

/// What the log has heard last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Locked,
    Waiting(u64),
    Unusable(String),
}

/// What a round has found, and so when the next one is.
enum Found {
    /// Nothing to do before then.
    Until(SystemTime),
    /// Something has happened; look at once.
    Changed,
    /// Another node orders.
    Locked,
}

impl Keeper {
    pub fn new(authority: Authority, names: Names, install: Install) -> Self {
        let (chance, begun) = (fastrand::f64(), SystemTime::now());
        let said = Said::Nothing;
        let (installed, noted, unkept) = (None, None, None);
        Self { authority, names, install, installed, chance, said, begun, noted, unkept }
    }

    /// Runs for as long as the node does.
    pub async fn run(mut self) {
        loop {
            let wait = match self.round().await {
                Ok(Found::Changed) => continue,
                Ok(Found::Locked) => LOOK_WHILE_LOCKED,
                Ok(Found::Until(time)) => until(time).min(LOOK_AGAIN),
                Err(error) => {
                    self.say(Said::Unusable(error.to_string()));
                    self.authority.config.retry.0.min(LOOK_AGAIN)
                }
            };
            tokio::time::sleep(wait.max(LEAST_WAIT)).await;
        }
    }

    async fn round(&mut self) -> Result<Found, StorageError> {
        self.take_kept()?;
        let now = SystemTime::now();
        let due = self.installed.as_ref().map_or(now, |it| self.due(it));
        if due > now {
            return Ok(Found::Until(due));
        }
        if let Some(next) = self.retry_at()? {
            return Ok(Found::Until(next));
        }
        self.authority.storage.prepare(&self.names)?;
        let Some(_lock) = self.authority.storage.lock(&self.names)? else {
            self.say(Said::Locked);
            return Ok(Found::Locked);
        };
        // Whoever had the lock may have left something.
        let is_new = self.take_kept()?;
        if is_new || self.retry_at()?.is_some() {
            return Ok(Found::Changed);
        }
        self.order().await?;
        Ok(Found::Changed)
    }

    /// Installs the certificate that is kept, if it is another one than is installed. Whether it
    /// is.
    fn take_kept(&mut self) -> Result<bool, StorageError> {
        let Some(text) = self.authority.storage.certificate(&self.names)? else { return Ok(false) };
        let kept = match Issued::read(&text, &self.names, SystemTime::now()) {
            Ok(kept) => kept,
            Err(error) => {
                if self.installed.is_none() {
                    let path = self.authority.storage.certificate_path(&self.names);
                    let said = format!("{} is not used: {error}", path.display());
                    self.say(Said::Unusable(said));
                }
                return Ok(false);
            }
        };
        // An older one is there when the one in use could not be kept.
        let is_newer = |it: &Issued| !it.is(&kept) && it.not_after <= kept.not_after;
        if !self.installed.as_ref().is_none_or(is_newer) {
            return Ok(false);
        }
        self.use_from_now(kept);
        Ok(true)
    }

    fn use_from_now(&mut self, issued: Issued) {
        let (renewal, ends) = (in_days(self.due(&issued)), in_days(issued.not_after));
        info!(names = %self.names, ends, renewal, "acme: certificate is used");
        (self.install)(&issued);
        self.installed = Some(issued);
        self.said = Said::Nothing;
    }

    fn due(&self, issued: &Issued) -> SystemTime {
        let before = self.authority.config.renew_before.0;
        renewal(issued.not_before, issued.not_after, before, self.chance)
    }

    /// Until when nobody orders, if that is not past.
    fn retry_at(&mut self) -> Result<Option<SystemTime>, StorageError> {
        let kept = self.authority.storage.retry(&self.names)?;
        let Some(retry) = self.unkept.clone().or(kept) else { return Ok(None) };
        let mut next = retry.next();
        let is_older = retry.failed() < self.begun && self.noted.as_ref() != Some(&retry);
        if is_older && !retry.is_ordered {
            // Whoever has started us again may have mended what was wrong. One who does so without
            // end is still held back.
            next = next.min(retry.failed() + self.authority.config.retry.0);
        }
        let now = SystemTime::now();
        // A clock that was wrong when this was written must not hold us for years.
        if next <= now || until(next) > RETRY_LONGEST {
            return Ok(None);
        }
        self.say_waiting(&retry, next);
        Ok(Some(next))
    }

    /// Orders, and keeps what comes of it: a certificate, or a note for whoever would order next.
    async fn order(&mut self) -> Result<(), StorageError> {
        info!(names = %self.names, directory = self.authority.config.directory, "acme: ordering");
        let deadline = Instant::now() + self.authority.config.timeout.0;
        let storage = &self.authority.storage;
        match order(&self.authority, &self.names, deadline).await {
            Ok((issued, text)) => {
                self.authority.metrics.count(OrderResult::Issued);
                info!(names = %self.names, ends = in_days(issued.not_after), "acme: issued");
                let kept = storage.keep_certificate(&self.names, &text);
                let forgotten = storage.forget_retry(&self.names);
                // Also one that cannot be kept, or the next one would be ordered at once.
                self.use_from_now(issued.clone());
                self.hold_back(&issued)?;
                kept.and(forgotten)
            }
            Err(error) => self.failed(error),
        }
    }

    /// A certificate that is due as soon as it is issued (its authority dates it back, or our clock
    /// is wrong) must not be ordered again at once, and for ever.
    fn hold_back(&mut self, issued: &Issued) -> Result<(), StorageError> {
        if self.due(issued) > SystemTime::now() {
            return Ok(());
        }
        warn!(names = %self.names, "acme: the new certificate is due for renewal; is the clock right?");
        let error = "the certificate was due for renewal when it was issued".to_owned();
        self.note(1, None, error)
    }

    fn failed(&mut self, error: OrderError) -> Result<(), StorageError> {
        let ordered = match &error {
            OrderError::RateLimited { until, .. } => *until,
            _ => None,
        };
        let result = match error {
            OrderError::RateLimited { .. } => OrderResult::RateLimited,
            _ => OrderResult::Failed,
        };
        self.authority.metrics.count(result);
        let before = self.authority.storage.retry(&self.names)?.map_or(0, |it| it.failures);
        self.note(before.saturating_add(1), ordered, error.to_string())
    }

    fn note(
        &mut self,
        failures: u32,
        ordered: Option<SystemTime>,
        error: String,
    ) -> Result<(), StorageError> {
        let now = SystemTime::now();
        let wait = backoff(failures, self.authority.config.retry.0, fastrand::f64());
        let next = ordered.unwrap_or(now + wait).max(now);
        let is_ordered = ordered.is_some();
        let (failed, next) = (unix_seconds(now).saturating_sub(1), unix_seconds(next));
        let retry = Retry { failures, failed, next, is_ordered, error };
        self.noted = Some(retry.clone());
        self.unkept = Some(retry.clone());
        self.authority.storage.keep_retry(&self.names, &retry)?;
        self.unkept = None;
        Ok(())
    }

    fn say_waiting(&mut self, retry: &Retry, next: SystemTime) {
        let said = Said::Waiting(retry.failed);
        if self.said == said {
            return;
        }
        let in_seconds = until(next).as_secs();
        let (names, error, failures) = (&self.names, &retry.error, retry.failures);
        let file = self.authority.storage.retry_path(&self.names);
        let file = file.display();
        let ends = self.installed.as_ref().map_or("none".to_owned(), |it| in_days(it.not_after));
        // While there is a certificate, there is time.
        match self.installed {
            Some(_) => warn!(%names, error, failures, in_seconds, ends, %file, "acme: not renewed"),
            None => error!(%names, error, failures, in_seconds, %file, "acme: no certificate"),
        }
        self.said = said;
    }

    fn say(&mut self, said: Said) {
        if self.said == said {
            return;
        }
        let names = &self.names;
        match &said {
            Said::Locked => info!(%names, "acme: another node orders"),
            Said::Unusable(error) => error!(%names, error, "acme: storage"),
            Said::Nothing | Said::Waiting(_) => {}
        }
        self.said = said;
    }
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// `"59.9 days"`, or `"-0.1 days"` for what is past.
fn in_days(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::now()) {
        Ok(left) => left.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    };
    match seconds.abs() {
        0.0..172_800.0 => format!("in {:.0} s", seconds),
        _ => format!("in {:.1} days", seconds / 86_400.0),
    }
}

/// What other nodes have put into the storage is seen so late at most.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOK_WHILE_LOCKED: Duration = Duration::from_secs(1);
const LEAST_WAIT: Duration = Duration::from_millis(50);
/// Beyond what any authority says.
const RETRY_LONGEST: Duration = Duration::from_secs(30 * 86_400);
