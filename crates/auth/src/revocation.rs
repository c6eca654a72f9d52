//! Credentials that are right, and are not accepted any more.
//!
//! ```text
//!   admin, other nodes ──> Revocations::add ──┬─> new clients: is_revoked, before the 101
//!                                             └─> changed ──> Lives of each worker: the WebSocket ends
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::identity::{Credential, Identity};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The token of this id (`jti`).
    Token(Box<str>),
    /// All that was issued to this subject (`sub`) until then.
    Subject(Box<str>),
}

/// That something is revoked: since when, and until when it has to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    #[serde(flatten)]
    pub of: Revoked,
    /// When it was revoked, in seconds since 1970. What is issued to a subject later is good.
    pub at: u64,
    /// When it may be forgotten, in seconds since 1970: nothing that it speaks of lives longer.
    pub until: u64,
}

/// The revocations that a process knows of. Read without a lock.
#[derive(Debug)]
pub struct Revocations {
    known: ArcSwap<Known>,
    changed: watch::Sender<u64>,
}

type Known = HashMap<Revoked, Revocation>;

impl Default for Revocations {
    fn default() -> Self {
        Self { known: ArcSwap::default(), changed: watch::Sender::new(0) }
    }
}

impl Revocations {
    /// Adds what is not known yet, and forgets what may be. True when there was something new.
    pub fn add(&self, news: &[Revocation], now: u64) -> bool {
        let mut has_news = false;
        self.known.rcu(|known| {
            let mut next: Known = (**known).clone();
            next.retain(|_, one| one.until > now);
            has_news = false;
            for one in news.iter().filter(|one| one.until > now) {
                let is_new =
                    next.get(&one.of).is_none_or(|old| (old.at, old.until) < (one.at, one.until));
                if is_new && next.len() < REVOCATIONS_MAX {
                    next.insert(one.of.clone(), one.clone());
                    has_news = true;
                }
            }
            next
        });
        if has_news {
            self.changed.send_modify(|version| *version += 1);
        }
        has_news
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Revocation> {
        self.known.load().values().cloned().collect()
    }

    /// Whether one of the credentials of `identity` is revoked.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let known = self.known.load();
        !known.is_empty() && identity.credentials().any(|credential| is_revoked(&known, credential))
    }

    /// Tells when there are new ones.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// As [`Revocations::all`], shared.
    pub fn snapshot(&self) -> Arc<HashMap<Revoked, Revocation>> {
        self.known.load_full()
    }
}

fn is_revoked(known: &Known, credential: &Credential) -> bool {
    let token = credential
        .token_id
        .as_ref()
        .is_some_and(|id| known.contains_key(&Revoked::Token(id.clone())));
    let subject = || {
        let subject = credential.subject.clone()?;
        known.get(&Revoked::Subject(subject)).map(|one| one.at)
    };
    // What does not say when it was issued could be old.
    token || subject().is_some_and(|at| credential.issued.is_none_or(|issued| issued <= at))
}

/// Most revocations that are remembered.
const REVOCATIONS_MAX: usize = 100_000;
