//! The connections of one worker: what wakes each of them besides its sockets.
//!
//! ```text
//!   deadline passed ─┐
//!   worker drains   ─┼─> Watch.signal ─> the connection's task, in poll_signal
//!   time is up      ─┘
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::deadline::{NEVER, Tick, Wheel};
use crate::groups::{Groups, Members, NO_GROUP, Seat, Whom};
use crate::worker::Worker;

/// What a connection is told by its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The deadline that it set has passed; it has none now.
    Expired,
    /// The worker drains: finish in good order. Told once.
    Drain,
    /// The drain's deadline has passed: end now. Told again and again.
    Stop,
}

/// A connection's place among those of its worker. Dropping it takes the place back.
#[derive(Debug)]
pub struct Watch {
    worker: Rc<Worker>,
    place: Rc<Place>,
}

impl Watch {
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The present tick; see [`crate::deadline::TICK`].
    pub fn now(&self) -> Tick {
        self.worker.now()
    }

    /// Asks for [`Signal::Expired`] at `at`, in place of any earlier wish.
    pub fn expire_at(&self, at: Tick) {
        self.place.deadline.set(at);
        if at < self.place.scheduled.get() {
            let mut connections = self.worker.connections().borrow_mut();
            self.place.scheduled.set(connections.wheel.insert(self.place.key.get(), at));
            drop(connections);
            self.worker.wake_ticker();
        }
    }

    /// Asks for [`Signal::Expired`] once `after` ticks have passed.
    pub fn expire_after(&self, after: Tick) {
        self.expire_at(self.now().saturating_add(after));
    }

    /// Asks for no further [`Signal::Expired`].
    pub fn expire_never(&self) {
        self.place.deadline.set(NEVER);
        self.place.told.set(self.place.told.get() & !EXPIRED);
    }

    /// Joins a group of the worker's connections, of which some may be told to leave; once, and
    /// until it is dropped.
    pub fn join(&self, group: u32, members: &Arc<Members>) {
        let mut connections = self.worker.connections().borrow_mut();
        if self.place.group.get() == NO_GROUP
            && let Some(seat) = connections.groups.join(group, members, self.place.key.get())
        {
            self.place.sit(seat);
            self.place.since.set(self.worker.now());
        }
    }

    /// Whether it was told to leave its group. Its task is woken for that, and told once.
    pub fn is_to_leave(&self) -> bool {
        self.place.take(LEAVE)
    }

    pub fn is_draining(&self) -> bool {
        self.worker.is_draining()
    }

    /// Begins anew for the connection's next owner: no deadline, and told of a drain again.
    pub fn renew(&self) {
        self.expire_never();
        self.place.told.set(0);
    }

    /// What the worker has to say, or pending, with the task registered to hear it.
    pub fn poll_signal(&self, cx: &mut Context<'_>) -> Poll<Signal> {
        if self.worker.is_stopping() {
            return Poll::Ready(Signal::Stop);
        }
        if self.place.take(EXPIRED) {
            return Poll::Ready(Signal::Expired);
        }
        if self.worker.is_draining() && self.place.tell(DRAIN) {
            return Poll::Ready(Signal::Drain);
        }
        self.place.register(cx.waker());
        Poll::Pending
    }

    /// As [`Watch::poll_signal`], to await.
    pub async fn signal(&self) -> Signal {
        std::future::poll_fn(|cx| self.poll_signal(cx)).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.worker.leave(self.place.key.get());
    }
}

/// All connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: Slab<Rc<Place>>,
    groups: Groups,
    wheel: Wheel,
    due: Vec<(u32, Tick)>,
}

impl Connections {
    pub(crate) fn enter(&mut self, worker: Rc<Worker>) -> Watch {
        let place = Rc::new(Place::new());
        let key = self.places.insert(Rc::clone(&place));
        place.key.set(u32::try_from(key).expect("fewer connections than a process has files"));
        Watch { worker, place }
    }

    pub(crate) fn leave(&mut self, key: u32) {
        let place = self.places.remove(key as usize);
        self.leave_group(&place);
        // A burst must not hold its memory for ever.
        if self.places.is_empty() && self.places.capacity() > 1024 {
            self.places = Slab::new();
        }
    }

    /// How many of the worker's connections are in a group.
    pub(crate) fn group_len(&self, group: u32) -> usize {
        self.groups.len(group)
    }

    /// Tells up to `most` of a group to leave it; returns how many were told.
    pub(crate) fn tell_to_leave(
        &mut self,
        group: u32,
        most: usize,
        whom: Whom,
        now: Tick,
    ) -> usize {
        for told in 0..most {
            let since = |key| self.places.get(key as usize).map_or(now, |it| it.since.get());
            let below = |most| fastrand::usize(0..most);
            let Some(key) = self.groups.pick(group, whom, now, since, below) else { return told };
            let Some(place) = self.places.get(key as usize).map(Rc::clone) else { return told };
            self.leave_group(&place);
            place.tell(LEAVE);
            place.wake();
        }
        most
    }

    fn leave_group(&mut self, place: &Place) {
        let Some(seat) = place.stand_up() else { return };
        if let Some(moved) = self.groups.leave(seat)
            && let Some(moved) = self.places.get(moved as usize)
        {
            moved.sit(seat);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn has_deadlines(&self) -> bool {
        !self.wheel.is_empty()
    }

    /// Tells every connection whose deadline has passed by `now`.
    pub(crate) fn expire(&mut self, now: Tick) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for (key, tick) in due.drain(..) {
            let Some(place) = self.places.get(key as usize) else { continue };
            if place.scheduled.get() != tick {
                continue; // Its place in the wheel is another one now.
            }
            place.scheduled.set(NEVER);
            let deadline = place.deadline.get();
            if deadline <= now {
                place.deadline.set(NEVER);
                place.tell(EXPIRED);
                place.wake();
            } else if deadline != NEVER {
                place.scheduled.set(self.wheel.insert(key, deadline));
            }
        }
        due.shrink_to(1024);
        self.due = due;
    }

    pub(crate) fn wake_all(&self) {
        for (_, place) in &self.places {
            place.wake();
        }
    }
}

#[derive(Debug)]
struct Place {
    key: Cell<u32>,
    deadline: Cell<Tick>,
    /// Where the wheel has this key, `NEVER` when nowhere. It may come earlier than `deadline`.
    scheduled: Cell<Tick>,
    /// When it has joined its group.
    since: Cell<Tick>,
    position: Cell<u32>,
    group: Cell<u16>,
    /// What it has been told, or is to be told: [`EXPIRED`], [`DRAIN`], [`LEAVE`].
    told: Cell<u8>,
    waker: RefCell<Option<Waker>>,
}

impl Place {
    fn new() -> Self {
        Self {
            key: Cell::new(0),
            deadline: Cell::new(NEVER),
            scheduled: Cell::new(NEVER),
            since: Cell::new(0),
            position: Cell::new(0),
            group: Cell::new(NO_GROUP),
            told: Cell::new(0),
            waker: RefCell::new(None),
        }
    }

    /// Sets a mark; false when it was set.
    fn tell(&self, mark: u8) -> bool {
        let told = self.told.get();
        self.told.set(told | mark);
        told & mark == 0
    }

    /// Takes a mark away; true when it was set.
    fn take(&self, mark: u8) -> bool {
        let told = self.told.get();
        self.told.set(told & !mark);
        told & mark != 0
    }

    fn sit(&self, seat: Seat) {
        self.group.set(seat.group);
        self.position.set(seat.position);
    }

    fn stand_up(&self) -> Option<Seat> {
        let group = self.group.replace(NO_GROUP);
        (group != NO_GROUP).then(|| Seat { group, position: self.position.get() })
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Its deadline has passed.
const EXPIRED: u8 = 1;
/// It has heard of the drain.
const DRAIN: u8 = 2;
/// It is to leave its group.
const LEAVE: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each connection. With its two counters it fills 64 bytes.
    #[test]
    fn a_place_is_small() {
        assert_eq!(size_of::<Place>(), 48);
    }
}
