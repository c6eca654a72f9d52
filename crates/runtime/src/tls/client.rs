//! The client side of a TLS handshake: towards a server.

use std::future::poll_fn;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::net::TcpStream;

use super::channel::{Channel, TlsStream, now};
use super::error::TlsError;
use super::session::Session;
use crate::allocator::note_burst;

/// How TLS is spoken to a server, ready for [`Socket::connect_tls`](crate::socket::Socket).
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// Takes `config` over, for a server that has to be `name`, and settles in it what belongs to
    /// the stream: no early data, which can be replayed (RFC 8446, section 8), no secrets that
    /// leave rustls, full records. Sessions are resumed, with as many servers as a backend may have.
    pub fn new(mut config: ClientConfig, name: ServerName<'static>) -> Self {
        config.enable_early_data = false;
        config.enable_secret_extraction = false;
        config.max_fragment_size = None;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self { config: Arc::new(config), name }
    }

    /// What handshakes are made with, for streams that are not the runtime's.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Who the server has to be.
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The same towards another server.
    pub fn towards(&self, name: ServerName<'static>) -> Self {
        Self { config: Arc::clone(&self.config), name }
    }
}

/// Does the handshake as client. On failure the server has been told, as well as it can be.
pub(crate) async fn connect(tcp: TcpStream, client: &TlsClient) -> Result<TlsStream, TlsError> {
    let session = Session::client(Arc::clone(&client.config), client.name.clone());
    let mut channel = Channel::new(tcp, session.map_err(TlsError::new)?);
    // Keys, shares and signatures are some tens of kilobytes, for a moment.
    note_burst();
    channel.begin()?;
    let done = shake_hands(&mut channel).await;
    done.map(|()| channel.into_stream()).map_err(TlsError::towards_server)
}

async fn shake_hands(channel: &mut Channel) -> Result<(), TlsError> {
    loop {
        poll_fn(|cx| channel.poll_flush(cx)).await?;
        if !channel.session().facts().is_handshaking() {
            return Ok(());
        }
        let step = poll_fn(|cx| channel.poll_step(cx, &mut None)).await;
        if let Err(error) = step {
            // An alert, for which there is room.
            let _ = now(|cx| channel.poll_flush(cx)).await;
            return Err(error);
        }
        let facts = channel.session().facts();
        if !facts.is_handshaking() && facts.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            // Our Finished goes with the first request, which saves a call and a packet.
            channel.defer_unsent();
            return Ok(());
        }
    }
}

/// rustls divides it by the tickets that it keeps of each server, 8, for the number of servers.
/// Servers that share a name share a place.
const SESSIONS: usize = 8 * 512;

#[cfg(test)]
pub(super) mod tests;
