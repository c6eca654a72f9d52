//! A client as its shard sees it: where frames for it go.
//!
//! Deliveries write from their own task, inline, as waking each client's task for each message is
//! what makes a fan-out expensive. What the socket does not take waits in the outbox, and only then
//! the client's task is woken to drain it.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use smallvec::SmallVec;
use tidewire_runtime::socket::Socket;

use crate::allowance::Slot;
use crate::close::Traffic;
use crate::metrics::HubMetrics;
use crate::notice::Standing;
use crate::outbox::Outbox;
use crate::pass::Pass;
use crate::protocol::Protocol;
use crate::publication::ClientId;
use crate::route::HubRoute;
use crate::subscribers::Subscribers;

/// A client of a shard, shared by its own task and the deliveries.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) protocol: Protocol,
    pub(crate) route: Arc<HubRoute>,
    pub(crate) subscribers: Rc<Subscribers>,
    /// Its index among the subscribers of its protocol; `None` once it has left them.
    pub(crate) place: Cell<Option<u32>>,
    pub(crate) standing: Cell<Standing>,
    /// Who it is and what it may do, when the route asks for that.
    pub(crate) pass: Option<Box<Pass>>,
    pub(crate) traffic: Cell<Traffic>,
    /// What it has used of its route's limits.
    pub(crate) allowance: Slot,
    wish: Cell<Option<Wish>>,
    io: RefCell<Io>,
    /// The client's task, once it has started.
    waker: RefCell<Option<Waker>>,
}

/// Why the deliveries want a client closed; its task does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Slow,
    Broken(io::ErrorKind),
    BrokerAway,
}

#[derive(Debug)]
struct Io {
    /// None before the handshake is over: what is published meanwhile waits in the outbox.
    socket: Option<Socket>,
    outbox: Outbox,
}

/// Who counts what a client is sent.
#[derive(Clone, Copy)]
pub(crate) struct Meter<'a> {
    pub(crate) metrics: &'a HubMetrics,
    pub(crate) queue_bytes_max: usize,
}

impl Client {
    pub(crate) fn new(
        id: ClientId,
        protocol: Protocol,
        route: Arc<HubRoute>,
        subscribers: Rc<Subscribers>,
        pass: Option<Box<Pass>>,
    ) -> Self {
        Self {
            id,
            protocol,
            route,
            subscribers,
            place: Cell::new(None),
            standing: Cell::default(),
            pass,
            traffic: Cell::default(),
            allowance: Slot::default(),
            wish: Cell::new(None),
            io: RefCell::new(Io { socket: None, outbox: Outbox::default() }),
            waker: RefCell::new(None),
        }
    }

    /// The handshake is over: frames go to `socket` from now on.
    pub(crate) fn attach(&self, socket: Socket) {
        self.io.borrow_mut().socket = Some(socket);
    }

    /// Hands `messages` in `chunks` of whole frames to the client, or none if it is being closed.
    pub(crate) fn deliver(&self, chunks: &[Bytes], messages: u32, meter: Meter<'_>) {
        if self.wish.get().is_some() || chunks.is_empty() {
            return;
        }
        self.count(|traffic| traffic.messages_out += u64::from(messages));
        meter.metrics.messages_out.add(u64::from(messages));
        self.send(chunks, meter);
    }

    /// Writes `chunks` of whole frames, or queues what the socket does not take. Passing the bound
    /// of the queue closes the client as slow.
    pub(crate) fn send(&self, chunks: &[Bytes], meter: Meter<'_>) {
        let mut io = self.io.borrow_mut();
        let written = match io.write(chunks) {
            Ok(written) => written,
            Err(error) => return self.wish_for(Wish::Broken(error)),
        };
        if written > 0 {
            self.count(|traffic| traffic.bytes_out += written as u64);
            meter.metrics.bytes_out.add(written as u64);
            meter.metrics.writes.add(1);
        }
        io.queue(chunks, written);
        if !io.is_backed_up() {
            return;
        }
        if io.cost() > meter.queue_bytes_max {
            return self.wish_for(Wish::Slow);
        }
        drop(io);
        self.wake();
    }

    /// Wants the client closed. The first wish counts; it gets no more deliveries.
    pub(crate) fn wish_for(&self, wish: Wish) {
        if self.wish.get().is_none() {
            self.wish.set(Some(wish));
        }
        self.wake();
    }

    pub(crate) fn wish(&self) -> Option<Wish> {
        self.wish.get()
    }

    /// Remembers the task to wake.
    pub(crate) fn register(&self, waker: &Waker) {
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

    pub(crate) fn count(&self, count: impl FnOnce(&mut Traffic)) {
        let mut traffic = self.traffic.get();
        count(&mut traffic);
        self.traffic.set(traffic);
    }

    /// As [`Socket::poll_read`].
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.io.borrow_mut().socket_mut().poll_read(cx, buffer)
    }

    /// Writes what waits; ready once nothing does. `on_progress` hears how many bytes were taken.
    pub(crate) fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        metrics: &HubMetrics,
        mut on_progress: impl FnMut(),
    ) -> Poll<io::Result<()>> {
        let Io { socket, outbox } = &mut *self.io.borrow_mut();
        let socket = socket.as_mut().expect(ATTACHED);
        while !outbox.is_empty() {
            let written = match ready!(socket.poll_write_vectored(cx, &outbox.slices())) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => written,
                Err(error) => return Poll::Ready(Err(error)),
            };
            outbox.consume(written);
            self.count(|traffic| traffic.bytes_out += written as u64);
            metrics.bytes_out.add(written as u64);
            metrics.writes.add(1);
            on_progress();
        }
        let unsent = socket.unsent_bytes();
        let flushed = socket.poll_flush(cx);
        if socket.unsent_bytes() < unsent {
            on_progress();
        }
        flushed
    }

    /// Whether frames wait for the socket.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.io.borrow().is_backed_up()
    }

    /// Drops what waits, but for the rest of a frame that has begun.
    pub(crate) fn cut(&self) {
        self.io.borrow_mut().outbox.cut();
    }

    /// As [`Socket::shutdown_write`]; it may fail when the client is gone already.
    pub(crate) fn shutdown_write(&self, cx: &mut Context<'_>) {
        let mut io = self.io.borrow_mut();
        let socket = io.socket_mut();
        if socket.shutdown_write().is_ok() {
            // What it cannot say now, it says when the task is woken for it.
            let _ = socket.poll_flush(cx);
        }
    }

    /// As [`Socket::reset_on_drop`].
    pub(crate) fn reset_on_drop(&self) {
        self.io.borrow_mut().socket_mut().reset_on_drop();
    }
}

impl Io {
    fn socket_mut(&mut self) -> &mut Socket {
        self.socket.as_mut().expect(ATTACHED)
    }

    /// Whether anything waits: frames for the socket, or in it what the kernel has not got.
    fn is_backed_up(&self) -> bool {
        self.waiting_bytes() > 0
    }

    fn waiting_bytes(&self) -> usize {
        self.outbox.bytes() + self.socket.as_ref().map_or(0, Socket::unsent_bytes)
    }

    /// The memory that all this takes.
    fn cost(&self) -> usize {
        self.outbox.cost() + self.socket.as_ref().map_or(0, Socket::unsent_bytes)
    }

    /// Writes what the socket takes of `chunks` now, and returns how many bytes that is.
    fn write(&mut self, chunks: &[Bytes]) -> Result<usize, io::ErrorKind> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.outbox.is_empty()) else {
            return Ok(0);
        };
        let tried = match chunks {
            [chunk] => socket.try_write(chunk),
            _ => {
                // More chunks than that are the own messages of a busy sender; the rest of them
                // goes through the outbox.
                let slices = chunks.iter().take(SLICES_MAX).map(|chunk| IoSlice::new(chunk));
                socket.try_write_vectored(&slices.collect::<SmallVec<[_; SLICES_MAX]>>())
            }
        };
        match tried {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.kind()),
        }
    }

    /// Queues `chunks` without the first `written` bytes.
    fn queue(&mut self, chunks: &[Bytes], written: usize) {
        let mut taken = written;
        for chunk in chunks {
            if taken >= chunk.len() {
                taken -= chunk.len();
                continue;
            }
            self.outbox.push(chunk.clone(), std::mem::take(&mut taken));
        }
    }
}

const SLICES_MAX: usize = 64;
const ATTACHED: &str = "a client's task starts with its socket attached";
