//! The metrics of rules.

use std::fmt;
use std::sync::Arc;

use tidewire_runtime::metrics::Counter;

use super::exposition::Out;
use crate::node::NodeView;

/// How often each rule has held.
pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let hits = nodes.iter().flat_map(|node| {
        node.edge.rules.0.iter().enumerate().map(|(index, rule)| {
            let counters = node.edge_metrics.iter().filter_map(move |it| it.rules.get(index));
            let labels = vec![
                ("node", node.name.clone()),
                ("rule", rule.name.clone()),
                ("action", rule.action().to_owned()),
            ];
            (labels, counters.map(Counter::value).sum())
        })
    });
    out.counter("edge_rule_hits", "Requests for which a rule has held", hits)
}
