//! Whoever goes on with a connection once its 101 is written.

use std::rc::Rc;

use tidewire_auth::live::Live;
use tidewire_runtime::conn::Upgraded;

use crate::access_log::WebSocketRecord;
use crate::endpoint::Admission;
use crate::service::EdgeShard;
use crate::tunnel::{ServerSide, Tunnel, TunnelTask};

/// A WebSocket that has yet to begin.
pub(crate) enum Handover {
    Tunnel { server: ServerSide, live: Option<Live>, record: Box<WebSocketRecord> },
    Endpoint { admission: Box<dyn Admission>, record: Box<WebSocketRecord> },
}

impl Handover {
    /// Begins, in a task of its own.
    pub(crate) fn start(self, shard: &Rc<EdgeShard>, upgraded: Upgraded) {
        let shard = Rc::clone(shard);
        match self {
            Self::Tunnel { server, live, record } => {
                let tunnel = Tunnel::new(upgraded, server, live, shard, record);
                tokio::task::spawn_local(TunnelTask::new(tunnel));
            }
            Self::Endpoint { admission, record } => {
                shard.metrics.routes[record.route()].open.add(1);
                let ended = Box::new(move |end, passed| {
                    shard.metrics.routes[record.route()].open.sub(1);
                    shard.metrics.count_end(end);
                    record.log(&shard, None, end, None, passed);
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
