//! One WebSocket connection of the generator.
//!
//! It is made to cost less than the server that it measures: reads of all connections go into one
//! scratch buffer per thread, nothing is allocated for a message that comes in one piece, and a
//! frame to send is encoded once by the job that sends it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tidewire_wire::Violation;
use tidewire_wire::ws::close::CloseCode;
use tidewire_wire::ws::frame::{Opcode, encode_frame_masked};
use tidewire_wire::ws::handshake::{accept_key, encode_key};
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::stream::Stream;
use super::target::Target;

/// An open WebSocket connection.
pub struct Client {
    stream: Stream,
    decoder: Decoder,
    /// What came in the same read as the 101, until it has been decoded.
    glued: Vec<u8>,
    pongs: BytesMut,
    /// Whether the last frame was sent whole: only then may a pong go out.
    is_between_frames: bool,
    /// Whether TLS holds nothing that was written.
    is_flushed: bool,
    is_closed: bool,
}

/// Why a connection did not open, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("TLS handshake: {0}")]
    Tls(io::Error),
    #[error("connecting and upgrading took longer than {0:?}")]
    ConnectTimeout(Duration),
    #[error("the upgrade was answered with `{0}`")]
    Refused(String),
    #[error("the 101 has a wrong Sec-WebSocket-Accept")]
    WrongAccept,
    #[error("the answer to the upgrade has no end within {HEAD_BYTES_MAX} bytes")]
    LongHead,
    #[error("the server ended the connection without a Close frame")]
    Ended,
    #[error("the server closed the connection with code {0}")]
    Closed(CloseCode),
    #[error("closing took longer than {0:?}")]
    CloseTimeout(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
}

impl Client {
    /// Connects and upgrades connection `number`.
    pub async fn open(target: &Target, number: usize) -> Result<Self, ClientError> {
        let limit = target.connect_timeout();
        match timeout(limit, Self::connect_and_upgrade(target, number)).await {
            Ok(client) => client,
            Err(_) => Err(ClientError::ConnectTimeout(limit)),
        }
    }

    async fn connect_and_upgrade(target: &Target, number: usize) -> Result<Self, ClientError> {
        let tcp = connect(target, number).await.map_err(ClientError::Connect)?;
        let mut stream = match target.tls() {
            None => Stream::Tcp(tcp),
            Some(tls) => Stream::Tls(Box::new(tls.connect(tcp).await.map_err(ClientError::Tls)?)),
        };
        let key = encode_key(fastrand::u128(..).to_ne_bytes());
        let request = target.request(number, &String::from_utf8_lossy(&key));
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let glued = read_answer(&mut stream, &key).await?;
        Ok(Self {
            stream,
            decoder: Decoder::new(Role::Client, LIMITS),
            glued,
            pongs: BytesMut::new(),
            is_between_frames: true,
            is_flushed: true,
            is_closed: false,
        })
    }

    /// Sends what it can of `unsent` and takes what has come, whichever is possible first, so that
    /// a message larger than all buffers on its way cannot block its own echo. `unsent` is whole
    /// frames and is passed again until it is empty.
    ///
    /// Cancelling loses nothing: `unsent` is advanced over exactly what was written.
    pub async fn turn(
        &mut self,
        unsent: &mut &[u8],
        mut on_message: impl FnMut(&[u8]),
    ) -> Result<(), ClientError> {
        while self.is_between_frames && !self.pongs.is_empty() {
            self.stream.write_buf(&mut self.pongs).await?;
            self.is_flushed = false;
        }
        if !self.glued.is_empty() {
            let mut glued = std::mem::take(&mut self.glued);
            return self.decode(&mut glued, &mut on_message);
        }
        poll_fn(|cx| self.poll_turn(cx, unsent, &mut on_message)).await?;
        self.is_between_frames = unsent.is_empty();
        Ok(())
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        unsent: &mut &[u8],
        on_message: &mut impl FnMut(&[u8]),
    ) -> Poll<Result<(), ClientError>> {
        if !unsent.is_empty()
            && let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, unsent)
        {
            *unsent = &unsent[written?..];
            self.is_flushed = false;
            return Poll::Ready(Ok(()));
        }
        if !self.is_flushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.is_flushed = true;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                // TCP ended and TLS did not: for a WebSocket the Close frame says whether it is cut.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                read => read?,
            }
            if read.filled().is_empty() {
                return Poll::Ready(Err(ClientError::Ended));
            }
            Poll::Ready(self.decode(read.filled_mut(), on_message))
        })
    }

    fn decode(
        &mut self,
        mut bytes: &mut [u8],
        on_message: &mut impl FnMut(&[u8]),
    ) -> Result<(), ClientError> {
        while let Some(event) = self.decoder.next(&mut bytes)? {
            match event {
                Event::Text(payload) | Event::Binary(payload) => on_message(&payload),
                Event::Ping(payload) => encode(Opcode::Pong, &payload, &mut self.pongs),
                Event::Pong(_) => {}
                Event::Close { code, .. } => {
                    return Err(ClientError::Closed(code.unwrap_or(CloseCode::NO_STATUS)));
                }
            }
        }
        Ok(())
    }

    /// Only takes what comes.
    pub async fn receive(&mut self, on_message: impl FnMut(&[u8])) -> Result<(), ClientError> {
        let mut nothing: &[u8] = &[];
        self.turn(&mut nothing, on_message).await
    }

    /// Closes with a Close frame and waits for the server's; then the server ends the TCP
    /// connection first (RFC 6455, section 7.1.1), which keeps TIME_WAIT off this side's ports.
    pub async fn close(mut self, limit: Duration) -> Result<(), ClientError> {
        let closing = async {
            let mut close = BytesMut::new();
            encode(Opcode::Close, &CloseCode::NORMAL.as_u16().to_be_bytes(), &mut close);
            self.stream.write_all(&close).await?;
            self.stream.flush().await?;
            loop {
                match self.receive(|_| {}).await {
                    Ok(()) => {}
                    Err(ClientError::Closed(_)) => break,
                    Err(error) => return Err(error),
                }
            }
            loop {
                match self.stream.read(&mut [0; 64]).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let closed = timeout(limit, closing).await.unwrap_or(Err(ClientError::CloseTimeout(limit)));
        self.is_closed = closed.is_ok();
        closed
    }
}

impl Drop for Client {
    /// Resets what was not closed: thousands of ports in TIME_WAIT would fail the next run.
    fn drop(&mut self) {
        if !self.is_closed {
            // Fails only if the connection is gone already.
            let _ = self.stream.tcp().set_zero_linger();
        }
    }
}

/// Appends one frame, masked with a key of its own (RFC 6455, section 5.3).
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut BytesMut) {
    encode_frame_masked(opcode, payload, fastrand::u32(..).to_ne_bytes(), out);
}

async fn connect(target: &Target, number: usize) -> io::Result<TcpStream> {
    let address = target.address();
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = target.source(number) {
        socket.bind(source)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads the answer to the upgrade and returns what came after it.
async fn read_answer(stream: &mut Stream, key: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut answer = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > HEAD_BYTES_MAX {
            return Err(ClientError::LongHead);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ClientError::Ended);
        }
    };
    let glued = answer.split_off(end);
    let head = String::from_utf8_lossy(&answer);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(ClientError::Refused(status.to_owned()));
    }
    let accept = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"))
        .map(|(_, value)| value.trim().as_bytes());
    if accept != Some(&accept_key(key)) {
        return Err(ClientError::WrongAccept);
    }
    Ok(glued)
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

const SCRATCH_BYTES: usize = 64 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A generator trusts the server with as much as it may want to send; nothing is allocated for a
/// length that is only announced.
const LIMITS: Limits =
    Limits { frame_bytes_max: 1 << 30, message_bytes_max: 1 << 30, fragments_max: u32::MAX };
