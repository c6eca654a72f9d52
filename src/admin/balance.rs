//! Metrics of how clients get their servers: the queue, the limits, and what they stick to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewire_edge::backend::Backend;

use super::exposition::{Exposition, Labels, Out};

pub fn encode(exposition: &Exposition, out: &mut Out<'_>) -> fmt::Result {
    out.gauge(
        "edge_server_tunnels",
        "WebSockets that the server carries now",
        exposition.per_server(|it| load(&it.tunnels)),
    )?;
    out.gauge(
        "edge_server_weight",
        "Share of the server in new clients, as it is configured or was set",
        exposition.per_server(|it| it.weight.full().into()),
    )?;
    out.counter(
        "edge_server_stuck",
        "Clients given to the server since they stick to it",
        exposition.per_server(|it| load(&it.counts.stuck)),
    )?;
    out.gauge(
        "edge_backend_queue",
        "Clients that wait for a server with room",
        per_backend(exposition, |it| it.queued().into()),
    )?;
    out.counter(
        "edge_backend_waits",
        "Clients that had to wait for a server with room",
        per_backend(exposition, |it| load(&it.counts.waits)),
    )?;
    out.counter(
        "edge_backend_redispatches",
        "Clients that went on to another server, as theirs could not be connected to",
        per_backend(exposition, |it| load(&it.counts.redispatches)),
    )?;
    out.counter(
        "edge_backend_unstuck",
        "Clients that could not get the server that they stick to",
        per_backend(exposition, |it| load(&it.counts.unstuck)),
    )?;
    let sessions = |it: &Backend| it.stick.sessions.as_ref().map_or(0, |it| it.len() as u64);
    out.gauge(
        "edge_backend_sessions",
        "Sessions whose server is remembered",
        per_backend(exposition, sessions),
    )
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn per_backend<'a>(
    exposition: &'a Exposition,
    read: impl Fn(&Backend) -> u64 + Copy + 'a,
) -> impl Iterator<Item = (Labels, u64)> + 'a {
    exposition.nodes.iter().flat_map(move |node| {
        node.edge.backends.iter().map(move |backend| {
            let labels = vec![("node", node.name.clone()), ("backend", backend.name.clone())];
            (labels, read(backend))
        })
    })
}
