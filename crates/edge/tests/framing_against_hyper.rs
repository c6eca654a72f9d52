//! What is followed as so many requests, hyper reads as so many: nothing is smuggled between the
//! two readers of this edge.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tidewire_wire::http::framing::{Follower, HeadLimits};

/// What hyper made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    /// Requests that were whole.
    requests: u32,
    /// It could not read on.
    is_lost: bool,
}

/// A stream that has come, and its end; what is written is forgotten.
struct Stream<'s>(&'s [u8]);

impl Read for Stream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// hyper's reading; it is told to close behind the request of number `last`.
fn read(stream: &[u8], last: Option<u32>) -> Reading {
    let requests = std::cell::Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let requests = &requests;
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            if last == Some(requests.get() + 1) {
                response.headers_mut().insert("connection", "close".parse().unwrap());
            }
            if request.into_body().collect().await.is_ok() {
                requests.set(requests.get() + 1);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // Small answers to a stream that is at its end already.
    http.half_close(true).timer(NoTimer).header_read_timeout(None);
    let mut connection = http.serve_connection(Stream(stream), service);
    let mut cx = Context::from_waker(Waker::noop());
    let mut turns = 0;
    let is_lost = loop {
        match Pin::new(&mut connection).poll(&mut cx) {
            Poll::Ready(result) => break result.is_err(),
            Poll::Pending => turns += 1,
        }
        assert!(turns < 1000, "hyper waits with all there: {:?}", String::from_utf8_lossy(stream));
    };
    drop(connection);
    Reading { requests: requests.get(), is_lost }
}

fn check(stream: &[u8]) -> bool {
    let mut follower = Follower::new(LIMITS);
    let followed = follower.follow(stream);
    let shown = String::from_utf8_lossy(stream);
    // hyper leaves off behind these requests; what follows them is nobody's.
    let leaves_off = shown.contains("HTTP/1.0") || shown.contains("close");
    if followed.fault.is_some() {
        // What is good is whole requests.
        let reading = read(&stream[..followed.good], None);
        let expected = follower.request() - 1;
        let is_less = reading.requests < expected && (reading.is_lost || leaves_off);
        let is_same = reading.requests == expected || is_less;
        assert!(is_same, "{expected} followed, {reading:?}, then {followed:?} in {shown:?}");
        return expected > 0;
    }
    let last = follower.is_beyond().then(|| follower.request());
    let reading = read(stream, last);
    assert!(reading.requests <= follower.request(), "{follower:?}, {reading:?} in {shown:?}");
    // The last one may not be whole.
    let is_last = reading.requests + 1 >= follower.request();
    let is_same = is_last || reading.is_lost || leaves_off;
    assert!(is_same, "{follower:?}, {reading:?} in {shown:?}");
    follower.request() > 0
}

#[test]
fn hyper_reads_what_is_followed() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut told = 0;
    for _ in 0..RUNS {
        let mut stream = Vec::new();
        for _ in 0..=below(3) {
            stream.extend_from_slice(SEEDS[below(SEEDS.len())].as_bytes());
        }
        for _ in 0..below(4) {
            let at = below(stream.len());
            let piece = PIECES[below(PIECES.len())].as_bytes();
            match below(4) {
                0 => stream[at] ^= 1 << below(8),
                1 => drop(stream.remove(at)),
                2 => drop(stream.splice(at..at, piece.iter().copied())),
                _ => {
                    let line = stream[at..].iter().position(|&byte| byte == b'\n');
                    let at = at + line.map_or(0, |line| line + 1);
                    stream.splice(at..at, piece.iter().copied());
                }
            }
        }
        told += usize::from(check(&stream));
    }
    assert!(told > RUNS / 2, "{told} of {RUNS} streams had a request in them");
}

const RUNS: usize = 20_000;

const LIMITS: HeadLimits =
    HeadLimits { request_line: 8192, head: 16384, headers: 100, header: 8192 };

const SEEDS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a.test/?b HTTP/1.1\r\nHost: a.test\r\nX:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n..",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\n\r\n",
    "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1B\r\nGET /smuggled HTTP/1.1\r\n\r\n..\r\n0\r\nA: b\r\n\r\n",
    "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
];

const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ",",
    ":",
    "0",
    "0\r\n\r\n",
    "\x0b",
    "\0",
    ";",
    "+",
    "#",
    "\u{ff}",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    " folded\r\n",
    "X: y\r\n",
    "Upgrade: websocket\r\n",
    "Connection: close\r\n",
    "GET / HTTP/1.1\r\n\r\n",
];

/// hyper asks for one where a head has no deadline, too.
#[derive(Clone, Debug)]
struct NoTimer;

impl hyper::rt::Timer for NoTimer {
    fn sleep(&self, _: std::time::Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        unreachable!("there is no deadline")
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        unreachable!("there is no deadline")
    }
}
