//! The probe that connects, no more: with TLS, where that is spoken to the server.

use tidewire_runtime::tls::client::TlsClient;
use tidewire_runtime::tls::error::TlsError;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ProbeError;
use super::stream::ProbeStream;
use super::target::Target;

/// Connects to where a server is probed.
pub(super) async fn probe(target: &Target<'_>) -> Result<ProbeStream, ProbeError> {
    let connected = target.connector.stream(target.server, &target.address, target.whose).await;
    let stream = connected.map_err(ProbeError::Connect)?;
    match &target.tls {
        None => Ok(ProbeStream::Plain(stream)),
        Some(tls) => Ok(secure(stream, tls).await?),
    }
}

/// The handshake that clients' connections make, from the same configuration.
async fn secure(stream: TcpStream, tls: &TlsClient) -> Result<ProbeStream, TlsError> {
    let connected = TlsConnector::from(tls.config()).connect(tls.name(), stream).await;
    let stream = connected.map_err(TlsError::of_server)?;
    Ok(ProbeStream::Tls(Box::new(stream)))
}
