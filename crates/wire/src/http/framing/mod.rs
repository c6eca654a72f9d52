//! Where the requests of a connection begin and end, by the letter of RFC 9112.
//!
//! ```text
//!   Start ─> Method ─> Target ─> Version ─> Line ─┬─> Name ─> Value ─┐
//!     ^                                       ^   └─ CR LF           │
//!     │                                       └──────────────────────┘
//!     ├──────────────── no body, or `length` bytes ──┤
//!     └── trailers <── size 0 <── chunks <───────────┘
//! ```
//!
//! A [`Follower`] sees each byte of a client before the HTTP library does, and says at the first
//! one that is wrong what it is. Libraries are made to be lenient: what one of them makes a request
//! of, another may take for two, and the second one smuggles past whoever asked of the first.
//! Nothing is kept of a request but what frames it, so nothing is allocated.

mod bytes;
pub mod fault;
mod word;

use self::fault::FramingFault;
use self::word::Word;

/// The most that a head may have. Trailers are counted for themselves, as a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line.
    pub request_line: u32,
    /// Bytes of it all.
    pub head: u32,
    pub headers: u32,
    /// Bytes of one header, name and value.
    pub header: u32,
}

/// Follows the requests of one connection.
#[derive(Clone, Debug)]
pub struct Follower {
    limits: HeadLimits,
    state: State,
    /// The number of the request that is being read, from 1.
    request: u32,
    /// Bytes of this line so far, and of this head.
    line: u32,
    head: u32,
    headers: u32,
    /// Of the body, or of the chunk.
    remaining: u64,
    /// Digits of the chunk's size so far.
    digits: u8,
    extensions: u32,
    is_http_10: bool,
    is_connect: bool,
    is_handshake: bool,
    is_chunked: bool,
    is_trailer: bool,
    length: Option<u64>,
    known: Known,
    word: Word,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// How many of them may go on. With a fault, those before the request that has it; with a
    /// fault in a request that began earlier, none.
    pub good: usize,
    pub fault: Option<FramingFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request; whether an empty line has come.
    Start(bool),
    StartLf,
    Method,
    /// Its first byte.
    TargetBegins,
    /// `http://` comes.
    Scheme,
    Target,
    Asterisk,
    Version,
    VersionLf,
    /// The first byte of a header line.
    LineBegins,
    Name,
    Value,
    ValueLf,
    HeadLf,
    Body,
    ChunkSize,
    Extension,
    ChunkSizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    /// What follows is not for HTTP, or for nobody.
    Beyond,
    Failed,
}

/// The headers that frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Other,
    Length,
    Coding,
    Upgrade,
}

impl Follower {
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::Start(false),
            request: 0,
            line: 0,
            head: 0,
            headers: 0,
            remaining: 0,
            digits: 0,
            extensions: 0,
            is_http_10: false,
            is_connect: false,
            is_handshake: false,
            is_chunked: false,
            is_trailer: false,
            length: None,
            known: Known::Other,
            word: Word::default(),
        }
    }

    /// Takes note of the next bytes. After a fault none is good.
    pub fn follow(&mut self, bytes: &[u8]) -> Followed {
        let (mut at, mut good) = (0, 0);
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(taken) => at += taken,
                Err(fault) => {
                    self.state = State::Failed;
                    return Followed { good, fault: Some(fault) };
                }
            }
            match self.state {
                State::Start(false) => good = at,
                State::Beyond => break,
                State::Failed => return Followed { good: 0, fault: None },
                _ => {}
            }
        }
        Followed { good: bytes.len(), fault: None }
    }

    /// The number of the request that was begun last, from 1: of the one that has the fault.
    pub fn request(&self) -> u32 {
        self.request
    }

    /// Whether a handshake has come: what follows is not followed, and must not be read as HTTP.
    pub fn is_beyond(&self) -> bool {
        self.state == State::Beyond
    }

    /// How many of `bytes`, which are not empty, the state takes before the next one.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        match self.state {
            State::Value => self.value(bytes),
            State::Name => self.name(bytes),
            State::Target => self.target(bytes),
            State::Method => self.method(bytes),
            State::Body | State::Chunk => Ok(self.body(bytes.len())),
            State::Beyond | State::Failed => Ok(bytes.len()),
            _ => self.byte(bytes[0]),
        }
    }

    fn byte(&mut self, byte: u8) -> Result<usize, FramingFault> {
        match self.state {
            State::Start(had_empty) => return self.start(byte, had_empty),
            State::StartLf if byte == b'\n' => self.state = State::Start(true),
            State::StartLf => {
                self.begin();
                return Err(FramingFault::BareCr);
            }
            State::TargetBegins => self.target_begins(byte)?,
            State::Scheme => self.scheme(byte)?,
            State::Asterisk if byte == b' ' => self.state = State::Version,
            State::Asterisk => return Err(no_version(byte).unwrap_or(FramingFault::Scheme)),
            State::Version => self.version(byte)?,
            State::VersionLf => self.line_feed(byte, State::LineBegins)?,
            State::LineBegins => return self.line_begins(byte),
            State::ValueLf => {
                self.line_feed(byte, State::LineBegins)?;
                self.header_ends()?;
            }
            State::HeadLf => {
                self.line_feed(byte, State::Start(false))?;
                self.head_ends()?;
            }
            State::ChunkSize => self.chunk_size(byte)?,
            State::Extension => self.extension(byte)?,
            State::ChunkSizeLf => {
                self.line_feed(byte, State::Chunk)?;
                self.chunk_begins();
            }
            State::ChunkCr if byte == b'\r' => self.state = State::ChunkLf,
            State::ChunkLf if byte == b'\n' => self.chunk_size_begins(),
            State::ChunkCr | State::ChunkLf => return Err(FramingFault::ChunkEnd),
            _ => unreachable!("step has the states that take more than a byte"),
        }
        Ok(1)
    }

    /// RFC 9112, section 2.2: an empty line may come before a request, left by some clients behind
    /// a body.
    fn start(&mut self, byte: u8, had_empty: bool) -> Result<usize, FramingFault> {
        if byte == b'\r' && !had_empty {
            self.state = State::StartLf;
            return Ok(1);
        }
        self.begin();
        match byte {
            b'\r' => Err(FramingFault::EmptyLines),
            b'\n' => Err(FramingFault::BareLf),
            TLS_HANDSHAKE => Err(FramingFault::Tls),
            _ => Ok(0),
        }
    }

    fn begin(&mut self) {
        self.request = self.request.saturating_add(1);
        (self.line, self.head, self.headers, self.extensions) = (0, 0, 0, 0);
        (self.is_connect, self.is_handshake) = (false, false);
        (self.is_chunked, self.is_trailer) = (false, false);
        self.length = None;
        self.word.clear();
        self.state = State::Method;
    }

    fn method(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        // No more than shows that it is too long: what is wrong first is what is said.
        let taken = bytes::token(bytes).min(self.word.room() + 1);
        self.count_line(taken)?;
        self.word.extend(&bytes[..taken]);
        if self.word.get().is_none() {
            return Err(FramingFault::MethodTooLong { max: word::ROOM as u32 });
        }
        match bytes.get(taken) {
            None => Ok(taken),
            Some(b' ') if !self.word.is_empty() => {
                self.count_line(1)?;
                self.is_connect = self.word.get() == Some(b"CONNECT");
                self.word.clear();
                self.state = State::TargetBegins;
                Ok(taken + 1)
            }
            Some(&byte) => Err(FramingFault::Method(byte)),
        }
    }

    fn target_begins(&mut self, byte: u8) -> Result<(), FramingFault> {
        self.count_line(1)?;
        self.state = match byte {
            b'/' => State::Target,
            b'*' => State::Asterisk,
            // A host and a port; nothing of this hop's business goes on behind it.
            _ if self.is_connect && bytes::target(&[byte]) == 1 => State::Target,
            _ if byte.is_ascii_alphabetic() => {
                self.word.push(byte);
                State::Scheme
            }
            b'\r' | b'\n' => return Err(FramingFault::NoVersion),
            _ => return Err(FramingFault::TargetForm(byte)),
        };
        Ok(())
    }

    fn scheme(&mut self, byte: u8) -> Result<(), FramingFault> {
        self.count_line(1)?;
        self.word.push(byte);
        if self.word.is(b"http://") || self.word.is(b"https://") {
            self.word.clear();
            self.state = State::Target;
        } else if !self.word.begins(b"http://") && !self.word.begins(b"https://") || byte == b' ' {
            return Err(FramingFault::Scheme);
        }
        Ok(())
    }

    fn target(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        let taken = bytes::target(bytes);
        self.count_line(taken)?;
        match bytes.get(taken) {
            None => Ok(taken),
            Some(b' ') => {
                self.count_line(1)?;
                self.word.clear();
                self.state = State::Version;
                Ok(taken + 1)
            }
            Some(b'#') => Err(FramingFault::Fragment),
            Some(&byte) => Err(no_version(byte).unwrap_or(FramingFault::Target(byte))),
        }
    }

    fn version(&mut self, byte: u8) -> Result<(), FramingFault> {
        match byte {
            b'\r' => self.count_head(2)?,
            b'\n' => return Err(FramingFault::BareLf),
            b' ' | b'\t' => return Err(FramingFault::NotHttp),
            _ => {
                self.count_line(1)?;
                self.word.push(byte);
                return if self.word.get().is_some() { Ok(()) } else { Err(FramingFault::NotHttp) };
            }
        }
        self.is_http_10 = match self.word.get().unwrap_or_default() {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            b"" => return Err(FramingFault::NoVersion),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9'] => return Err(FramingFault::Version),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(FramingFault::Version);
            }
            _ => return Err(FramingFault::NotHttp),
        };
        self.state = State::VersionLf;
        Ok(())
    }

    fn line_begins(&mut self, byte: u8) -> Result<usize, FramingFault> {
        self.line = 0;
        match byte {
            b'\r' => {
                self.state = State::HeadLf;
                Ok(1)
            }
            b'\n' => Err(FramingFault::BareLf),
            b' ' | b'\t' => Err(FramingFault::Folded),
            b':' => Err(FramingFault::NameMissing),
            _ => {
                self.headers += 1;
                if self.headers > self.limits.headers {
                    return Err(FramingFault::TooManyHeaders { max: self.limits.headers });
                }
                self.word.clear();
                self.state = State::Name;
                Ok(0)
            }
        }
    }

    fn name(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        let taken = bytes::token(bytes);
        self.count_header(taken)?;
        self.word.extend(&bytes[..taken]);
        match bytes.get(taken) {
            None => Ok(taken),
            Some(b':') => {
                self.count_header(1)?;
                self.name_ends()?;
                self.state = State::Value;
                Ok(taken + 1)
            }
            Some(b' ' | b'\t') => Err(FramingFault::SpaceBeforeColon),
            Some(b'\r' | b'\n') => Err(FramingFault::NoColon),
            Some(&byte) => Err(FramingFault::Name(byte)),
        }
    }

    fn name_ends(&mut self) -> Result<(), FramingFault> {
        self.known = if self.word.is(b"content-length") {
            Known::Length
        } else if self.word.is(b"transfer-encoding") {
            Known::Coding
        } else if self.word.is(b"upgrade") {
            Known::Upgrade
        } else {
            Known::Other
        };
        self.word.clear();
        match self.known {
            Known::Length | Known::Coding if self.is_trailer => Err(FramingFault::TrailerFrames),
            Known::Length if self.length.is_some() => Err(FramingFault::LengthRepeated),
            _ => Ok(()),
        }
    }

    fn value(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        let taken = bytes::value(bytes);
        if self.known == Known::Other {
            self.count_header(taken)?;
        } else {
            for &byte in &bytes[..taken] {
                self.count_header(1)?;
                self.element(byte)?;
            }
        }
        match bytes.get(taken) {
            None => Ok(taken),
            Some(b'\r') => {
                self.state = State::ValueLf;
                Ok(taken + 1)
            }
            Some(b'\n') => Err(FramingFault::BareLf),
            Some(&byte) => Err(FramingFault::Value(byte)),
        }
    }

    /// A byte of a value that frames.
    fn element(&mut self, byte: u8) -> Result<(), FramingFault> {
        if byte != b',' {
            self.word.push(byte);
            return Ok(());
        }
        match self.known {
            Known::Length => return Err(FramingFault::LengthNotNumber),
            _ => self.element_ends()?,
        }
        self.word.clear();
        Ok(())
    }

    fn element_ends(&mut self) -> Result<(), FramingFault> {
        match self.known {
            Known::Other => {}
            Known::Upgrade => self.is_handshake |= self.word.is(b"websocket"),
            Known::Length => self.length = Some(length(&self.word)?),
            Known::Coding if self.word.is(b"chunked") && self.is_chunked => {
                return Err(FramingFault::CodingRepeated);
            }
            Known::Coding if self.word.is(b"chunked") => self.is_chunked = true,
            Known::Coding => {
                let word = self.word.get();
                let is_name = word.is_none_or(|it| !it.is_empty() && bytes::token(it) == it.len());
                return Err(if is_name {
                    FramingFault::CodingUnknown
                } else {
                    FramingFault::CodingNotName
                });
            }
        }
        Ok(())
    }

    fn header_ends(&mut self) -> Result<(), FramingFault> {
        self.element_ends()?;
        self.known = Known::Other;
        self.count_head(2)
    }

    fn head_ends(&mut self) -> Result<(), FramingFault> {
        if self.is_trailer {
            return Ok(()); // The message is over.
        }
        let length = self.length.unwrap_or(0);
        if self.is_chunked && self.length.is_some() {
            return Err(FramingFault::LengthAndCoding);
        }
        if self.is_chunked && self.is_http_10 {
            return Err(FramingFault::CodingInHttp10);
        }
        // HTTP/1.0 has no Upgrade (RFC 9110, section 7.8).
        let is_handshake = self.is_handshake && !self.is_http_10;
        if is_handshake && (self.is_chunked || length > 0) {
            return Err(FramingFault::BodyInHandshake);
        }
        if is_handshake || self.is_connect {
            self.state = State::Beyond;
        } else if self.is_chunked {
            self.chunk_size_begins();
        } else if length > 0 {
            self.remaining = length;
            self.state = State::Body;
        }
        Ok(())
    }

    fn body(&mut self, there: usize) -> usize {
        let taken = usize::try_from(self.remaining).map_or(there, |left| left.min(there));
        self.remaining -= taken as u64;
        if self.remaining == 0 {
            let next = if self.is_chunked { State::ChunkCr } else { State::Start(false) };
            self.state = next;
        }
        taken
    }

    fn chunk_size_begins(&mut self) {
        (self.remaining, self.digits) = (0, 0);
        self.state = State::ChunkSize;
    }

    fn chunk_size(&mut self, byte: u8) -> Result<(), FramingFault> {
        let digit = char::from(byte).to_digit(16);
        match (digit, byte) {
            (Some(_), _) if self.digits == DIGITS_MAX => {
                return Err(FramingFault::ChunkSizeTooLong { max: DIGITS_MAX.into() });
            }
            (Some(digit), _) => {
                self.remaining = self.remaining << 4 | u64::from(digit);
                self.digits += 1;
            }
            (None, b'\r') if self.digits > 0 => self.state = State::ChunkSizeLf,
            (None, b';') if self.digits > 0 => self.state = State::Extension,
            (None, b'\n') => return Err(FramingFault::BareLf),
            (None, _) => return Err(FramingFault::ChunkSize(byte)),
        }
        Ok(())
    }

    /// Nobody reads them; in all chunks together they are bounded, or a body of empty ones would
    /// cost a thousand times what it brings.
    fn extension(&mut self, byte: u8) -> Result<(), FramingFault> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS_MAX {
            return Err(FramingFault::ExtensionsTooLong { max: EXTENSIONS_MAX });
        }
        match byte {
            b'\r' => self.state = State::ChunkSizeLf,
            b'\n' => return Err(FramingFault::BareLf),
            _ if bytes::value(&[byte]) == 1 => {}
            _ => return Err(FramingFault::Extension(byte)),
        }
        Ok(())
    }

    fn chunk_begins(&mut self) {
        if self.remaining == 0 {
            self.is_trailer = true;
            (self.head, self.headers) = (0, 0);
            self.state = State::LineBegins;
        }
    }

    fn line_feed(&mut self, byte: u8, next: State) -> Result<(), FramingFault> {
        if byte != b'\n' {
            return Err(FramingFault::BareCr);
        }
        self.state = next;
        Ok(())
    }

    fn count_line(&mut self, bytes: usize) -> Result<(), FramingFault> {
        let max = self.limits.request_line;
        self.count_within(bytes, max).ok_or(FramingFault::LineTooLong { max })?;
        self.count_head(bytes)
    }

    fn count_header(&mut self, bytes: usize) -> Result<(), FramingFault> {
        let max = self.limits.header;
        self.count_within(bytes, max).ok_or(FramingFault::HeaderTooLarge { max })?;
        self.count_head(bytes)
    }

    /// Counts bytes of a line. `None` when they go beyond its limit before they do beyond that of
    /// the head: however many come at once, the same is wrong with them.
    fn count_within(&mut self, bytes: usize, max: u32) -> Option<()> {
        let rest_of_line = max.saturating_sub(self.line);
        let rest_of_head = self.limits.head.saturating_sub(self.head);
        self.line = add(self.line, bytes);
        (self.line <= max || rest_of_head < rest_of_line).then_some(())
    }

    fn count_head(&mut self, bytes: usize) -> Result<(), FramingFault> {
        self.head = add(self.head, bytes);
        if self.head > self.limits.head {
            return Err(FramingFault::HeadTooLarge { max: self.limits.head });
        }
        Ok(())
    }
}

fn add(count: u32, bytes: usize) -> u32 {
    count.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// HTTP/0.9 has a line of a method and a target alone.
fn no_version(byte: u8) -> Option<FramingFault> {
    matches!(byte, b'\r' | b'\n').then_some(FramingFault::NoVersion)
}

fn length(word: &Word) -> Result<u64, FramingFault> {
    let digits = word.get().ok_or(FramingFault::LengthNotNumber)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FramingFault::LengthNotNumber);
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let length = digits.iter().try_fold(0, add);
    length.filter(|&it| it <= LENGTH_MAX).ok_or(FramingFault::LengthTooLarge)
}

/// The first byte of a TLS record that a handshake begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// More than any body, and what others keep in 63 bits.
const LENGTH_MAX: u64 = 1 << 60;

/// Digits of a chunk's size: 60 bits.
const DIGITS_MAX: u8 = 15;

/// Bytes of the extensions of all chunks of a body.
const EXTENSIONS_MAX: u32 = 4096;

#[cfg(test)]
mod tests;
