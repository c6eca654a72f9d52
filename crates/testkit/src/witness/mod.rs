//! A server that reads each byte it gets as strictly as a server can, counts, and remembers: what
//! an edge must never let through is a doubt here, and every request has its number in its answer.
//!
//! It also does what a script says, as hostile servers do.

pub mod head;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use self::head::{Doubt, Fields, Framing, Head, chunk_size, trailers};
use crate::deadline::DEADLINE;
use crate::peer::Peer;
use crate::port::loopback;
use crate::websocket::{Got, Opcode, WebSocket, switch};

/// A strict server on the loopback. Dropping it ends all of its connections.
#[derive(Debug)]
pub struct Witness {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// A request that has reached the witness.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The connection on which it came, from 0.
    pub connection: usize,
    pub head: Head,
    /// Its head, byte for byte.
    pub raw: Vec<u8>,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Whether its body came to an end.
    pub is_whole: bool,
    /// Whether the witness has done all that it does with it.
    pub is_over: bool,
}

/// What the witness does with a request whose head was read.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads the request's body; what has not done so does it last.
    Body,
    Send(Vec<u8>),
    /// Sends this again and again, until nobody takes it or it was this many bytes.
    Flood(Vec<u8>, usize),
    Wait(Duration),
    /// Says nothing until the other side ends.
    Hold,
    /// Ends the connection.
    Close,
    /// Ends the connection with a reset.
    Reset,
    /// Is a WebSocket from here, which says everything back.
    Echo,
}

impl Act {
    pub fn send(bytes: impl AsRef<[u8]>) -> Self {
        Self::Send(bytes.as_ref().to_vec())
    }
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicUsize,
    is_over: AtomicBool,
    record: Mutex<Record>,
    open: Mutex<Vec<TcpStream>>,
}

#[derive(Debug, Default)]
struct Record {
    seen: Vec<Seen>,
    doubts: Vec<Doubt>,
}

impl Witness {
    /// One that answers each request with its number and what it was, and echoes WebSockets.
    pub fn start() -> Self {
        Self::acting(|head, number| {
            if head.is_handshake() {
                let key = head.get("sec-websocket-key").expect("a clean handshake has a key");
                return vec![Act::send(switch(key)), Act::Echo];
            }
            vec![Act::Body, Act::Send(numbered(head, number))]
        })
    }

    /// One that does as `script` says with each request, whose number it is told.
    pub fn acting(script: impl Fn(&Head, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("any port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let accept = (Arc::clone(&shared), Arc::new(script));
        let accepting = Some(thread::spawn(move || run(&listener, &accept.0, &accept.1)));
        Self { address, shared, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// All that has reached it so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record().seen.clone()
    }

    /// How many requests have reached it whole.
    pub fn count(&self) -> usize {
        self.shared.record().seen.iter().filter(|seen| seen.is_whole).count()
    }

    /// What it could have read in two ways.
    pub fn doubts(&self) -> Vec<Doubt> {
        self.shared.record().doubts.clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; it is over when the port is closed.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer of a witness: its number, and what was asked.
pub fn numbered(head: &Head, number: usize) -> Vec<u8> {
    let text = format!("{number} {} {}", head.method, head.target);
    let head_only = head.method == "HEAD";
    let length = text.len();
    let body = if head_only { "" } else { &text };
    let answer =
        format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\nContent-Length: {length}\r\n\r\n{body}");
    answer.into_bytes()
}

fn run<S>(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<S>)
where
    S: Fn(&Head, usize) -> Vec<Act> + Send + Sync + 'static,
{
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(DEADLINE));
        if let Ok(another) = stream.try_clone() {
            shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(another);
        }
        let (shared, script) = (Arc::clone(shared), Arc::clone(script));
        thread::spawn(move || {
            let mut line = Line { stream, unread: Vec::new(), shared, connection };
            while line.serve(&*script) {}
            let _ = line.stream.shutdown(Shutdown::Both);
        });
    }
}

/// A connection to the witness.
struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    shared: Arc<Shared>,
    connection: usize,
}

impl Line {
    /// Serves the next request; whether another may follow.
    fn serve(&mut self, script: &impl Fn(&Head, usize) -> Vec<Act>) -> bool {
        let Some(raw) = self.take_until(b"\r\n\r\n") else { return false };
        let head = match Head::parse(&raw) {
            Ok(head) => head,
            Err(doubt) => return self.doubt(doubt),
        };
        let number = self.note(&head, raw);
        let goes_on = self.carry_out(script(&head, number + 1), number, head.framing);
        self.shared.record().seen[number].is_over = true;
        goes_on
    }

    fn carry_out(&mut self, acts: Vec<Act>, number: usize, framing: Framing) -> bool {
        let mut is_body_read = false;
        for act in acts {
            let goes_on = match act {
                Act::Body => {
                    is_body_read = true;
                    self.body(number, framing)
                }
                act => self.act(act),
            };
            if !goes_on {
                return false;
            }
        }
        is_body_read || self.body(number, framing)
    }

    fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Body => unreachable!("the caller reads bodies"),
            Act::Send(bytes) => self.stream.write_all(&bytes).is_ok(),
            Act::Flood(bytes, limit) => {
                let mut sent = 0;
                while sent < limit && self.stream.write_all(&bytes).is_ok() {
                    sent += bytes.len();
                }
                sent >= limit
            }
            Act::Wait(time) => {
                thread::sleep(time);
                true
            }
            Act::Hold => {
                while self.fill() {}
                false
            }
            Act::Close => false,
            Act::Reset => {
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                // The other handle would keep the connection.
                let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
                let own = self.stream.peer_addr().ok();
                open.retain(|stream| stream.peer_addr().ok() != own);
                false
            }
            Act::Echo => {
                self.echo();
                false
            }
        }
    }

    fn note(&self, head: &Head, raw: Vec<u8>) -> usize {
        let mut record = self.shared.record();
        record.seen.push(Seen {
            connection: self.connection,
            head: head.clone(),
            raw,
            body: Vec::new(),
            trailers: Vec::new(),
            is_whole: head.framing == Framing::Length(0),
            is_over: false,
        });
        record.seen.len() - 1
    }

    /// Takes note of what is not clear, and has nothing more to do with who said it.
    fn doubt(&self, doubt: Doubt) -> bool {
        self.shared.record().doubts.push(doubt);
        false
    }

    /// Reads a body and keeps it; whether it was whole.
    fn body(&mut self, number: usize, framing: Framing) -> bool {
        let read = match framing {
            Framing::Length(length) => self.take(length).map(|body| (body, Vec::new())).ok_or(None),
            Framing::Chunked => self.chunks(),
        };
        match read {
            Ok((body, trailers)) => {
                let seen = &mut self.shared.record().seen[number];
                (seen.body, seen.trailers, seen.is_whole) = (body, trailers, true);
                true
            }
            Err(Some(doubt)) => self.doubt(doubt),
            Err(None) => false,
        }
    }

    /// A chunked body; no doubt is the end of the stream.
    fn chunks(&mut self) -> Result<(Vec<u8>, Fields), Option<Doubt>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n").ok_or(None)?;
            let size = chunk_size(&line[..line.len() - 2]).map_err(Some)?;
            if size == 0 {
                break;
            }
            body.extend(self.take(size).ok_or(None)?);
            let end = self.take(2).ok_or(None)?;
            if end != b"\r\n" {
                return Err(Some(Doubt::new("a chunk that is longer than it says", &end)));
            }
        }
        let mut section = Vec::new();
        while !section.ends_with(b"\r\n\r\n") && section != b"\r\n" {
            section.extend(self.take_until(b"\r\n").ok_or(None)?);
        }
        Ok((body, trailers(&section).map_err(Some)?))
    }

    fn echo(&mut self) {
        let Ok(stream) = self.stream.try_clone() else { return };
        let peer = Peer::with_unread(stream, std::mem::take(&mut self.unread));
        let mut socket = WebSocket::served(peer);
        loop {
            match socket.next() {
                Got::Text(text) => socket.send(&text),
                Got::Binary(bytes) => socket.send_frame(Opcode::Binary, &bytes),
                Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
                Got::Pong(_) => {}
                Got::Close(code, reason) => {
                    socket.send_close(code.unwrap_or(1000), &reason);
                    return;
                }
                Got::End => return,
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// What comes next, up to and with `mark`; what comes instead and does not end is a doubt.
    fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|it| it == mark) {
                return Some(self.unread.drain(..at + mark.len()).collect());
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                self.doubt(Doubt::new("a head without end", &self.unread));
                return None;
            }
            if !self.fill() {
                if !self.unread.is_empty() {
                    self.doubt(Doubt::new("the end within a head", &self.unread));
                }
                return None;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(length) => {
                    self.unread.extend_from_slice(&buffer[..length]);
                    return length > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

const HEAD_BYTES_MAX: usize = 128 * 1024;
