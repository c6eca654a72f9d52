//! The metrics of the edge's own pings, for the routes that have them.

use std::fmt;
use std::sync::Arc;

use tidewire_edge::end::Party;
use tidewire_edge::metrics::PingMetrics;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let pings = per_peer(nodes, |it| it.pings.value());
    out.counter("edge_pings", "Pings of the edge, to one side of a WebSocket", pings)?;
    let pongs = per_peer(nodes, |it| it.pongs.value());
    out.counter("edge_pongs", "Answers to pings of the edge", pongs)?;
    let times = per_peer(nodes, |it| it.microseconds.value());
    out.counter("edge_ping_rtt_microseconds", "Time that the answers took together", times)?;
    let timeouts = per_peer(nodes, |it| it.timeouts.value());
    out.counter("edge_ping_timeouts", "Peers given up, as they did not answer a ping", timeouts)
}

/// A value of every side that a route pings, summed over the workers.
fn per_peer(
    nodes: &[Arc<NodeView>],
    read: impl Fn(&PingMetrics) -> u64 + Copy,
) -> impl Iterator<Item = (Labels, u64)> {
    nodes.iter().flat_map(move |node| {
        let peers = node.edge.routes.iter().enumerate().flat_map(|(index, route)| {
            let peers = [Party::Client, Party::Server].into_iter().enumerate();
            let pinged = peers.filter(|&(_, party)| route.pings.are_for(party));
            pinged.map(move |(side, party)| (index, route, side, party))
        });
        peers.map(move |(index, route, side, party)| {
            let metrics = node.edge_metrics.iter();
            let sum = metrics.map(|it| read(&it.routes[index].pings[side])).sum();
            let labels = vec![
                ("node", node.name.clone()),
                ("route", route.name.clone()),
                ("peer", party.as_str().to_owned()),
            ];
            (labels, sum)
        })
    })
}
