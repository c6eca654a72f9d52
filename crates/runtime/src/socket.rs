//! A connected stream socket, plain or under TLS, in the three ways that the data paths use one.
//!
//! Reads are `poll_read` into a borrowed buffer: readiness followed by `try_read` would pay an
//! extra `EAGAIN` for every message, because only `poll_read` clears readiness on a short read.
//!
//! Under TLS a write may be taken whole and yet not be sent whole: its records cannot be given
//! back. So every writer flushes before it rests, and nothing more is taken meanwhile.

use std::future::Future;
use std::io::{self, IoSlice};
#[cfg(any(test, feature = "fuzzing"))]
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

#[cfg(any(test, feature = "fuzzing"))]
use crate::memory::{self, MemoryStream};
use crate::tls::client::TlsClient;
use crate::tls::config::TlsConfig;
use crate::tls::error::TlsError;
use crate::tls::{self, Secured, TlsStream};

/// A connected stream socket that belongs to one worker.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(TlsStream),
    /// Not in a release.
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(MemoryStream),
}

/// A TLS handshake that came to nothing.
#[derive(Debug)]
pub struct Refused {
    pub error: TlsError,
    /// The plain connection. The client has been told; what it sent may be unread, so a close at
    /// once could take that from it.
    pub socket: Socket,
}

impl Socket {
    pub fn from_tcp(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream) }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub fn from_memory(stream: MemoryStream) -> Self {
        Self { stream: Stream::Memory(stream) }
    }

    /// Connects to `address` within the process, when there is a network there.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn from_network(address: SocketAddr) -> Option<io::Result<Self>> {
        memory::connect(address).map(|connected| connected.map(Self::from_memory))
    }

    /// Does a TLS handshake as server. It has no deadline of its own.
    pub async fn accept_tls(self, config: &TlsConfig) -> Result<(Self, Secured), Refused> {
        match self.stream {
            Stream::Tcp(tcp) => match tls::accept(tcp, config).await {
                Ok((stream, secured)) => Ok((Self { stream: Stream::Tls(stream) }, secured)),
                Err((error, tcp)) => Err(Refused { error, socket: Self::from_tcp(tcp) }),
            },
            _ => Err(Refused {
                error: TlsError::Io(io::ErrorKind::Unsupported.into()),
                socket: self,
            }),
        }
    }

    /// Does a TLS handshake as client. It has no deadline of its own.
    ///
    /// # Errors
    /// When the server does not speak TLS, or is not who it has to be; as [`TlsError`] says.
    pub async fn connect_tls(self, client: &TlsClient) -> Result<Self, TlsError> {
        match self.stream {
            Stream::Tcp(tcp) => {
                Ok(Self { stream: Stream::Tls(tls::client::connect(tcp, client).await?) })
            }
            _ => Err(TlsError::Io(io::ErrorKind::Unsupported.into())),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Whether TLS took its keys from an earlier connection.
    pub fn is_resumed(&self) -> bool {
        matches!(&self.stream, Stream::Tls(tls) if tls.is_resumed())
    }

    /// Reads what is there, at most `buffer.len()` bytes; 0 is the peer's end of stream.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(tcp).poll_read(cx, &mut read))?;
                Poll::Ready(Ok(read.filled().len()))
            }
            Stream::Tls(tls) => tls.poll_read(cx, buffer),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.poll_read(cx, buffer),
        }
    }

    /// Shows what is there, at most `buffer.len()` bytes, and leaves it to be read; 0 is the peer's
    /// end of stream. Only before TLS.
    pub fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.poll_peek(cx, &mut ReadBuf::new(buffer)),
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Waits until the peer has ended its direction, also when what it said before is still unread,
    /// and leaves that to be read. For ever under TLS, and where the kernel does not tell.
    pub async fn peer_end(&self) {
        #[cfg(target_os = "linux")]
        if let Stream::Tcp(tcp) = &self.stream {
            // Of this interest are urgent data, which nobody sends, and the end, but not what is
            // there to be read: to wait for that again, one would have to take it.
            let _ = tcp.ready(tokio::io::Interest::PRIORITY).await;
            return;
        }
        std::future::pending().await
    }

    /// Writes what is taken; pending registers the task for the rest. Flush before resting.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => tls.poll_write_vectored(cx, &[IoSlice::new(bytes)]),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.poll_write_vectored(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// As [`Socket::poll_write`], from several places in one call.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Stream::Tls(tls) => tls.poll_write_vectored(cx, slices),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.poll_write_vectored(cx, slices),
        }
    }

    /// Writes what is taken now, from any task of the thread. `WouldBlock` when nothing is. What
    /// is unsent then must be flushed by a task that can wait.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.try_write(bytes),
            Stream::Tls(tls) => tls.try_write_vectored(&[IoSlice::new(bytes)]),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.try_write(bytes),
        }
    }

    /// As [`Socket::try_write`], from several places in one call.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.try_write_vectored(slices),
            Stream::Tls(tls) => tls.try_write_vectored(slices),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.try_write_vectored(slices),
        }
    }

    /// Ready when a write would be taken; pending registers the task.
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.poll_write_ready(cx),
            Stream::Tls(tls) => tls.poll_write_ready(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.poll_write_ready(cx),
        }
    }

    /// Ready when the kernel has all that was taken; pending registers the task.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => tls.poll_flush(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the kernel has not got all that was taken.
    pub fn has_unsent(&self) -> bool {
        self.unsent_bytes() > 0
    }

    /// How much the kernel has not got of what was taken.
    pub fn unsent_bytes(&self) -> usize {
        match &self.stream {
            Stream::Tcp(_) => 0,
            Stream::Tls(tls) => tls.unsent_bytes(),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(_) => 0,
        }
    }

    /// How many bytes the kernel has that the peer has not got, as far as it has said. `None` where
    /// the kernel does not tell.
    pub fn unacknowledged_bytes(&self) -> Option<usize> {
        match &self.stream {
            Stream::Tcp(tcp) => unacknowledged(tcp),
            Stream::Tls(tls) => unacknowledged(tls.tcp()),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(_) => None,
        }
    }

    /// Whether the peer has ended its direction, of which not all may have been read. For one that
    /// is not read for a while: nothing is read, and the task is not registered for anything.
    ///
    /// # Errors
    /// When the connection is broken; whatever has not been read, this is known.
    pub fn has_peer_ended(&self) -> io::Result<bool> {
        match &self.stream {
            Stream::Tcp(tcp) => has_peer_ended(tcp),
            Stream::Tls(tls) => has_peer_ended(tls.tcp()),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.has_peer_ended(),
        }
    }

    /// Ends our direction (FIN), under TLS behind a close_notify and what is unsent; the other one
    /// stays open. What cannot be sent now goes with the flush.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tls::shutdown(tcp),
            Stream::Tls(tls) => tls.shutdown_write(),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => memory.shutdown_write(),
        }
    }

    /// Whether the peer's end of stream came without the close_notify that TLS wants: somebody may
    /// have cut off what the peer said.
    pub fn is_truncated(&self) -> bool {
        match &self.stream {
            Stream::Tcp(_) => false,
            Stream::Tls(tls) => tls.is_truncated(),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(_) => false,
        }
    }

    /// Makes the drop of this socket a reset (RST), so that the peer cannot take it for an end.
    pub fn reset_on_drop(&mut self) {
        let tcp = match &mut self.stream {
            Stream::Tcp(tcp) => &*tcp,
            Stream::Tls(tls) => tls.silence(),
            #[cfg(any(test, feature = "fuzzing"))]
            Stream::Memory(memory) => return memory.reset_on_drop(),
        };
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }

    /// Takes a plain socket off this thread's runtime, to be adopted by another worker.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        match self.stream {
            Stream::Tcp(tcp) => tcp.into_std(),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// By what the runtime has heard of the socket from the kernel: the kernel is asked only when that
/// says that it has something to tell.
fn has_peer_ended(tcp: &TcpStream) -> io::Result<bool> {
    let ready = pin!(tcp.ready(Interest::READABLE | Interest::WRITABLE | Interest::ERROR));
    let Poll::Ready(ready) = ready.poll(&mut Context::from_waker(Waker::noop())) else {
        return Ok(false);
    };
    let ready = ready?;
    if (ready.is_error() || ready.is_write_closed())
        && let Some(error) = tcp.take_error()?
    {
        return Err(error);
    }
    Ok(ready.is_read_closed())
}

#[cfg(target_os = "linux")]
fn unacknowledged(tcp: &TcpStream) -> Option<usize> {
    use std::os::fd::AsRawFd;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, as `tcp` owns it, and TIOCOUTQ (tcp(7): SIOCOUTQ) writes one
    // int through the pointer, which is to one.
    let done = unsafe { libc::ioctl(tcp.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    usize::try_from(bytes).ok().filter(|_| done == 0)
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// What is known of a peer that did `act` behind something that nobody has read.
    fn unread(act: impl FnOnce(std::net::TcpStream)) -> io::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let near = listener.accept().unwrap().0;
            near.set_nonblocking(true).unwrap();
            let socket = Socket::from_tcp(TcpStream::from_std(near).unwrap());
            peer.write_all(b"nobody reads this").unwrap();
            assert!(!socket.has_peer_ended().unwrap());
            act(peer);
            loop {
                match socket.has_peer_ended() {
                    Ok(false) => tokio::time::sleep(Duration::from_millis(1)).await,
                    known => return known,
                }
            }
        })
    }

    #[test]
    fn who_is_gone_is_known_without_a_read() {
        let reset = |peer: std::net::TcpStream| {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        };
        assert_eq!(unread(reset).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_end_behind_what_is_unread_is_known_without_a_read() {
        let mut half = None;
        let ended = unread(|peer| {
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            half = Some(peer);
        });
        assert!(ended.unwrap());
    }
}
