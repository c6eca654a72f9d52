//! A client's requests and their answers, as the bytes on its connection have them.
//!
//! hyper reads and writes through [`HttpIo`](crate::http_io::HttpIo), and this stands there: what
//! comes is followed before hyper sees it, and what hyper would say of its own is held back, for
//! the session says it with a reason.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use tidewire_wire::http::framing::fault::FramingFault;
use tidewire_wire::http::framing::{Follower, HeadLimits};

/// What is known of the requests of a connection.
#[derive(Debug)]
pub struct Framing {
    follower: RefCell<Follower>,
    fault: Cell<Option<FramingFault>>,
    answer: Cell<Answer>,
    /// Whether an answer may not be written to its end yet, be it that of an earlier request.
    is_unwritten: Cell<bool>,
    /// Who waits until it is.
    next: RefCell<Option<Waker>>,
    is_end_kept: Cell<bool>,
    /// Who is to hear of the end that was kept.
    reader: RefCell<Option<Waker>>,
}

/// How far the answer is that is owed to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is none: a request is waited for, or is being read.
    None,
    /// There is a request and nothing is said to it yet.
    Owed,
    /// Some of it may be on the wire.
    Begun,
    /// All of it is hyper's to write.
    Said,
    /// It is a 101: with that, hyper is over.
    Switch,
}

/// A request that is not to be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub fault: FramingFault,
    /// Whether the client can be told: nothing else is being said, or was said to this request.
    pub can_be_told: bool,
}

impl Framing {
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            follower: RefCell::new(Follower::new(limits)),
            fault: Cell::new(None),
            answer: Cell::new(Answer::None),
            is_unwritten: Cell::new(false),
            next: RefCell::new(None),
            is_end_kept: Cell::new(false),
            reader: RefCell::new(None),
        }
    }

    /// Whether nothing more is to be read.
    pub(crate) fn is_refused(&self) -> bool {
        self.fault.get().is_some()
    }

    /// How many of these bytes are for hyper to read.
    pub(crate) fn follow(&self, bytes: &[u8]) -> usize {
        let followed = self.follower.borrow_mut().follow(bytes);
        self.fault.set(followed.fault);
        followed.good
    }

    /// How far the answer is to what the client has asked last.
    pub(crate) fn answer(&self) -> Answer {
        self.answer.get()
    }

    pub(crate) fn set_answer(&self, answer: Answer) {
        self.answer.set(answer);
    }

    /// All of the answer is hyper's to write.
    pub(crate) fn note_said(&self) {
        self.answer.set(Answer::Said);
        self.is_unwritten.set(true);
        // It may be written already, and nothing else would tell.
        self.wake_reader();
    }

    /// hyper has nothing left that it would have to write.
    pub(crate) fn note_flushed(&self) {
        self.is_unwritten.set(false);
        self.next.take().into_iter().for_each(Waker::wake);
        if self.answer.get() == Answer::Said {
            self.answer.set(Answer::None);
            self.say_end();
        }
    }

    /// Whether an answer may not be written to its end.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.is_unwritten.get()
    }

    /// Waits until the answers to all earlier requests are written.
    pub(crate) async fn written(&self) {
        poll_fn(|cx| {
            if !self.is_unwritten.get() {
                return Poll::Ready(());
            }
            self.next.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// From now on hyper does not hear that the client has ended its direction: it would drop a
    /// request that the edge may answer by itself.
    pub(crate) fn keep_end(&self) {
        self.is_end_kept.set(true);
    }

    /// hyper hears of the client's end when it comes, or now, if it was there: whether it was.
    pub(crate) fn say_end(&self) -> bool {
        self.is_end_kept.set(false);
        self.wake_reader()
    }

    fn wake_reader(&self) -> bool {
        let reader = self.reader.take();
        let has_waited = reader.is_some();
        reader.into_iter().for_each(Waker::wake);
        has_waited
    }

    /// The client has ended its direction: whether hyper is to hear of it later.
    pub(crate) fn keeps_end(&self, cx: &Context<'_>) -> bool {
        let is_kept = self.is_end_kept.get();
        if is_kept {
            self.reader.replace(Some(cx.waker().clone()));
        }
        is_kept
    }

    /// Whether the connection is over with the request of this number (from 1) if it is not
    /// answered with a 101: what follows it was not followed.
    pub(crate) fn ends_with(&self, request: u32) -> bool {
        let follower = self.follower.borrow();
        follower.is_beyond() && follower.request() == request
    }

    /// Whether a further request has begun than the `asked` that hyper has read the heads of.
    pub(crate) fn is_in_head(&self, asked: u32) -> bool {
        self.follower.borrow().request() > asked
    }

    /// The request that is not to be read on, once all before it are answered. `asked` are the
    /// requests that hyper has read the heads of.
    pub(crate) fn refused(&self, asked: u32) -> Option<Refused> {
        let fault = self.fault.get()?;
        let request = self.follower.borrow().request();
        if asked >= request {
            return Some(Refused { fault, can_be_told: self.answer.get() == Answer::Owed });
        }
        let is_next = asked + 1 == request && self.answer.get() == Answer::None;
        is_next.then_some(Refused { fault, can_be_told: true })
    }
}
