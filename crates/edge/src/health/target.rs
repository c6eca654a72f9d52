//! Where a server is probed, and how that is spoken to.

use tidewire_runtime::tls::client::TlsClient;

use super::CheckConfig;
use crate::address::Address;
use crate::backend::Backend;
use crate::connector::Connector;
use crate::send_proxy::Whose;
use crate::server::Server;

/// Where a server is probed.
#[derive(Debug)]
pub(super) struct Target<'p> {
    pub check: &'p CheckConfig,
    pub server: &'p Server,
    pub address: Address,
    pub connector: &'p Connector,
    /// Whose a probe's connection is, if the server is told.
    pub whose: Option<Whose>,
    pub tls: Option<TlsClient>,
}

impl<'p> Target<'p> {
    /// Where `server` of `backend` is probed.
    pub fn new(backend: &'p Backend, server: &'p Server) -> Self {
        let check = &backend.check;
        let address = match (server.check_address(), check.port) {
            (Some(address), _) => address,
            (None, Some(port)) => server.address.with_port(port),
            (None, None) => server.address.clone(),
        };
        // Another port is another listener, such as one for operators.
        let is_own = address == server.address;
        let tls = backend.tls.as_ref().filter(|_| check.tls.unwrap_or(is_own));
        let tls = tls.map(|tls| tls.towards(server));
        let connector = &backend.connector;
        let whose = connector.whose(None).filter(|_| check.send_proxy.unwrap_or(is_own));
        Self { check, server, address, connector, whose, tls }
    }
}
