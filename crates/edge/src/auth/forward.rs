//! Forward auth on a worker: the question goes to a backend as any request does, and its answer is
//! kept for a while.
//!
//! Whatever goes wrong on the way is no answer, and without an answer nobody is let in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Limited};
use tidewire_auth::forward::{Allowed, Key, Meaning, Original};
use tokio::sync::OnceCell;
use tracing::{info, warn};

use super::authority::{Asked, Authority};
use super::denial::ServiceAnswer;
use crate::caller::Caller;
use crate::client_body::ClientBody;
use crate::forward::forward;
use crate::service::EdgeShard;

/// What a service says of a client.
#[derive(Debug)]
pub struct Verdict {
    pub said: Said,
    /// For how long it holds.
    kept: Duration,
}

#[derive(Debug)]
pub enum Said {
    Allowed(Box<Allowed>),
    Denied(ServiceAnswer),
    /// Nothing of use, and why.
    Unavailable(&'static str),
}

/// The verdicts that a worker keeps, and those that it waits for. Whoever asks what is asked just
/// now waits for the same answer.
#[derive(Default)]
pub struct Verdicts {
    kept: RefCell<HashMap<(usize, Key), Rc<Slot>>>,
    swept: Cell<Option<Instant>>,
}

/// A verdict and when it is over, or the wait for it.
type Slot = OnceCell<(Rc<Verdict>, Instant)>;

/// What the service of `auth` says about the client of `original`.
pub async fn ask(
    shard: &Rc<EdgeShard>,
    auth: usize,
    authority: &Authority,
    asked: &Asked,
    original: &Original<'_>,
    now: u64,
) -> Rc<Verdict> {
    let put = || async { Rc::new(put(shard, authority, asked, original, now).await) };
    if asked.forward.cache.is_zero() {
        return put().await;
    }
    let key = (auth, asked.forward.key(original));
    let Some(slot) = shard.verdicts.slot(key) else { return put().await };
    let mut is_ours = false;
    let (verdict, _) = slot
        .get_or_init(|| async {
            is_ours = true;
            let verdict = put().await;
            let until = Instant::now() + verdict.kept;
            (verdict, until)
        })
        .await;
    if verdict.kept.is_zero() {
        shard.verdicts.forget(key, &slot);
        // It may be for one client only, such as with a cookie for it. That nobody answers is the
        // same for all.
        if !is_ours && !matches!(verdict.said, Said::Unavailable(_)) {
            return put().await;
        }
    }
    Rc::clone(verdict)
}

async fn put(
    shard: &Rc<EdgeShard>,
    authority: &Authority,
    asked: &Asked,
    original: &Original<'_>,
    now: u64,
) -> Verdict {
    let answered = exchange(shard, authority, asked, original, now);
    let verdict = tokio::time::timeout(asked.forward.timeout, answered)
        .await
        .unwrap_or(Verdict::unavailable("timeout"));
    let is_right = !matches!(verdict.said, Said::Unavailable(_));
    if asked.is_right.swap(is_right, Ordering::Relaxed) != is_right {
        let (auth, backend) = (&authority.name, &asked.backend.name);
        match &verdict.said {
            Said::Unavailable(why) => {
                warn!(auth, backend, why, "nobody is let in: no answer about clients");
            }
            _ => info!(auth, backend, "answers about clients come again"),
        }
    }
    verdict
}

async fn exchange(
    shard: &Rc<EdgeShard>,
    authority: &Authority,
    asked: &Asked,
    original: &Original<'_>,
    now: u64,
) -> Verdict {
    let mut question = asked.forward.question(original);
    // Who may say who the client is to a server, may not be told by the client.
    shard.edge.identity_headers.remove_from(question.headers_mut());
    let question = question.map(|()| ClientBody::empty());
    let answered = match forward(shard, &asked.backend, &Caller::edge(), question).await {
        Ok(forwarded) => forwarded.response,
        Err(fault) => return Verdict::unavailable(fault.as_str()),
    };
    let (head, body) = answered.into_parts();
    // To its end: what breaks off may have been meant otherwise, and the connection can be kept.
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Verdict::unavailable("its body broke off or is too long");
    };
    let meaning = asked.forward.meaning(&authority.name, original, head.status, &head.headers, now);
    let kept = asked.forward.kept_for(&meaning, &head.headers, now);
    let said = match meaning {
        Meaning::Allowed(allowed) => Said::Allowed(allowed),
        Meaning::Denied { status, headers } => {
            Said::Denied(ServiceAnswer { status, headers, body: body.to_bytes() })
        }
        Meaning::Broken(why) => Said::Unavailable(why),
    };
    Verdict { said, kept }
}

impl Verdict {
    fn unavailable(why: &'static str) -> Self {
        Self { said: Said::Unavailable(why), kept: Duration::ZERO }
    }
}

impl Verdicts {
    /// The slot for a question; `None` when there are too many.
    fn slot(&self, key: (usize, Key)) -> Option<Rc<Slot>> {
        let mut kept = self.kept.borrow_mut();
        let now = Instant::now();
        if let Some(slot) = kept.get(&key).filter(|slot| !is_over(slot, now)) {
            return Some(Rc::clone(slot));
        }
        if kept.len() >= VERDICTS_MAX {
            // Looking through all of them takes its time: not for each question.
            if self.swept.get().is_some_and(|at| now - at < SWEEP_INTERVAL) {
                return None;
            }
            self.swept.set(Some(now));
            kept.retain(|_, slot| !is_over(slot, now));
            if kept.len() >= VERDICTS_MAX {
                return None;
            }
        }
        let slot = Rc::<Slot>::default();
        kept.insert(key, Rc::clone(&slot));
        Some(slot)
    }

    fn forget(&self, key: (usize, Key), slot: &Rc<Slot>) {
        let mut kept = self.kept.borrow_mut();
        if kept.get(&key).is_some_and(|there| Rc::ptr_eq(there, slot)) {
            kept.remove(&key);
        }
    }
}

/// A slot that nobody has filled or waits for is over, too: its question was given up.
fn is_over(slot: &Rc<Slot>, now: Instant) -> bool {
    match slot.get() {
        Some((_, until)) => *until <= now,
        None => Rc::strong_count(slot) == 1,
    }
}

/// Longest body of an answer; a page that asks to log in is shorter.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most verdicts that a worker keeps; what is asked beyond them is not kept.
const VERDICTS_MAX: usize = 10_000;

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
