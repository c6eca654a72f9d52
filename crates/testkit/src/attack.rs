//! An attacker's bytes on their way to an edge, in pieces as they may come, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::http::{Headers, Response};

/// How bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    ByteByByte,
    /// Cut at some places, the same for the same seed.
    Split(u64),
}

/// What came back until the end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The final answers, in their order.
    pub answers: Vec<Response>,
    /// What is no answer that is whole.
    pub rest: Vec<u8>,
    /// Whether the other side has ended the connection.
    pub has_ended: bool,
}

impl Outcome {
    pub fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|answer| answer.status).collect()
    }
}

/// Lets this process have as many open files as the system allows it.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Tries each of `items`, `lanes` at a time: what is slow about most is waiting.
///
/// # Panics
/// With what is wrong with each that failed.
#[track_caller]
pub fn try_each<T: Sync>(
    items: &[T],
    lanes: usize,
    try_one: impl Fn(&T) -> Result<(), String> + Sync,
) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(wrong) = try_one(item) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), items.len(), failed.join("\n"));
}

/// Sends `bytes` and reads until the other side ends, or says nothing for `patience`.
#[track_caller]
pub fn strike(
    address: SocketAddr,
    bytes: &[u8],
    delivery: Delivery,
    patience: Duration,
) -> Outcome {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{error}"));
    stream.set_nodelay(true).expect("a TCP socket has the option");
    stream.set_write_timeout(Some(patience)).expect("a socket has the option");
    stream.set_read_timeout(Some(patience)).expect("a socket has the option");
    // Whoever is refused early may find that nobody reads on.
    let _ = pieces(bytes, delivery).into_iter().try_for_each(|piece| stream.write_all(piece));
    let mut came = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let begun = Instant::now();
    let has_ended = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(length) => came.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break true,
        }
        assert!(begun.elapsed() < patience * 4, "{address} does not stop talking");
    };
    let (answers, rest) = answers(&came);
    Outcome { answers, rest, has_ended }
}

fn pieces(bytes: &[u8], delivery: Delivery) -> Vec<&[u8]> {
    match delivery {
        Delivery::Whole => vec![bytes],
        // What is long is there for its length: a system call a byte would be for the test's.
        Delivery::ByteByByte => bytes.chunks(1 + bytes.len() / 2048).collect(),
        Delivery::Split(seed) => {
            let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let (mut pieces, mut rest) = (Vec::new(), bytes);
            for _ in 0..CUTS {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let (piece, after) = rest.split_at(seed as usize % (rest.len() / 2 + 1));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            pieces
        }
    }
}

/// The final answers in what a server has said to requests none of which was a HEAD, and what is
/// left when no whole one follows. Behind a 101, the rest is not HTTP.
pub fn answers(mut came: &[u8]) -> (Vec<Response>, Vec<u8>) {
    let mut answers = Vec::new();
    while let Some((answer, length)) = answer(came) {
        came = &came[length..];
        let status = answer.status;
        if status >= 200 || status == 101 {
            answers.push(answer);
        }
        if status == 101 {
            break;
        }
    }
    (answers, came.to_vec())
}

fn answer(came: &[u8]) -> Option<(Response, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head_length)) = head.parse(came) else { return None };
    let owned = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
    let headers = Headers(owned.collect());
    let status = head.code?;
    let after = &came[head_length..];
    let (body, length) = if matches!(status, 100..=199 | 204 | 304) {
        (Vec::new(), 0)
    } else if headers.has("transfer-encoding") {
        chunks(after)?
    } else if let Some(length) = headers.get("content-length") {
        let length = length.parse().ok()?;
        (after.get(..length)?.to_vec(), length)
    } else {
        (after.to_vec(), after.len())
    };
    let version = head.version?;
    let response = Response { status, version, headers, body, trailers: Headers::default() };
    Some((response, head_length + length))
}

/// A chunked body without trailers, and its length on the wire.
fn chunks(came: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = came[at..].windows(2).position(|it| it == b"\r\n")?;
        let size = std::str::from_utf8(&came[at..at + line]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        at += line + 2;
        body.extend_from_slice(came.get(at..at + size)?);
        at += size;
        (came.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

const CUTS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_are_all_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        for delivery in [Delivery::Whole, Delivery::ByteByByte, Delivery::Split(3)] {
            let pieces = pieces(&bytes, delivery);
            assert_eq!(pieces.concat(), bytes, "{delivery:?}");
            assert_eq!(pieces.len() > 1, delivery != Delivery::Whole);
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let came = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab\
            HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        let (found, rest) = answers(came);
        assert_eq!(found.iter().map(|it| it.status).collect::<Vec<_>>(), [200, 404]);
        assert_eq!(found[1].body, b"x");
        assert!(rest.starts_with(b"HTTP/1.1 200") && rest.ends_with(b"half"));
    }
}
