//! From a backend to a connection with one of its servers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewire_runtime::socket::Socket;
use tidewire_runtime::unix_peer::UnixFault;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::backend::{Backend, Lease};
use crate::caller::Caller;
use crate::ejection::Deed;
use crate::fault::Fault;
use crate::server::ServerId;

/// Connects to a server of `backend` for `caller`; when that fails, to the next one, as often as the
/// backend's `retries` allow.
pub async fn dial(backend: &Arc<Backend>, caller: &Caller) -> Result<(Lease, Socket), Fault> {
    dial_first(backend.lease(caller, &[]).await?, caller).await
}

/// As [`dial`], beginning with a server that has been chosen already.
pub async fn dial_first(lease: Lease, caller: &Caller) -> Result<(Lease, Socket), Fault> {
    let backend = Arc::clone(lease.backend());
    let mut lease = lease;
    let mut tried = Vec::new();
    loop {
        let fault = match dial_leased(&lease, caller).await {
            Ok(socket) => return Ok((lease, socket)),
            Err(fault) => fault,
        };
        debug!(backend = %backend.name, server = %lease.server().name, %fault, "cannot connect");
        if tried.len() >= backend.retries as usize {
            return Err(fault);
        }
        // The same server again, because there is no other: give it a moment.
        if tried.contains(&lease.server().id) {
            tokio::time::sleep(SAME_SERVER_PAUSE).await;
        }
        tried.push(lease.server().id);
        // Given back first: with `maxconn` 1, it could be the last place there is.
        drop(lease);
        lease = backend.lease(caller, &tried).await?;
        if !tried.contains(&lease.server().id) {
            backend.counts.redispatches.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Connects to another server than those that were `tried`, which have refused what was sent to
/// them. `None` when there is no other.
pub async fn dial_another(
    backend: &Arc<Backend>,
    caller: &Caller,
    tried: &[ServerId],
) -> Result<Option<(Lease, Socket)>, Fault> {
    let lease = backend.lease(caller, tried).await?;
    if tried.contains(&lease.server().id) {
        return Ok(None);
    }
    backend.counts.redispatches.fetch_add(1, Ordering::Relaxed);
    dial_first(lease, caller).await.map(Some)
}

/// Connects to the server of `lease`, within the `connect` timeout.
async fn dial_leased(lease: &Lease, caller: &Caller) -> Result<Socket, Fault> {
    let server = lease.server();
    let fault = match connect(lease, caller).await {
        Ok(socket) => {
            lease.backend().note(server, Deed::Connected);
            return Ok(socket);
        }
        Err(fault) => fault,
    };
    if is_of_server(&fault) {
        lease.backend().note(server, Deed::NotConnected);
    }
    server.counts.connect_errors.fetch_add(1, Ordering::Relaxed);
    Err(fault)
}

/// Whether it is for want of the server, and not of ports, files or a network of our own.
fn is_of_server(fault: &Fault) -> bool {
    match fault {
        Fault::Connect(error) if error.get_ref().is_some_and(|it| it.is::<UnixFault>()) => true,
        Fault::Connect(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::TimedOut
        ),
        Fault::Tls(error) => !error.is_ours(),
        _ => true,
    }
}

/// Connects to the server of `lease`, with TLS if it is spoken to it. There is one time for both.
async fn connect(lease: &Lease, caller: &Caller) -> Result<Socket, Fault> {
    let deadline = Instant::now() + lease.backend().timeouts.connect();
    let connected =
        timeout_at(deadline, lease.backend().connector.socket(lease.server(), caller.way)).await;
    let socket = connected.map_err(|_| Fault::ConnectTimeout)?.map_err(Fault::Connect)?;
    match &lease.backend().tls {
        None => Ok(socket),
        // In a box: what a handshake needs is gone when it is over.
        Some(tls) => Box::pin(tls.secure(lease, socket, deadline)).await,
    }
}

const SAME_SERVER_PAUSE: Duration = Duration::from_millis(100);
