//! WebSockets whose clients have an identity, and the end of it.
//!
//! A worker has one [`Lives`]. Whoever owns a WebSocket holds its [`Live`], registers its task
//! there, and asks it why the WebSocket should end: the identity may run out or be revoked long
//! after the 101.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use slab::Slab;

use crate::identity::Identity;
use crate::revocation::Revocations;

/// The WebSockets of a worker that have an identity.
#[derive(Debug, Default)]
pub struct Lives(RefCell<Slab<Rc<Inner>>>);

/// A WebSocket's claim to be there. Leaves [`Lives`] when it is dropped.
#[derive(Debug)]
pub struct Live {
    lives: Rc<Lives>,
    key: usize,
    inner: Rc<Inner>,
}

/// Why the identity of a WebSocket does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    Expired,
    Revoked,
}

#[derive(Debug)]
struct Inner {
    identity: RefCell<Arc<Identity>>,
    is_revoked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Lives {
    pub fn enter(self: &Rc<Self>, identity: Arc<Identity>) -> Live {
        let inner = Rc::new(Inner {
            identity: RefCell::new(identity),
            is_revoked: Cell::new(false),
            waker: RefCell::new(None),
        });
        let key = self.0.borrow_mut().insert(Rc::clone(&inner));
        Live { lives: Rc::clone(self), key, inner }
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes each WebSocket whose identity is revoked now; returns how many.
    pub fn revoke(&self, revocations: &Revocations) -> usize {
        let lives = self.0.borrow();
        let hit = |inner: &&Rc<Inner>| {
            !inner.is_revoked.get() && revocations.is_revoked(&inner.identity.borrow())
        };
        let mut count = 0;
        for inner in lives.iter().map(|(_, inner)| inner).filter(hit) {
            inner.is_revoked.set(true);
            if let Some(waker) = &*inner.waker.borrow() {
                waker.wake_by_ref();
            }
            count += 1;
        }
        count
    }
}

impl Live {
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.inner.identity.borrow())
    }

    /// The client has shown a newer credential for the same identity.
    pub fn renew(&self, identity: Arc<Identity>) {
        *self.inner.identity.borrow_mut() = identity;
    }

    /// When the identity ends, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.inner.identity.borrow().expires()
    }

    /// Whether it has been revoked; the task of `cx` is woken when that changes.
    pub fn poll_revoked(&self, cx: &Context<'_>) -> bool {
        if self.inner.is_revoked.get() {
            return true;
        }
        let mut slot = self.inner.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lives.0.borrow_mut().remove(self.key);
    }
}
