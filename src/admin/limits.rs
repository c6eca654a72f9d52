//! The metrics of what counts clients: whom it has refused, and whom it counts.

use std::fmt;
use std::sync::Arc;

use tidewire_edge::door::Door;

use super::exposition::{Labels, Out};
use crate::node::NodeView;

pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let refused = doors(nodes).flat_map(|(labels, door)| {
        let limits = door.turnstile.refusals().map(|(limit, count)| (limit.as_str(), count));
        limits
            .chain([("denied", door.denied())])
            .map(move |(limit, count)| (and(&labels, "limit", limit), count))
    });
    out.counter("edge_refused", "Clients that were not let in, by the limit", refused)?;
    let census = || {
        doors(nodes).flat_map(|(labels, door)| {
            let census = door.turnstile.census();
            census
                .map(move |(per, census, uncounted)| (and(&labels, "per", per), census, uncounted))
        })
    };
    let known = census().map(|(labels, census, _)| (labels, census.known as u64));
    out.gauge("edge_quota_known", "Addresses or identities that are remembered", known)?;
    let held = census().map(|(labels, census, _)| (labels, census.held));
    out.gauge("edge_quota_held", "Connections and handshakes that are counted now", held)?;
    let uncounted = census().map(|(labels, _, uncounted)| (labels, uncounted));
    out.counter("edge_quota_uncounted", "Arrivals for which there was no room to count", uncounted)
}

/// All doors: the node, whether it is of a listener or a route, and the name of that.
fn doors(nodes: &[Arc<NodeView>]) -> impl Iterator<Item = (Labels, &Door)> {
    nodes.iter().flat_map(|node| {
        let edge = &node.edge;
        let listeners = edge.listener_doors.iter().enumerate();
        let listeners =
            listeners.map(|(index, door)| ("listener", edge.listener_name(index), door));
        let routes = edge.route_doors.iter().enumerate();
        let routes = routes.map(|(index, door)| ("route", edge.route_name(Some(index)), door));
        listeners.chain(routes).map(|(at, name, door)| {
            (
                vec![("node", node.name.clone()), ("at", at.to_owned()), ("name", name.to_owned())],
                door,
            )
        })
    })
}

fn and(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}
