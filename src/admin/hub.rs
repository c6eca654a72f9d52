//! The metrics of hubs: their clients, what passes through them, their brokers.

use std::fmt;
use std::sync::atomic::Ordering;

use tidewire_hub::hub::Hub;
use tidewire_hub::metrics::{DENIED, HubMetrics, RENEWALS};

use super::exposition::{Exposition, Labels, Out};

impl Exposition {
    pub(super) fn hubs(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("hub_clients", "Clients of the hub", self.per_shard(|it| it.clients.value()))?;
        out.gauge(
            "hub_topics",
            "Topics that have clients, by worker",
            self.per_shard(|it| it.topics.value()),
        )?;
        out.counter(
            "hub_messages_in",
            "Messages that clients sent",
            self.per_shard(|it| it.messages_in.value()),
        )?;
        out.counter(
            "hub_messages_out",
            "Messages handed to clients, one for each message and client",
            self.per_shard(|it| it.messages_out.value()),
        )?;
        out.counter(
            "hub_bytes_in",
            "Bytes read from clients",
            self.per_shard(|it| it.bytes_in.value()),
        )?;
        out.counter(
            "hub_bytes_out",
            "Bytes written to clients",
            self.per_shard(|it| it.bytes_out.value()),
        )?;
        out.counter("hub_writes", "Writes to clients", self.per_shard(|it| it.writes.value()))?;
        out.counter(
            "hub_slow_closes",
            "Clients closed because their queue was full",
            self.per_shard(|it| it.slow_closes.value()),
        )?;
        out.counter(
            "hub_rate_pauses",
            "Clients not read from for a moment, as they had sent faster than they may",
            self.per_shard(|it| it.rate_pauses.value()),
        )?;
        out.counter(
            "hub_degraded_admissions",
            "Clients admitted before the broker had confirmed their topic",
            self.per_shard(|it| it.degraded_admissions.value()),
        )?;
        out.counter(
            "hub_publish_refused",
            "Messages refused because the queue towards the broker was full",
            self.per_shard(|it| it.publish_refused.value()),
        )?;
        out.counter(
            "hub_publish_undelivered",
            "Messages that did not, or may not have, come further than their node",
            self.per_shard(|it| it.publish_undelivered.value()),
        )?;
        let denied = DENIED.into_iter().enumerate().flat_map(|(index, action)| {
            self.per_shard(move |it| it.denied[index].value()).map(move |(mut labels, value)| {
                labels.push(("action", action.to_owned()));
                (labels, value)
            })
        });
        out.counter(
            "hub_denied",
            "Topics that clients may not subscribe to, messages that they may not publish",
            denied,
        )?;
        let renewals = RENEWALS.into_iter().enumerate().flat_map(|(index, result)| {
            self.per_shard(move |it| it.renewals[index].value()).map(move |(mut labels, value)| {
                labels.push(("result", result.to_owned()));
                (labels, value)
            })
        });
        out.counter("hub_renewals", "Newer tokens that clients sent", renewals)?;
        out.counter(
            "hub_panics",
            "Faults of ours that ended one client",
            self.per_shard(|it| it.panics.value()),
        )?;
        self.brokers(out)
    }

    fn brokers(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge(
            "hub_broker_connected",
            "Whether the broker is there",
            self.per_hub(|hub| hub.state().broker.is_connected().into()),
        )?;
        out.counter(
            "hub_broker_connects",
            "Connections made to the broker",
            self.per_hub(|hub| hub.broker_metrics().connects.value()),
        )?;
        out.counter(
            "hub_broker_published",
            "Publications that the broker has taken",
            self.per_hub(|hub| hub.broker_metrics().published.value()),
        )?;
        out.counter(
            "hub_broker_received",
            "Publications that came from the broker",
            self.per_hub(|hub| hub.broker_metrics().received.value()),
        )?;
        out.counter(
            "hub_broker_unknown",
            "Publications under way when the connection broke",
            self.per_hub(|hub| hub.broker_metrics().unknown.value()),
        )?;
        out.counter(
            "hub_broker_node_only",
            "Publications delivered within the node only, as the broker was away",
            self.per_hub(|hub| hub.broker_metrics().node_only.value()),
        )?;
        out.counter(
            "hub_broker_foreign",
            "What came from the broker and was not a publication of Tidewire",
            self.per_hub(|hub| hub.broker_metrics().foreign.value()),
        )?;
        out.counter(
            "hub_broker_late",
            "Publications that came after later ones of their node, or again, and were dropped",
            self.per_hub(|hub| hub.broker_metrics().late.value()),
        )?;
        out.counter(
            "hub_dropped",
            "Publications that a worker's clients missed, as the worker's queue was full",
            self.per_hub(|hub| hub.link_metrics().dropped.load(Ordering::Relaxed)),
        )
    }

    fn per_hub<'a>(
        &'a self,
        read: impl Fn(&Hub) -> u64 + 'a,
    ) -> impl Iterator<Item = (Labels, u64)> + 'a {
        self.nodes.iter().filter_map(move |node| {
            Some((vec![("node", node.name.clone())], read(node.hub.as_deref()?)))
        })
    }

    /// A value of every hub, summed over its shards.
    fn per_shard<'a>(
        &'a self,
        read: impl Fn(&HubMetrics) -> u64 + Copy + 'a,
    ) -> impl Iterator<Item = (Labels, u64)> + 'a {
        self.per_hub(move |hub| hub.metrics().iter().map(|shard| read(shard)).sum())
    }
}
