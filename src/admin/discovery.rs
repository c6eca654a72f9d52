//! The metrics of servers that are found.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

/// Left out where no servers are looked for.
pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let views = || {
        nodes.iter().flat_map(|node| {
            node.discoveries.iter().map(|(backend, view)| {
                let backend = node.edge.backends[*backend].name.clone();
                let labels: Labels = vec![("node", node.name.clone()), ("backend", backend)];
                (labels, view)
            })
        })
    };
    if views().next().is_none() {
        return Ok(());
    }
    let lookups = views().flat_map(|(labels, view)| {
        let counts = [("found", &view.found), ("nothing", &view.nothing), ("failed", &view.failed)];
        counts.map(|(result, count)| {
            let mut labels = labels.clone();
            labels.push(("result", result.to_owned()));
            (labels, count.load(Ordering::Relaxed))
        })
    });
    out.counter("edge_discovery_lookups", "Lookups of servers, by what they came to", lookups)
}
