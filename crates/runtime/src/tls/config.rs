//! What a server's TLS configuration must have for the stream: the settings that decide memory and
//! CPU per connection. Which certificates, versions and clients there are is policy, and not here.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A server's TLS configuration, ready for [`Socket::accept_tls`](crate::socket::Socket).
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<ServerConfig>);

impl TlsConfig {
    /// Takes `config` over, and settles in it what belongs to the stream:
    ///
    /// - Resumption is by stateless tickets only, in TLS 1.2 and 1.3: they cost no table, and any
    ///   worker takes them. The keys are this configuration's own and change every six hours; so a
    ///   client whose certificate another configuration (also the next one of the same listener)
    ///   would refuse cannot get in by a ticket.
    /// - One ticket per handshake, not two: browsers open one WebSocket, and each ticket costs a
    ///   seal and some 200 bytes on the wire.
    /// - No early data: it can be replayed, and an upgrade must not be (RFC 8446, section 8).
    /// - No secrets leave rustls, and full records are sent.
    pub fn new(mut config: ServerConfig) -> Result<Self, rustls::Error> {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.enable_secret_extraction = false;
        config.max_fragment_size = None;
        config.cert_resolver = Arc::new(Noting(config.cert_resolver));
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

/// What a ClientHello asked for and whether there was a certificate for it.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) server_name: Option<Box<str>>,
    pub(super) has_certificate: bool,
}

/// The greeting that rustls has taken in on this thread since this was last called.
///
/// rustls tells the server name to the certificate resolver of an unbuffered connection, and to
/// nobody else. A handshake step is synchronous, so the thread is a safe place to leave it.
pub(super) fn take_greeting() -> Option<Greeting> {
    GREETING.take()
}

/// Resolves as the resolver in it does, and leaves a note.
#[derive(Debug)]
struct Noting(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = hello.server_name().map(Box::from);
        let certificate = self.0.resolve(hello);
        let has_certificate = certificate.is_some();
        GREETING.set(Some(Greeting { server_name, has_certificate }));
        certificate
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

thread_local! {
    static GREETING: RefCell<Option<Greeting>> = const { RefCell::new(None) };
}
