//! HTTPS, a thread for each connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Shared;
use super::state::{Answer, Problem};
use crate::deadline::DEADLINE;
use crate::port::loopback;

#[derive(Debug)]
pub struct Serve {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// A port that connections wait at.
pub struct Bound(TcpListener);

pub fn bind() -> Bound {
    Bound(TcpListener::bind(loopback(0)).expect("a port of the loopback"))
}

impl Bound {
    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("a bound socket has an address").port()
    }
}

impl Serve {
    pub fn start(bound: Bound, shared: Arc<Shared>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = shared.signer.own();
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        let (tls, is_over) = (Arc::new(tls), Arc::<AtomicBool>::default());
        let address = loopback(bound.port());
        let over = Arc::clone(&is_over);
        let accepting = thread::spawn(move || {
            for stream in bound.0.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (tls, shared) = (Arc::clone(&tls), Arc::clone(&shared));
                // A client that goes away in the middle is its own affair.
                thread::spawn(move || connection(stream, tls, &shared).ok());
            }
        });
        Self { address, is_over, accepting: Some(accepting) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn connection(stream: TcpStream, tls: Arc<ServerConfig>, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let tls = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    let mut unread = Vec::new();
    while let Some((method, path, body)) = request(&mut stream, &mut unread)? {
        let answer = answer(shared, &method, &path, &body);
        respond(&mut stream, shared, &method, &answer)?;
    }
    Ok(())
}

fn answer(shared: &Arc<Shared>, method: &str, path: &str, body: &[u8]) -> Answer {
    if shared.mood().is_down {
        return Problem::new(503, "serverInternal", "down for maintenance").answer();
    }
    match method {
        "GET" | "HEAD" => shared.get(path),
        "POST" => shared.post(path, body).unwrap_or_else(|problem| problem.answer()),
        _ => Problem::new(405, "malformed", "GET, HEAD and POST only").answer(),
    }
}

type Request = (String, String, Vec<u8>);

/// The next request; `None` at the end.
fn request(stream: &mut impl Read, unread: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        let parsed = head.parse(unread).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let named = |name: &str| {
                let found = head.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
                found.map_or("", |it| std::str::from_utf8(it.value).unwrap_or_default())
            };
            let (method, path) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
            let size: usize = named("content-length").parse().unwrap_or(0);
            let is_signed = method != "POST" || named("content-type") == "application/jose+json";
            if unread.len() >= length + size {
                let (method, path) = (method.to_owned(), path.to_owned());
                let body = unread[length..length + size].to_vec();
                unread.drain(..length + size);
                assert!(is_signed, "a POST to {path} is not application/jose+json");
                return Ok(Some((method, path, body)));
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => unread.extend_from_slice(&buffer[..length]),
        }
    }
}

fn respond(
    stream: &mut impl Write,
    shared: &Shared,
    method: &str,
    answer: &Answer,
) -> io::Result<()> {
    let nonce = shared.state().new_nonce();
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nReplay-Nonce: {nonce}\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\n",
        answer.status,
        answer.body.len(),
    );
    let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if !answer.media_type.is_empty() {
        line("Content-Type", answer.media_type);
    }
    if let Some(location) = &answer.location {
        line("Location", location);
    }
    if let Some(seconds) = answer.retry_after {
        line("Retry-After", &seconds.to_string());
    }
    let body: &[u8] = if method == "HEAD" { &[] } else { &answer.body };
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    stream.flush()
}
