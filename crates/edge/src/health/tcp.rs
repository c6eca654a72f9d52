//! The probe that connects, no more.

use tokio::net::TcpStream;

use super::ProbeError;
use crate::server::Address;

/// Connects to `address`.
pub async fn probe(address: &Address) -> Result<TcpStream, ProbeError> {
    let mut last = None;
    for address in address.resolve().await.map_err(ProbeError::Connect)? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(ProbeError::Connect(last.expect("a name that resolves has an address")))
}
