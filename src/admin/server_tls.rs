//! The metrics of TLS towards servers. Backends without it have none.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewire_edge::server::Server;
use tidewire_edge::server_tls::failure::Failure;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    if !nodes.iter().flat_map(|node| &node.edge.backends).any(|backend| backend.tls.is_some()) {
        return Ok(());
    }
    let handshakes = per_server(nodes, |server| {
        let counts = &server.counts.tls;
        let failed = Failure::ALL.iter().map(|&failure| counts.failures(failure)).sum();
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let results =
            [("full", load(&counts.full)), ("resumed", load(&counts.resumed)), ("failed", failed)];
        results.map(|(result, count)| (("result", result), count)).into()
    });
    out.counter(
        "edge_server_tls_handshakes",
        "TLS handshakes with the server, by how they went",
        handshakes,
    )?;
    let failures = per_server(nodes, |server| {
        let all = Failure::ALL
            .iter()
            .map(|&failure| (("reason", failure.as_str()), server.counts.tls.failures(failure)));
        all.filter(|(_, count)| *count > 0).collect()
    });
    out.counter(
        "edge_server_tls_failures",
        "Times that TLS with the server came to nothing, by why",
        failures,
    )
}

type Values = Vec<((&'static str, &'static str), u64)>;

/// Values of each server to which TLS is spoken.
fn per_server<'a>(
    nodes: &'a [Arc<NodeView>],
    read: impl Fn(&Server) -> Values + Copy + 'a,
) -> impl Iterator<Item = (Labels, u64)> + 'a {
    nodes.iter().flat_map(move |node| {
        let secured = node.edge.backends.iter().filter(|backend| backend.tls.is_some());
        secured.flat_map(move |backend| {
            let servers = backend.servers();
            let of = |server: &Arc<Server>| {
                let labels = vec![
                    ("node", node.name.clone()),
                    ("backend", backend.name.clone()),
                    ("server", server.name.clone()),
                ];
                let more = |((name, value), count): ((&'static str, &'static str), u64)| {
                    let mut labels = labels.clone();
                    labels.push((name, value.to_owned()));
                    (labels, count)
                };
                read(server).into_iter().map(more).collect::<Vec<_>>()
            };
            servers.iter().flat_map(of).collect::<Vec<_>>()
        })
    })
}
