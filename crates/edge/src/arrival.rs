//! How connections come to a listener: by themselves, or by proxies whose word is taken.
//!
//! ```text
//!   peer ─┬─ listed for PROXY ──header──> the client that it names ─┐
//!         └─ any other ─────────────────> the peer ─────────────────┼─> door ─> session
//!                                 a trusted proxy: counted for many ┘   each request: its client
//! ```

use std::net::IpAddr;
use std::rc::Rc;

use http::Response;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::uri::Uri;
use tidewire_runtime::conn::Conn;

use crate::access_log::Record;
use crate::answer::{self, Body, close_after};
use crate::client_address::ClientAddress;
use crate::door::{self, Door};
use crate::hygiene;
use crate::metrics::EdgeMetrics;
use crate::proxy_header::{self, Others, Outcome, ProxyProtocol};
use crate::service::EdgeShard;
use crate::session;
use crate::trusted_proxies::{Asker, TrustedProxies};

/// Whose word a listener takes about where clients are.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Who says it in front of everything else.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Who says it in a header of each request.
    pub trusted_proxies: Option<TrustedProxies>,
}

/// Takes a connection in, or turns it away.
pub(crate) fn arrive(shard: &Rc<EdgeShard>, conn: Conn, listener: usize) {
    if let Some(protocol) = &shard.edge.arrivals[listener].proxy_protocol {
        if protocol.from.has_peer(conn.peer) {
            return proxy_header::receive(shard, conn, listener);
        }
        if protocol.others == Others::Close {
            return proxy_header::refuse(shard, &conn, listener, Outcome::Unlisted);
        }
    }
    enter(shard, conn, listener, None);
}

/// Lets a connection through the listener's door, whose peer is known now: `via` is who has said it.
/// Whoever is not let in does not cost a task.
pub(crate) fn enter(shard: &Rc<EdgeShard>, conn: Conn, listener: usize, via: Option<IpAddr>) {
    let door = &shard.edge.listener_doors[listener];
    let entered = match shard.edge.arrivals[listener].has_trusted(&conn) {
        true => door.enter_for_many(),
        false => door.enter(conn.peer.ip()),
    };
    match entered {
        Ok(entered) => {
            let run = session::run(Rc::clone(shard), conn, listener, entered, via);
            // In a box: tokio moves what it spawns from place to place.
            tokio::task::spawn_local(Box::pin(run));
        }
        Err(why) => door::turn_away(shard, conn, listener, via, why),
    }
}

impl Arrivals {
    /// Whether the connection brings the requests of many clients.
    pub(crate) fn has_trusted(&self, conn: &Conn) -> bool {
        self.trusted_proxies.as_ref().is_some_and(|trusted| trusted.from.has_peer(conn.peer))
    }

    /// Who asks, on a connection of `peer` that came by `scheme`.
    pub(crate) fn asker(
        &self,
        peer: ClientAddress,
        scheme: &'static str,
        headers: &HeaderMap,
        metrics: &EdgeMetrics,
    ) -> Asker {
        let mut asker = Asker::direct(peer, scheme);
        let Some(trusted) = self.trusting(peer) else { return asker };
        asker.is_spoken_for = true;
        trusted.asker(&asker, headers).unwrap_or_else(|_| {
            metrics.unreadable_addresses.add(1);
            asker
        })
    }

    /// Of a request whose client a proxy speaks for: has the host be the one that it says, and the
    /// client looked at, as the connection was not. Whose connection was is looked at again where
    /// the lists may have changed since.
    pub(crate) fn hear_of(
        &self,
        record: &mut Record,
        parts: &mut Parts,
        door: &Door,
    ) -> Result<(), Box<Response<Body>>> {
        let Some(trusted) = self.trusted_proxies.as_ref().filter(|_| record.asker.is_spoken_for)
        else {
            if door.addresses.may_change() {
                return look(record, door).map_err(|answer| Box::new(close_after(*answer)));
            }
            return Ok(());
        };
        if let Some(host) = trusted.host(&parts.headers) {
            parts.headers.insert(header::HOST, host);
            // A target in absolute form has a host of its own, which is not what was asked for.
            if let Some(path) = parts.uri.path_and_query().filter(|_| parts.uri.host().is_some()) {
                parts.uri = Uri::from(path.clone());
            }
            hygiene::check(parts).map_err(|unfit| Box::new(answer::unfit(unfit)))?;
            record.note_host(parts);
        }
        look(record, door)
    }

    /// Set when `peer` is trusted.
    fn trusting(&self, peer: ClientAddress) -> Option<&TrustedProxies> {
        let trusted = self.trusted_proxies.as_ref();
        trusted.filter(|trusted| trusted.from.has_peer(peer.socket_address()))
    }
}

/// Whether the client of a request may come, by its address.
fn look(record: &mut Record, door: &Door) -> Result<(), Box<Response<Body>>> {
    door.look(record.asker.client.ip()).map_err(|why| {
        record.fault = Some(why.as_str());
        Box::new(why.response())
    })
}
