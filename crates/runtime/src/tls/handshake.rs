//! The server side of a TLS handshake, and what is known when it is over.

use std::future::poll_fn;
use std::task::Poll;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, Error, HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;

use super::channel::{Channel, TlsStream, now};
use super::config::{Greeting, TlsConfig, take_greeting};
use super::error::TlsError;
use super::session::Session;
use crate::allocator::note_burst;
use crate::newcomers;

/// What a handshake has settled.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The name that the client wants, in lower case. No IP address, and no dot at its end.
    pub server_name: Option<Box<str>>,
    /// The protocol chosen by ALPN.
    pub alpn: Option<Box<[u8]>>,
    /// The client's certificate, and after it those that it was issued by, as the client sent
    /// them. Verified, as the configuration says; without one, empty.
    pub certificates: Box<[CertificateDer<'static>]>,
    /// As OpenSSL writes it: `TLSv1.3`.
    pub version: &'static str,
    /// By its name in the IANA registry.
    pub cipher: &'static str,
    /// Whether keys came from an earlier connection, by a ticket.
    pub resumed: bool,
}

/// Does the handshake as server. On failure the client has been told, as well as it can be, and
/// TCP comes back.
pub(crate) async fn accept(
    tcp: TcpStream,
    config: &TlsConfig,
) -> Result<(TlsStream, Secured), (TlsError, TcpStream)> {
    let session = match Session::server(config.server()) {
        Ok(session) => session,
        Err(error) => return Err((TlsError::new(error), tcp)),
    };
    // Keys, shares and signatures are some tens of kilobytes, for a moment.
    note_burst();
    let mut handshake =
        Handshake { channel: Channel::new(tcp, session), greeting: None, first: None };
    match handshake.run().await {
        Ok(()) => {
            let secured = handshake.secured();
            Ok((handshake.channel.into_stream(), secured))
        }
        Err(error) => Err((error, handshake.channel.into_tcp())),
    }
}

struct Handshake {
    channel: Box<Channel>,
    greeting: Option<Greeting>,
    /// The first byte that the client has sent.
    first: Option<u8>,
}

impl Handshake {
    async fn run(&mut self) -> Result<(), TlsError> {
        loop {
            poll_fn(|cx| self.channel.poll_flush(cx)).await?;
            if !self.channel.session().facts().is_handshaking() {
                return Ok(());
            }
            self.channel.readable().await;
            let Poll::Ready(step) = self.step().await else { continue };
            if let Err(error) = step {
                let error = self.explain(error);
                // An alert would stand before it, and make it no HTTP.
                match error {
                    TlsError::PlainHttp => self.channel.say_instead(PLAIN_HTTP),
                    TlsError::NoCertificate(_) => self.channel.say_instead(UNRECOGNIZED_NAME),
                    _ => {}
                }
                // Hardly anything was sent before it, so there is room for it.
                let _ = now(|cx| self.channel.poll_flush(cx)).await;
                return Err(error);
            }
            let facts = self.channel.session().facts();
            let is_tls13 = facts.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !facts.is_handshaking() && is_tls13 {
                // What follows the client's Finished is a ticket. It goes with the first answer,
                // which saves a call and a packet. (In TLS 1.2 our Finished comes last.)
                self.channel.defer_unsent();
                return Ok(());
            }
        }
    }

    /// The answer to the hello, which costs most, waits for its turn; whoever has had that goes on.
    async fn step(&mut self) -> Poll<Result<(), TlsError>> {
        if self.greeting.is_none() {
            newcomers::turn().await;
        }
        now(|cx| {
            // The notes of a thread are those of whoever is polled.
            take_greeting();
            let step = newcomers::measured(|| self.channel.poll_step(cx, &mut self.first));
            if let Some(greeting) = take_greeting() {
                self.greeting = Some(greeting);
            }
            step
        })
        .await
    }

    /// Knows more about an error than rustls says.
    fn explain(&self, error: TlsError) -> TlsError {
        match (error, &self.greeting) {
            (error @ TlsError::Violation(Error::InvalidMessage(_)), None) => match self.first {
                Some(HANDSHAKE_RECORD) => error,
                Some(byte) if byte.is_ascii_alphabetic() => TlsError::PlainHttp,
                _ => TlsError::NotTls,
            },
            (TlsError::Internal(_), Some(Greeting { has_certificate: false, server_name })) => {
                TlsError::NoCertificate(server_name.clone().unwrap_or_default())
            }
            (TlsError::Eof, None) if self.first.is_none() => TlsError::Silent,
            (error, _) => error,
        }
    }

    fn secured(&mut self) -> Secured {
        let server_name = self.greeting.take().and_then(|greeting| greeting.server_name);
        let facts = self.channel.session().facts();
        Secured {
            server_name,
            alpn: facts.alpn_protocol().map(Box::from),
            certificates: facts.peer_certificates().map(Box::from).unwrap_or_default(),
            version: match facts.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: match facts.negotiated_cipher_suite().map(|suite| suite.suite()) {
                // rustls has names of its own for these.
                Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
                Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
                Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
                Some(suite) => suite.as_str().unwrap_or("unknown"),
                None => "unknown",
            },
            resumed: facts.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// The alert of RFC 6066, section 3, fatal, as no keys are agreed upon yet. rustls would say
/// access_denied, which sends people to look for a missing permission.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// How TLS begins (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 73\r\n\r\n\
    400 Bad Request: TLS is spoken here: use https:// or wss:// for this URL\n";
