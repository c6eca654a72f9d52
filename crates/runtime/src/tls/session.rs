//! A TLS connection without buffers: opens the ciphertext that it is shown, seals into what it is
//! given. All that is known of rustls' unbuffered interface is in this file.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::error::TlsError;
use super::scratch::{CIPHERTEXT_BYTES, Outgoing, RECORD_BYTES, WRITE_BYTES};

/// The state of a TLS connection: keys, and what is left of its handshake.
///
/// `kept` never has a whole record in it: what can be opened is opened at once. (Sealing shows it
/// to rustls again, which has places in it; of what is not whole, nothing comes of that.)
pub(super) struct Session {
    connection: Connection,
    /// Ciphertext that is not whole yet, boxed to its size. It may be opened in part.
    kept: Box<[u8]>,
}

/// One end of a connection or the other.
enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What both ends have, of which rustls has two.
trait End {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl End for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(ciphertext)
    }
}

impl End for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(ciphertext)
    }
}

/// Calls a function of any [`End`] with the one that there is.
macro_rules! with_end {
    ($connection:expr, $end:ident => $work:expr) => {
        match $connection {
            Connection::Server($end) => $work,
            Connection::Client($end) => $work,
        }
    };
}

/// What came of the ciphertext that was shown.
#[derive(Debug)]
pub(super) enum Progress {
    /// All that is whole is opened.
    More,
    /// The peer has said close_notify. What follows it is not looked at.
    Closed,
    Failed(TlsError),
}

impl fmt::Debug for Session {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.facts().protocol_version()).finish()
    }
}

impl Session {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = Connection::Server(UnbufferedServerConnection::new(config)?);
        Ok(Self { connection, kept: Box::default() })
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = Connection::Client(UnbufferedClientConnection::new(config, name)?);
        Ok(Self { connection, kept: Box::default() })
    }

    /// What is to be said before anything is heard: a client's hello.
    pub(super) fn begin(&mut self, answer: &mut Vec<u8>) -> Result<(), TlsError> {
        let begun =
            with_end!(&mut self.connection, end => open_whole(end, &mut [], |_| {}, answer));
        begun.1.map(drop).map_err(|error| self.failure(error))
    }

    /// How much is kept until it is whole.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Forgets what is kept: nothing follows it.
    pub(super) fn forget_kept(&mut self) {
        self.kept = Box::default();
    }

    /// What is known about the connection.
    pub(super) fn facts(&self) -> &CommonState {
        with_end!(&self.connection, end => end)
    }

    /// Opens what is whole of what is kept and of `received` bytes, which are in `scratch` behind
    /// room for what is kept. `take` gets the plaintext, a record at a time; what TLS has to say
    /// itself (flights of the handshake, alerts) is appended to `answer`.
    pub(super) fn open(
        &mut self,
        scratch: &mut [u8],
        received: usize,
        take: impl FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> Progress {
        let kept = std::mem::take(&mut self.kept);
        scratch[..kept.len()].copy_from_slice(&kept);
        let ciphertext = &mut scratch[..kept.len() + received];
        let (used, opened) =
            with_end!(&mut self.connection, end => open_whole(end, ciphertext, take, answer));
        let rest = &mut ciphertext[used..];
        match opened {
            Ok(Progress::More) => {
                // Of application data that is at most one record. More is part of a handshake
                // message that is cut into many records.
                let rest_max = match self.facts().is_handshaking() {
                    true => HANDSHAKE_REST_BYTES_MAX,
                    false => REST_BYTES_MAX,
                };
                if rest.len() > rest_max {
                    return Progress::Failed(TlsError::TooBig(rest_max));
                }
                if !rest.is_empty() {
                    self.kept = Box::from(&*rest);
                }
                Progress::More
            }
            Ok(progress) => progress,
            Err(error) => {
                self.last_words(rest, answer);
                Progress::Failed(self.failure(error))
            }
        }
    }

    /// What an error means, given who the peer is.
    fn failure(&self, error: Error) -> TlsError {
        match self.connection {
            Connection::Server(_) => TlsError::new(error),
            Connection::Client(_) => TlsError::new(error).towards_server(),
        }
    }

    /// Appends the alert of a failure. rustls gives away what waits before it looks at `rest`; it
    /// must not get to look, as it would be from within a message that it has refused.
    fn last_words(&mut self, rest: &mut [u8], answer: &mut Vec<u8>) {
        while self.facts().wants_write() {
            with_end!(&mut self.connection, end => match end.process(rest).state {
                Ok(ConnectionState::EncodeTlsData(data)) => append(data, answer),
                _ => return,
            });
        }
    }

    /// Seals the first [`WRITE_BYTES`] of `slices` behind the first `end` bytes of
    /// `outgoing.sealed`, small ones gathered into full records. Returns how many bytes were taken
    /// and where the sealed ones end.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        outgoing: &mut Outgoing,
        end: usize,
    ) -> Result<(usize, usize), Error> {
        let Outgoing { sealed, gathered } = outgoing;
        let kept = &mut self.kept;
        with_end!(&mut self.connection, it => write(it, kept, sealed, end, |writer, sealed, end| {
            seal_records(writer, slices, gathered, sealed, end)
        }))
    }

    /// Seals the close_notify into `sealed`, and returns how long it is.
    pub(super) fn seal_close(&mut self, sealed: &mut [u8]) -> Result<usize, Error> {
        let kept = &mut self.kept;
        with_end!(&mut self.connection, it => write(it, kept, sealed, 0, |mut writer, sealed, end| {
            let length = writer.queue_close_notify(&mut sealed[end..]).map_err(of_encrypt)?;
            Ok(end + length)
        }))
    }
}

/// Returns how much of `ciphertext` is used up, and what came of it.
fn open_whole<E: End>(
    end: &mut E,
    ciphertext: &mut [u8],
    mut take: impl FnMut(&[u8]),
    answer: &mut Vec<u8>,
) -> (usize, Result<Progress, Error>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = end.process(&mut ciphertext[used..]);
        let result = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        take(record.payload);
                    }
                    Some(Err(error)) => break Some(Err(error)),
                    None => break None,
                }
            },
            Ok(ConnectionState::EncodeTlsData(data)) => {
                append(data, answer);
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                Some(Ok(Progress::More))
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Ok(Progress::Closed)),
            Ok(_) => Some(Err(unexpected())),
            Err(error) => Some(Err(error)),
        };
        used += discard;
        if let Some(result) = result {
            return (used, result);
        }
    }
}

/// Has `work` write behind the first `end` bytes of `sealed`, and behind what TLS has to say itself.
fn write<E: End, R>(
    connection: &mut E,
    kept: &mut [u8],
    sealed: &mut [u8],
    mut end: usize,
    work: impl FnOnce(WriteTraffic<'_, E::Data>, &mut [u8], usize) -> Result<R, Error>,
) -> Result<R, Error> {
    loop {
        match connection.process(kept).state? {
            ConnectionState::WriteTraffic(writer) => return work(writer, sealed, end),
            ConnectionState::EncodeTlsData(mut data) => {
                end += data.encode(&mut sealed[end..]).map_err(|_| unexpected())?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => return Err(unexpected()),
        }
    }
}

/// Seals `slices`, small ones gathered into full records, behind the first `end` bytes of `sealed`.
/// Returns how many bytes were taken and where the sealed ones end.
fn seal_records<Data>(
    mut writer: WriteTraffic<'_, Data>,
    slices: &[IoSlice<'_>],
    gathered: &mut [u8],
    sealed: &mut [u8],
    mut end: usize,
) -> Result<(usize, usize), Error> {
    let mut taken = 0;
    let mut cursor = Cursor { slices, offset: 0 };
    while taken < WRITE_BYTES {
        let piece = cursor.next_piece(gathered);
        if piece.is_empty() {
            break;
        }
        taken += piece.len();
        end += writer.encrypt(piece, &mut sealed[end..]).map_err(of_encrypt)?;
    }
    Ok((taken, end))
}

/// Where the plaintext of a write is, record after record.
struct Cursor<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    /// Bytes of the first slice that are taken.
    offset: usize,
}

impl<'a> Cursor<'a, '_> {
    /// The plaintext of the next record: where it is, if it is in one place, or gathered.
    fn next_piece<'c>(&mut self, gathered: &'c mut [u8]) -> &'c [u8]
    where
        'a: 'c,
    {
        let piece = self.next_slice(RECORD_BYTES);
        if piece.len() == RECORD_BYTES || self.slices.is_empty() {
            return piece;
        }
        let mut length = piece.len();
        gathered[..length].copy_from_slice(piece);
        while length < RECORD_BYTES && !self.slices.is_empty() {
            let piece = self.next_slice(RECORD_BYTES - length);
            gathered[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        &gathered[..length]
    }

    /// At most `most` bytes of the first slice.
    fn next_slice(&mut self, most: usize) -> &'a [u8] {
        let Some((first, others)) = self.slices.split_first() else { return &[] };
        let rest = &first[self.offset..];
        if rest.len() > most {
            self.offset += most;
            return &rest[..most];
        }
        (self.slices, self.offset) = (others, 0);
        rest
    }
}

fn append<Data>(mut data: EncodeTlsData<'_, Data>, answer: &mut Vec<u8>) {
    let start = answer.len();
    // The only way to learn its length.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        answer.resize(start + required_size, 0);
        let encoded = data.encode(&mut answer[start..]);
        debug_assert!(encoded.is_ok(), "it fits into what it says it needs");
    }
}

fn of_encrypt(error: EncryptError) -> Error {
    debug_assert!(matches!(error, EncryptError::EncryptExhausted), "there is room: {error}");
    Error::EncryptError
}

fn unexpected() -> Error {
    Error::General("a state that the unbuffered connection should not be in".into())
}

/// A record of 2^14 bytes with its header and the most that protection may add (RFC 5246, section
/// 6.2.3), less a byte: what may have to be kept of one.
const REST_BYTES_MAX: usize = 5 + 16 * 1024 + 2048 - 1;

/// What may have to be kept of a handshake message: there must be room to read more.
const HANDSHAKE_REST_BYTES_MAX: usize = CIPHERTEXT_BYTES - 1;
