//! The metrics of where clients are: what proxies have said of them.

use std::fmt;
use std::sync::Arc;

use tidewire_edge::metrics::EdgeMetrics;
use tidewire_edge::proxy_header::Outcome;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let headers = Outcome::ALL.into_iter().flat_map(|outcome| {
        nodes.iter().filter_map(move |node| {
            let sum = sum(node, |it| it.proxy_headers[outcome as usize].value());
            let is_shown = sum > 0 || outcome == Outcome::Client;
            is_shown.then(|| (labels(node, &[("result", outcome.as_str())]), sum))
        })
    });
    out.counter(
        "edge_proxy_headers",
        "Headers of the PROXY protocol, by what came of them",
        headers,
    )?;
    let unreadable = nodes
        .iter()
        .map(|node| (labels(node, &[]), sum(node, |it| it.unreadable_addresses.value())));
    out.counter(
        "edge_client_addresses_unreadable",
        "Requests of trusted proxies whose word about the client could not be read",
        unreadable,
    )
}

/// Over the workers.
fn sum(node: &NodeView, read: impl Fn(&EdgeMetrics) -> u64) -> u64 {
    node.edge_metrics.iter().map(|it| read(it)).sum()
}

fn labels(node: &NodeView, more: &[(&'static str, &str)]) -> Labels {
    let node = [("node", node.name.clone())];
    node.into_iter().chain(more.iter().map(|(key, value)| (*key, (*value).to_owned()))).collect()
}
