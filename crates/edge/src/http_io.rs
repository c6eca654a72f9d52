//! A socket as hyper reads and writes it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tidewire_runtime::buffer::with_scratch;
use tidewire_runtime::deadline::{NEVER, Tick};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::worker::Worker;

use crate::framing::{Answer, Framing};

/// A socket with a [`Meter`] on it.
#[derive(Debug)]
pub struct HttpIo {
    socket: Socket,
    meter: Rc<Meter>,
    /// The end of a 101 that the socket has not taken. hyper would forget it: it is over when it
    /// has a 101 in its buffer.
    rest: Vec<u8>,
}

/// What has passed through a socket, for whoever watches its deadlines.
#[derive(Debug)]
pub struct Meter {
    worker: Rc<Worker>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// When the peer last said something, `NEVER` before it has since [`Meter::begin`].
    heard: Cell<Tick>,
    /// Since when the peer takes nothing, `NEVER` while it does.
    stalled: Cell<Tick>,
    /// Of a client; servers are asked and do not ask.
    framing: Option<Framing>,
}

impl Meter {
    /// Of a server's connection.
    pub fn new(worker: Rc<Worker>) -> Rc<Self> {
        Self::with(worker, None)
    }

    /// Of a client's connection, whose requests are followed.
    pub fn of_client(worker: Rc<Worker>, framing: Framing) -> Rc<Self> {
        Self::with(worker, Some(framing))
    }

    fn with(worker: Rc<Worker>, framing: Option<Framing>) -> Rc<Self> {
        let none = || Cell::new(NEVER);
        Rc::new(Self {
            worker,
            framing,
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            heard: none(),
            stalled: none(),
        })
    }

    /// Of a client's connection.
    pub fn framing(&self) -> Option<&Framing> {
        self.framing.as_ref()
    }

    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// Forgets that the peer has said anything: a new message is waited for.
    pub fn begin(&self) {
        self.heard.set(NEVER);
    }

    /// When the peer first said something since [`Meter::begin`].
    pub fn heard(&self) -> Option<Tick> {
        Some(self.heard.get()).filter(|&tick| tick != NEVER)
    }

    /// Since when the peer takes nothing of what waits for it.
    pub fn stalled(&self) -> Option<Tick> {
        Some(self.stalled.get()).filter(|&tick| tick != NEVER)
    }

    fn note_read(&self, length: usize) {
        self.bytes_in.set(self.bytes_in.get() + length as u64);
        if length > 0 && self.heard.get() == NEVER {
            self.heard.set(self.worker.now());
        }
    }

    /// What was taken long ago is going out, or is not.
    fn note_flush(&self, is_done: bool, has_moved: bool) {
        if is_done || has_moved {
            self.stalled.set(NEVER);
        }
        if !is_done && self.stalled.get() == NEVER {
            self.stalled.set(self.worker.now());
        }
    }

    /// Whether hyper says something that nobody has asked it to: what it thinks of a head that it
    /// cannot read. The session says that, with a reason.
    fn is_unasked(&self) -> bool {
        self.framing.as_ref().is_some_and(|framing| framing.answer() == Answer::None)
    }

    fn is_switching(&self) -> bool {
        self.framing.as_ref().is_some_and(|framing| framing.answer() == Answer::Switch)
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(length)) => {
                self.bytes_out.set(self.bytes_out.get() + *length as u64);
                self.stalled.set(NEVER);
            }
            Poll::Pending if self.stalled.get() == NEVER => self.stalled.set(self.worker.now()),
            _ => {}
        }
    }
}

impl HttpIo {
    pub fn new(socket: Socket, meter: Rc<Meter>) -> Self {
        Self { socket, meter, rest: Vec::new() }
    }

    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// The socket, and what is to be written to it before anything else.
    pub fn into_socket_and_rest(self) -> (Socket, Vec<u8>) {
        (self.socket, self.rest)
    }

    /// What has come of writing `slices`; of a 101, everything is taken.
    fn written(
        &mut self,
        slices: &[IoSlice<'_>],
        write: impl FnOnce(&mut Socket) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.meter.is_unasked() {
            return Poll::Ready(Ok(length(slices)));
        }
        let mut written = Poll::Pending;
        if self.rest.is_empty() {
            written = write(&mut self.socket);
            self.meter.note_write(&written);
        }
        if written.is_pending() && self.meter.is_switching() {
            slices.iter().for_each(|slice| self.rest.extend_from_slice(slice));
            return Poll::Ready(Ok(length(slices)));
        }
        written
    }
}

impl Read for HttpIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let framing = this.meter.framing.as_ref();
        if framing.is_some_and(Framing::is_refused) {
            return Poll::Pending; // The session ends the connection.
        }
        // Through the scratch buffer: hyper's own may be uninitialised memory, which only unsafe
        // code could hand to the kernel. A head is a few hundred bytes to copy.
        with_scratch(|scratch| {
            let room = buffer.remaining().min(scratch.len());
            let length = ready!(this.socket.poll_read(cx, &mut scratch[..room]))?;
            // A body that ends with its connection would be whole wherever somebody cuts it off.
            if length == 0 && room > 0 && framing.is_none() && this.socket.is_truncated() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if length == 0 && room > 0 && framing.is_some_and(|framing| framing.keeps_end(cx)) {
                return Poll::Pending;
            }
            this.meter.note_read(length);
            let good = framing.map_or(length, |framing| framing.follow(&scratch[..length]));
            if good == 0 && length > 0 {
                return Poll::Pending; // To hyper, no bytes would be the end.
            }
            buffer.put_slice(&scratch[..good]);
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for HttpIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let slices = [IoSlice::new(bytes)];
        self.get_mut().written(&slices, |socket| socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let unsent = this.socket.unsent_bytes();
        let mut flushed = Poll::Ready(Ok(()));
        if unsent > 0 {
            flushed = this.socket.poll_flush(cx);
            this.meter.note_flush(flushed.is_ready(), this.socket.unsent_bytes() < unsent);
        }
        if let (Poll::Ready(Ok(())), Some(framing)) = (&flushed, &this.meter.framing) {
            framing.note_flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A FIN would stand before what the session may have to say.
        self.poll_flush(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().written(slices, |socket| socket.poll_write_vectored(cx, slices))
    }
}

fn length(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}
