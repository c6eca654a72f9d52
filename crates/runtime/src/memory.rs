//! Connections within the process, for bodies that drive everything from one thread.
//!
//! A [`memory::pair`](pair) behaves as two ends of a TCP connection do, as far as its users can
//! tell: an end of stream, a reset, a peer that takes nothing for now. No kernel is asked, so a run
//! is the same each time, and with tokio's paused clock waiting costs nothing. Not part of a
//! release: the module is there with the feature `fuzzing` only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One end of a connection.
#[derive(Debug)]
pub struct MemoryStream {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    resets: bool,
}

/// The two ends of a connection. Up to `capacity` bytes of the first are on their way to the other;
/// what that one says always has room.
pub fn pair(capacity: usize) -> (MemoryStream, MemoryStream) {
    let (one, other) = (Pipe::new(usize::MAX), Pipe::new(capacity));
    let end = |incoming: &Rc<RefCell<Pipe>>, outgoing: &Rc<RefCell<Pipe>>| MemoryStream {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        resets: false,
    };
    (end(&one, &other), end(&other, &one))
}

/// Answers the connections that this thread makes, until it is dropped.
#[derive(Debug)]
pub struct Network(());

/// Gives whoever connects to an address its end, or refuses.
pub type Accept = Box<dyn FnMut(SocketAddr) -> io::Result<MemoryStream>>;

impl Network {
    /// From now on, `accept` is asked instead of the system.
    pub fn new(accept: Accept) -> Self {
        NETWORK.set(Some(accept));
        Self(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        NETWORK.set(None);
    }
}

/// A connection to `address`, when there is a [`Network`].
pub(crate) fn connect(address: SocketAddr) -> Option<io::Result<MemoryStream>> {
    NETWORK.with_borrow_mut(|network| network.as_mut().map(|accept| accept(address)))
}

thread_local! {
    static NETWORK: RefCell<Option<Accept>> = const { RefCell::new(None) };
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Its writer has said all.
    is_ended: bool,
    is_reset: bool,
    has_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            bytes: VecDeque::new(),
            capacity,
            is_ended: false,
            is_reset: false,
            has_reader: true,
            reader: None,
            writer: None,
        }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return match (self.is_reset, self.is_ended) {
                (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
                (false, true) => Ok(0),
                (false, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let count = buffer.len().min(self.bytes.len());
        for (slot, byte) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        self.writer.take().into_iter().for_each(Waker::wake);
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_reset || self.is_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.capacity.saturating_sub(self.bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.bytes.len();
        self.bytes.extend(slices.iter().flat_map(|slice| slice.iter()).take(room));
        let count = self.bytes.len() - before;
        if !self.has_reader {
            // The system takes it all the same, and hears of it with the next packet.
            self.bytes.clear();
            self.reset();
        }
        self.wake();
        Ok(count)
    }

    fn end(&mut self) {
        self.is_ended = true;
        self.wake();
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.wake();
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl MemoryStream {
    /// Reads what is there; 0 is the peer's end of stream.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.borrow_mut().read(buffer)
    }

    /// Writes what is taken now.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    pub(crate) fn has_peer_ended(&self) -> io::Result<bool> {
        let incoming = self.incoming.borrow();
        match incoming.is_reset {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(incoming.is_ended),
        }
    }

    /// Ends this direction; the other one stays open.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        outgoing.end();
        Ok(())
    }

    /// Makes the drop of this end a reset.
    pub fn reset_on_drop(&mut self) {
        self.resets = true;
    }

    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.outgoing.borrow_mut().write(slices);
        if self.outgoing.borrow().is_reset {
            self.incoming.borrow_mut().reset();
        }
        written
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.try_read(buffer);
        let register = || self.incoming.borrow_mut().reader = Some(cx.waker().clone());
        pending(read, register)
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.try_write_vectored(slices);
        let register = || self.outgoing.borrow_mut().writer = Some(cx.waker().clone());
        pending(written, register)
    }

    pub(crate) fn poll_write_ready(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.bytes.len() < outgoing.capacity || outgoing.is_reset {
            return Poll::Ready(Ok(()));
        }
        outgoing.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let (mut incoming, mut outgoing) = (self.incoming.borrow_mut(), self.outgoing.borrow_mut());
        incoming.has_reader = false;
        // As the system does: what was said and never read is answered by a reset.
        let is_unread = !incoming.bytes.is_empty();
        incoming.bytes.clear();
        outgoing.end();
        if self.resets || is_unread {
            outgoing.reset();
            incoming.reset();
        }
    }
}

fn pending(result: io::Result<usize>, register: impl FnOnce()) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            register();
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(end: &mut MemoryStream) -> Result<String, io::ErrorKind> {
        let mut buffer = [0; 16];
        let length = end.try_read(&mut buffer).map_err(|error| error.kind())?;
        Ok(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn a_pair_ends_as_a_connection_does() {
        let (mut one, mut other) = pair(4);
        assert_eq!(one.try_write(b"hello").unwrap(), 4);
        assert_eq!(one.try_write(b"o").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(read(&mut other).unwrap(), "hell");
        one.shutdown_write().unwrap();
        assert_eq!(read(&mut other).unwrap(), "");
        assert_eq!(other.try_write(b"bye").unwrap(), 3);
        assert_eq!(read(&mut one).unwrap(), "bye");
        drop(other);
        assert_eq!(read(&mut one).unwrap(), "");
    }

    #[test]
    fn what_was_not_read_is_answered_by_a_reset() {
        let (mut one, other) = pair(4);
        one.try_write(b"hell").unwrap();
        drop(other);
        assert_eq!(read(&mut one), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(one.try_write(b"o").unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (mut one, other) = pair(4);
        drop(other);
        assert_eq!(read(&mut one).unwrap(), "");
        one.try_write(b"o").unwrap();
        assert_eq!(one.try_write(b"o").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
