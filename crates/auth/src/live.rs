//! WebSockets whose clients have an identity, and the end of it.
//!
//! ```text
//!   Lives::enter ──> Live ──poll_call──┬─ Revoked: end it now
//!                     ^                ├─ Look: the clock was set, ask `left` again
//!   revoke, clock_set ┘                └─ nothing: it ends when `left` says so
//! ```
//!
//! A worker has one [`Lives`]. Whoever owns a WebSocket holds its [`Live`], registers its task
//! there, and asks it why the WebSocket should end: the identity may run out or be revoked long
//! after the 101. There is no timer in here: the owner has one deadline already, and joins
//! [`Live::left`] with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;
use tokio::sync::Notify;

use crate::identity::Identity;
use crate::revocation::Revocations;

/// The WebSockets of a worker that have an identity.
#[derive(Debug, Default)]
pub struct Lives {
    places: RefCell<Slab<Rc<Inner>>>,
    revocations: Arc<Revocations>,
    /// Wakes the watch when there is somebody to watch over.
    entered: Notify,
}

/// A WebSocket's claim to be there. Leaves [`Lives`] when it is dropped. One pointer, as it is in
/// every tunnel, most of which have none.
#[derive(Debug)]
pub struct Live(Rc<Inner>);

/// Why the identity of a WebSocket does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    Expired,
    Revoked,
}

/// Why the task of a WebSocket was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The identity is revoked. Said again and again.
    Revoked,
    /// What [`Live::left`] has said may not be so any more. Said once.
    Look,
}

/// A newer credential is revoked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is revoked")]
pub struct IsRevoked;

#[derive(Debug)]
struct Inner {
    lives: Rc<Lives>,
    key: Cell<usize>,
    identity: RefCell<Arc<Identity>>,
    call: Cell<Option<Call>>,
    waker: RefCell<Option<Waker>>,
}

impl Lives {
    pub fn new(revocations: Arc<Revocations>) -> Self {
        Self { places: RefCell::default(), revocations, entered: Notify::new() }
    }

    /// Gives a WebSocket its place. What was revoked since the client was let in calls it at once.
    pub fn enter(self: &Rc<Self>, identity: Arc<Identity>) -> Live {
        let is_revoked = self.revocations.is_revoked(&identity);
        let inner = Rc::new(Inner {
            lives: Rc::clone(self),
            key: Cell::new(0),
            identity: RefCell::new(identity),
            call: Cell::new(is_revoked.then_some(Call::Revoked)),
            waker: RefCell::new(None),
        });
        let mut places = self.places.borrow_mut();
        if places.is_empty() {
            self.entered.notify_one();
        }
        inner.key.set(places.insert(Rc::clone(&inner)));
        Live(inner)
    }

    pub fn len(&self) -> usize {
        self.places.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes each WebSocket whose identity is revoked now; returns how many.
    pub fn revoke(&self, revocations: &Revocations) -> usize {
        let is_hit = |inner: &Inner| {
            inner.call.get() != Some(Call::Revoked)
                && revocations.is_revoked(&inner.identity.borrow())
        };
        self.call(Call::Revoked, is_hit)
    }

    /// The clock was set: what a WebSocket took for the time that it has left may be wrong.
    pub fn clock_set(&self) {
        self.call(Call::Look, |inner| inner.call.get().is_none());
    }

    fn call(&self, call: Call, is_meant: impl Fn(&Inner) -> bool) -> usize {
        let places = self.places.borrow();
        let mut count = 0;
        for inner in places.iter().map(|(_, inner)| inner).filter(|inner| is_meant(inner)) {
            inner.call.set(Some(call));
            if let Some(waker) = &*inner.waker.borrow() {
                waker.wake_by_ref();
            }
            count += 1;
        }
        count
    }

    /// Keeps watch: calls WebSockets when something is revoked, and when the clock is set. Ends
    /// when the worker does.
    pub async fn watch(self: Rc<Self>) {
        let mut changes = self.revocations.changes();
        let mut clock = Clock::now();
        loop {
            // Nobody to call, nothing to look at: an idle process does not wake.
            let pause = async {
                match self.is_empty() {
                    true => self.entered.notified().await,
                    false => tokio::time::sleep(CLOCK_EVERY).await,
                }
            };
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => _ = self.revoke(&self.revocations),
                    Err(_) => return,
                },
                () = pause => {
                    if clock.was_set(Clock::now()) {
                        self.clock_set();
                    }
                }
            }
        }
    }
}

impl Live {
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.0.identity.borrow())
    }

    /// The client has shown a newer credential for the same identity.
    pub fn renew(&self, identity: Arc<Identity>) -> Result<(), IsRevoked> {
        if self.0.lives.revocations.is_revoked(&identity) {
            return Err(IsRevoked);
        }
        *self.0.identity.borrow_mut() = identity;
        Ok(())
    }

    /// When the identity ends, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.0.identity.borrow().expires()
    }

    /// How long the identity holds from now on, by the clock on the wall: zero when it has ended,
    /// `None` when it does not end.
    pub fn left(&self) -> Option<Duration> {
        left(self.expires()?, SystemTime::now())
    }

    /// Why the task of `cx` should look at it now; the task is woken when there is a reason.
    pub fn poll_call(&self, cx: &Context<'_>) -> Option<Call> {
        match self.0.call.get() {
            Some(Call::Revoked) => return Some(Call::Revoked),
            Some(Call::Look) => self.0.call.set(None),
            None => {
                let mut slot = self.0.waker.borrow_mut();
                if !slot.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    *slot = Some(cx.waker().clone());
                }
                return None;
            }
        }
        let _ = self.poll_call(cx);
        Some(Call::Look)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut places = self.0.lives.places.borrow_mut();
        places.remove(self.0.key.get());
        // A burst must not hold its memory for ever.
        if places.is_empty() && places.capacity() > 1024 {
            *places = Slab::new();
        }
    }
}

/// The time from `now` until `expires`; an end that no clock can show is none.
fn left(expires: u64, now: SystemTime) -> Option<Duration> {
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires))?;
    Some(end.duration_since(now).unwrap_or_default())
}

/// The two clocks at one moment: they go apart when the one on the wall is set.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: SystemTime,
    steady: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// Whether the clock was set between this moment and `now`, which is the next one.
    fn was_set(&mut self, now: Self) -> bool {
        let steady = now.steady.duration_since(self.steady);
        let should_be = self.wall + steady;
        let apart = match now.wall.duration_since(should_be) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        let was_set = apart > CLOCK_APART;
        if was_set {
            *self = now;
        }
        was_set
    }
}

/// How often the clock is looked at.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// A clock that is slewed by NTP gains less in that time.
const CLOCK_APART: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use serde_json::Map;

    use super::*;
    use crate::identity::Credential;
    use crate::revocation::{Revocation, Revoked};

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn identity(subject: &str) -> Arc<Identity> {
        let credential = Credential {
            auth: "users".into(),
            subject: Some(subject.into()),
            token_id: None,
            issued: Some(100),
            expires: Some(1_000),
        };
        Arc::new(Identity::new(credential, Map::new()))
    }

    fn of_subject(subject: &str) -> Revocation {
        Revocation { of: Revoked::Subject(subject.into()), at: 200, until: 300 }
    }

    #[test]
    fn only_who_is_revoked_is_woken_and_it_stays_said() {
        let revocations = Arc::new(Revocations::default());
        let lives = Rc::new(Lives::new(Arc::clone(&revocations)));
        let (ann, bob) = (lives.enter(identity("ann")), lives.enter(identity("bob")));
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let cx = Context::from_waker(&waker);
        assert_eq!((ann.poll_call(&cx), bob.poll_call(&cx)), (None, None));
        revocations.add(&[of_subject("ann")], 200);
        assert_eq!(lives.revoke(&revocations), 1);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert_eq!((ann.poll_call(&cx), bob.poll_call(&cx)), (Some(Call::Revoked), None));
        assert_eq!(lives.revoke(&revocations), 0);
        lives.clock_set();
        assert_eq!(ann.poll_call(&cx), Some(Call::Revoked));
        assert_eq!((bob.poll_call(&cx), bob.poll_call(&cx)), (Some(Call::Look), None));
        drop((ann, bob));
        assert!(lives.is_empty());
    }

    #[test]
    fn what_was_revoked_on_the_way_in_or_before_a_renewal_does_not_slip_through() {
        let revocations = Arc::new(Revocations::default());
        let lives = Rc::new(Lives::new(Arc::clone(&revocations)));
        let bob = lives.enter(identity("bob"));
        revocations.add(&[of_subject("ann")], 200);
        let ann = lives.enter(identity("ann"));
        assert_eq!(ann.poll_call(&Context::from_waker(Waker::noop())), Some(Call::Revoked));
        assert_eq!(bob.renew(identity("ann")), Err(IsRevoked));
        assert_eq!(bob.identity().subject(), Some("bob"));
    }

    #[test]
    fn the_time_that_is_left_is_told_by_the_clock_on_the_wall() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds);
        assert_eq!(left(10, at(8_500)), Some(Duration::from_millis(1_500)));
        assert_eq!(left(10, at(10_000)), Some(Duration::ZERO));
        assert_eq!(left(10, at(99_000)), Some(Duration::ZERO));
        assert_eq!(left(u64::MAX, at(0)), None);
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_once_and_one_that_drifts_is_not() {
        let start = Clock::now();
        let after = |wall: i64, steady: u64| Clock {
            wall: start.wall + Duration::from_millis(wall.unsigned_abs()),
            steady: start.steady + Duration::from_millis(steady),
        };
        let mut clock = start;
        assert!(!clock.was_set(after(10_100, 10_000)));
        assert!(clock.was_set(after(80_000, 20_000)));
        assert!(!clock.was_set(after(90_000, 30_000)));
        assert!(clock.was_set(after(1, 40_000)));
    }

    #[test]
    fn a_tunnel_without_an_identity_pays_one_pointer() {
        assert_eq!(size_of::<Option<Live>>(), size_of::<usize>());
    }
}
