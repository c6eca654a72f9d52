//! The probe that connects, no more: with TLS, where that is spoken to the server.

use tidewire_runtime::socket::Socket;

use super::ProbeError;
use super::stream::ProbeStream;
use super::target::Target;

/// Connects to where a server is probed.
pub(super) async fn probe(target: &Target<'_>) -> Result<ProbeStream, ProbeError> {
    let mut last = None;
    for address in target.address.resolve().await.map_err(ProbeError::Connect)? {
        let socket = match Socket::connect(address).await {
            Ok(socket) => socket,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        return match &target.tls {
            None => Ok(ProbeStream(socket)),
            Some(tls) => Ok(ProbeStream(socket.connect_tls(tls).await?)),
        };
    }
    Err(ProbeError::Connect(last.expect("a name that resolves has an address")))
}
