//! An open TLS connection: its rests, and the ends of its two directions.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::error::TlsError;
use super::scratch::{SLACK_BYTES, with_incoming, with_outgoing};
use super::session::{Progress, Session};
use crate::buffer::Backlog;

/// An open TLS connection, which takes its leave when it is dropped.
#[derive(Debug)]
pub(crate) struct TlsStream(Box<Channel>);

/// TCP below, a session above, and what is on the way between them.
#[derive(Debug)]
pub(super) struct Channel {
    tcp: TcpStream,
    session: Session,
    /// What was opened and not yet read.
    plaintext: Backlog,
    /// What was sealed and not yet sent.
    unsent: Backlog,
    /// Whether `unsent` may wait for what is written first, or a pause: no one waits for it.
    is_deferred: bool,
    reading: Reading,
    writing: Writing,
}

/// The direction from the peer.
#[derive(Debug)]
enum Reading {
    Open,
    /// The peer has said close_notify.
    Closed,
    /// TCP ended without it.
    Truncated,
    /// To be told with the next read.
    Failing(TlsError),
    Failed,
}

/// The direction to the peer.
#[derive(Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// close_notify is in `unsent`, and FIN follows it.
    Ending,
    /// Nothing more is said.
    Over,
}

impl TlsStream {
    /// As [`Socket::poll_read`](crate::socket::Socket::poll_read).
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let channel = &mut *self.0;
        loop {
            if !channel.plaintext.is_empty() {
                return Poll::Ready(Ok(channel.take_plaintext(buffer)));
            }
            match std::mem::replace(&mut channel.reading, Reading::Failed) {
                Reading::Open => channel.reading = Reading::Open,
                Reading::Failing(error) => return Poll::Ready(Err(error.into())),
                Reading::Failed => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                end => {
                    channel.reading = end;
                    return Poll::Ready(Ok(0));
                }
            }
            let Poll::Ready(received) = channel.poll_receive(cx, buffer) else {
                // Whoever reads sees to it that the rest gets out, too.
                if channel.has_unsent()
                    && let Poll::Ready(Err(error)) = self.poll_flush(cx)
                {
                    return Poll::Ready(Err(error));
                }
                return Poll::Pending;
            };
            let length = received?;
            if length > 0 {
                return Poll::Ready(Ok(length));
            }
        }
    }

    /// Seals and sends `slices`; only when nothing is unsent any more. What was taken counts as
    /// written, and some of it may be unsent.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.write(slices, |tcp, bytes| Pin::new(tcp).poll_write(cx, bytes))
    }

    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.write(slices, try_send) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.0.tcp.poll_write_ready(cx)
    }

    /// Sends what is unsent, and FIN behind it if that is due.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.flush(&mut |tcp: &mut TcpStream, bytes: &[u8]| Pin::new(tcp).poll_write(cx, bytes))
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.0.unsent.len()
    }

    /// Says close_notify behind what is unsent, and then FIN; now, or when it is flushed.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        let channel = &mut *self.0;
        if channel.writing != Writing::Open {
            return Ok(());
        }
        channel.writing = Writing::Ending;
        channel.append_close();
        match channel.flush(&mut try_send) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Whether TCP ended without the peer's close_notify.
    pub(crate) fn is_truncated(&self) -> bool {
        matches!(self.0.reading, Reading::Truncated)
    }

    /// Whether the keys are from an earlier connection.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.session.facts().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.0.tcp
    }

    /// Makes the drop silent, and TCP beneath it for what else is to be done.
    pub(crate) fn silence(&mut self) -> &TcpStream {
        self.0.writing = Writing::Over;
        &self.0.tcp
    }
}

impl Drop for TlsStream {
    /// A peer that hears no close_notify must take the end for an attack on what it was sent.
    fn drop(&mut self) {
        let channel = &mut *self.0;
        let may_listen = matches!(channel.reading, Reading::Open | Reading::Closed);
        if channel.writing == Writing::Open && may_listen {
            channel.append_close();
            let _ = try_send(&mut channel.tcp, channel.unsent.bytes());
        }
    }
}

impl Channel {
    pub(super) fn new(tcp: TcpStream, session: Session) -> Box<Self> {
        Box::new(Self {
            tcp,
            session,
            plaintext: Backlog::default(),
            unsent: Backlog::default(),
            is_deferred: false,
            reading: Reading::Open,
            writing: Writing::Open,
        })
    }

    /// The handshake is over.
    pub(super) fn into_stream(self: Box<Self>) -> TlsStream {
        TlsStream(self)
    }

    /// The handshake came to nothing.
    pub(super) fn into_tcp(self: Box<Self>) -> TcpStream {
        self.tcp
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Has this said instead of what is unsent.
    pub(super) fn say_instead(&mut self, bytes: &[u8]) {
        self.unsent = Backlog::default();
        self.unsent.fill(bytes);
    }

    /// Lets what is unsent wait for the first write, or for a pause of the peer.
    pub(super) fn defer_unsent(&mut self) {
        self.is_deferred = !self.unsent.is_empty();
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn take_plaintext(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.plaintext.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.plaintext.bytes()[..length]);
        self.plaintext.consume(length);
        length
    }

    /// One read from TCP, and the opening of what it gave into `buffer`: 0 when it was not enough
    /// for any plaintext, or when the direction is over, which `reading` says.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        let mut overflow = Vec::new();
        let mut answer = Vec::new();
        let received = self.poll_open(cx, &mut answer, |plaintext| {
            let fits = plaintext.len().min(buffer.len() - filled);
            buffer[filled..filled + fits].copy_from_slice(&plaintext[..fits]);
            filled += fits;
            overflow.extend_from_slice(&plaintext[fits..]);
        });
        ready!(received)?;
        self.plaintext.fill(&overflow);
        if !answer.is_empty() && self.writing == Writing::Open {
            self.say(&answer)?;
        }
        Poll::Ready(Ok(filled))
    }

    /// Reads from TCP once and opens what is whole then, handshake or not. The direction's end, of
    /// whatever kind, is noted in `reading`. Returns the first byte of what was looked at.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        answer: &mut Vec<u8>,
        take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<Option<u8>>> {
        with_incoming(|scratch| {
            let mut read = ReadBuf::new(&mut scratch[self.session.kept_bytes()..]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            let received = read.filled().len();
            let first = read.filled().first().copied();
            if received == 0 {
                self.reading = Reading::Truncated;
                self.session.forget_kept();
                return Poll::Ready(Ok(None));
            }
            match self.session.open(scratch, received, take, answer) {
                Progress::More => {}
                Progress::Closed => self.reading = Reading::Closed,
                Progress::Failed(error) => self.reading = Reading::Failing(error),
            }
            Poll::Ready(Ok(first))
        })
    }

    /// Sends `answer`, of TLS itself, behind what is unsent.
    fn say(&mut self, answer: &[u8]) -> io::Result<()> {
        self.append_unsent(answer);
        match self.flush(&mut try_send) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn append_unsent(&mut self, bytes: &[u8]) {
        if self.unsent.is_empty() {
            return self.unsent.fill(bytes);
        }
        let both = [self.unsent.bytes(), bytes].concat();
        self.unsent = Backlog::default();
        self.unsent.fill_shared(both.into());
    }

    fn append_close(&mut self) {
        // After a failure the alert was the last word, and rustls has none for the end.
        if matches!(self.reading, Reading::Failing(_) | Reading::Failed) {
            return;
        }
        let mut sealed = [0; CLOSE_BYTES];
        if let Ok(length) = self.session.seal_close(&mut sealed) {
            self.append_unsent(&sealed[..length]);
        }
    }

    fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        mut send: impl FnMut(&mut TcpStream, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_broken = matches!(self.reading, Reading::Failing(_) | Reading::Failed);
        if self.writing != Writing::Open || is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let goes_along = self.is_deferred && self.unsent.len() <= SLACK_BYTES / 2;
        if self.has_unsent() && !goes_along {
            ready!(self.flush(&mut send))?;
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        with_outgoing(|outgoing| {
            let deferred = self.unsent.len();
            outgoing.sealed[..deferred].copy_from_slice(self.unsent.bytes());
            self.unsent = Backlog::default();
            self.is_deferred = false;
            let sealed = self.session.seal(slices, outgoing, deferred);
            let (taken, end) = sealed.map_err(TlsError::new)?;
            let sent = match send(&mut self.tcp, &outgoing.sealed[..end]) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            self.unsent.fill(&outgoing.sealed[sent..end]);
            Poll::Ready(Ok(taken))
        })
    }

    fn flush(
        &mut self,
        send: &mut impl FnMut(&mut TcpStream, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(send(&mut self.tcp, self.unsent.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.unsent.consume(sent),
            }
        }
        self.is_deferred = false;
        if self.writing == Writing::Ending {
            self.writing = Writing::Over;
            return Poll::Ready(shutdown(&mut self.tcp));
        }
        Poll::Ready(Ok(()))
    }

    /// Says what is to be said before anything is heard.
    pub(super) fn begin(&mut self) -> Result<(), TlsError> {
        let mut answer = Vec::new();
        let begun = self.session.begin(&mut answer);
        self.append_unsent(&answer);
        begun
    }

    /// Waits until the peer has said something.
    pub(super) async fn readable(&self) {
        // What is wrong is told by the read.
        let _ = self.tcp.readable().await;
    }

    /// A step of the handshake: one read, and the flight that answers it, appended to `unsent`.
    /// Application data that comes along waits to be read. Err is the end of the handshake.
    /// `first` is the first byte that the peer has sent.
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut Option<u8>,
    ) -> Poll<Result<(), TlsError>> {
        let mut answer = Vec::new();
        let mut early = Vec::new();
        let opened = self.poll_open(cx, &mut answer, |bytes| early.extend_from_slice(bytes));
        let seen = ready!(opened)?;
        *first = first.or(seen);
        self.plaintext.fill(&early);
        self.append_unsent(&answer);
        Poll::Ready(match std::mem::replace(&mut self.reading, Reading::Open) {
            Reading::Open => Ok(()),
            Reading::Failing(error) => Err(error),
            // It said all of its part, and its leave behind it, as a probe of TLS does.
            Reading::Closed if !self.session.facts().is_handshaking() => {
                self.reading = Reading::Closed;
                Ok(())
            }
            _ => Err(TlsError::Eof),
        })
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(&mut |tcp: &mut TcpStream, bytes: &[u8]| Pin::new(tcp).poll_write(cx, bytes))
    }
}

/// What a poll says now, ready or not.
pub(super) async fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

/// Ends our direction of TCP (FIN).
pub(crate) fn shutdown(tcp: &mut TcpStream) -> io::Result<()> {
    // `poll_shutdown` of a TCP stream is one call that never waits.
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(tcp).poll_shutdown(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

fn try_send(tcp: &mut TcpStream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match tcp.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        sent => Poll::Ready(sent),
    }
}

/// More than an alert is in any cipher suite, with a key update before it.
const CLOSE_BYTES: usize = 128;
