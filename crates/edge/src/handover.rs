//! Whoever goes on with a connection once its 101 is written.

use std::rc::Rc;

use bytes::Bytes;
use tidewire_auth::live::Live;
use tidewire_runtime::conn::Upgraded;
use tidewire_runtime::socket::Socket;

use crate::access_log::WebSocketRecord;
use crate::backend::Lease;
use crate::endpoint::Admission;
use crate::service::EdgeShard;
use crate::tunnel::Tunnel;

/// A WebSocket that has yet to begin.
pub(crate) enum Handover {
    Tunnel {
        socket: Socket,
        leftover: Bytes,
        lease: Lease,
        live: Option<Live>,
        record: Box<WebSocketRecord>,
    },
    Endpoint {
        admission: Box<dyn Admission>,
        record: Box<WebSocketRecord>,
    },
}

impl Handover {
    /// Begins, in a task of its own.
    pub(crate) fn start(self, shard: &Rc<EdgeShard>, upgraded: Upgraded) {
        let shard = Rc::clone(shard);
        match self {
            Self::Tunnel { socket, leftover, lease, live, record } => {
                let tunnel = Tunnel::new(upgraded, socket, leftover, lease, live, shard, record);
                tokio::task::spawn_local(tunnel);
            }
            Self::Endpoint { admission, record } => {
                shard.metrics.routes[record.route()].open.add(1);
                let ended = Box::new(move |end, passed| {
                    shard.metrics.routes[record.route()].open.sub(1);
                    shard.metrics.count_end(end);
                    record.log(&shard, None, end, passed);
                });
                admission.start(upgraded, ended);
            }
        }
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tunnel { .. } => "Tunnel",
            Self::Endpoint { .. } => "Endpoint",
        })
    }
}
