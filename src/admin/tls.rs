//! The metrics of TLS: handshakes, certificates, files that were read again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewire_edge::metrics::TlsMetrics;
use tidewire_edge::tls::Tls;
use tidewire_edge::tls::failure::Failure;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    handshakes(nodes, out)?;
    let failures = Failure::ALL.iter().flat_map(|&failure| {
        nodes.iter().filter_map(move |node| {
            let sum = sum(node, |it| it.failures[failure as usize].value());
            (sum > 0).then(|| (labels(node, &[("reason", failure.as_str())]), sum))
        })
    });
    out.counter("edge_tls_handshake_failures", "TLS handshakes that failed, by why", failures)?;
    let expiries = listeners(nodes).flat_map(|(node, tls)| {
        tls.expiries().into_iter().map(move |(file, expires)| {
            let labels = labels(node, &[("listener", &tls.name), ("certificate", file)]);
            (labels, u64::try_from(expires.0).unwrap_or(0))
        })
    });
    out.gauge(
        "edge_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that is served expires, in seconds since 1970",
        expiries,
    )?;
    let reloads = listeners(nodes).flat_map(|(node, tls)| {
        let results = [("ok", &tls.counts.reloads), ("failed", &tls.counts.failed_reloads)];
        results.map(|(result, count)| {
            let labels = labels(node, &[("listener", &tls.name), ("result", result)]);
            (labels, count.load(Ordering::Relaxed))
        })
    });
    out.counter("edge_tls_reloads", "Times that the files of TLS were read again", reloads)
}

fn handshakes(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    type Read = fn(&TlsMetrics) -> u64;
    let results: [(&str, Read); 3] = [
        ("full", |it| it.full.value()),
        ("resumed", |it| it.resumed.value()),
        ("failed", |it| it.failed.value()),
    ];
    let with_tls = || nodes.iter().filter(|node| node.edge.tls.iter().any(Option::is_some));
    let counts = results.into_iter().flat_map(|(result, read)| {
        with_tls().map(move |node| (labels(node, &[("result", result)]), sum(node, read)))
    });
    out.counter("edge_tls_handshakes", "TLS handshakes with clients, by how they went", counts)
}

fn listeners(nodes: &[Arc<NodeView>]) -> impl Iterator<Item = (&NodeView, &Tls)> {
    nodes
        .iter()
        .flat_map(|node| node.edge.tls.iter().flatten().map(|tls| (node.as_ref(), tls.as_ref())))
}

/// Over the workers.
fn sum(node: &NodeView, read: impl Fn(&TlsMetrics) -> u64) -> u64 {
    node.edge_metrics.iter().map(|it| read(&it.tls)).sum()
}

fn labels(node: &NodeView, more: &[(&'static str, &str)]) -> Labels {
    let node = [("node", node.name.clone())];
    node.into_iter().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
}
