//! Where a server is probed, and how that is spoken to.

use tidewire_runtime::tls::client::TlsClient;

use super::CheckConfig;
use crate::server::{Address, Server};
use crate::server_tls::ServerTls;

/// Where a server is probed.
#[derive(Debug)]
pub(super) struct Target<'p> {
    pub check: &'p CheckConfig,
    pub address: Address,
    pub tls: Option<TlsClient>,
}

impl<'p> Target<'p> {
    /// Where `server` is probed, to which `tls` is spoken.
    pub fn new(check: &'p CheckConfig, server: &Server, tls: Option<&ServerTls>) -> Self {
        let address = match (&server.check_address, check.port) {
            (Some(address), _) => address.clone(),
            (None, Some(port)) => server.address.with_port(port),
            (None, None) => server.address.clone(),
        };
        // Another port is another listener, such as one for operators.
        let is_own = address == server.address;
        let tls = tls.filter(|_| check.tls.unwrap_or(is_own));
        Self { check, address, tls: tls.map(|tls| tls.towards(server)) }
    }
}
