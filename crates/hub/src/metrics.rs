//! What the hub counts.

use std::sync::atomic::AtomicU64;

use tidewire_runtime::metrics::Counter;

/// What one worker's shard counts. Aligned so that no two workers share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct HubMetrics {
    /// Clients admitted and not yet gone.
    pub clients: Counter,
    /// Topics that have a client on this worker.
    pub topics: Counter,
    /// Messages that clients sent.
    pub messages_in: Counter,
    /// Messages handed to clients: one for each message and client.
    pub messages_out: Counter,
    /// Bytes read from clients, frames and all.
    pub bytes_in: Counter,
    /// Bytes that the kernel took for clients.
    pub bytes_out: Counter,
    /// Writes to clients; with `messages_out` it tells how well messages share them.
    pub writes: Counter,
    /// Clients closed because their queue was full.
    pub slow_closes: Counter,
    /// How often a client was not read from, as it had sent faster than it may.
    pub rate_pauses: Counter,
    /// Clients that were admitted before the broker had confirmed their subscription.
    pub degraded_admissions: Counter,
    /// Messages of clients that were refused, as the queue towards the broker was full.
    pub publish_refused: Counter,
    /// Messages of clients that did not, or may not have, come further than this node.
    pub publish_undelivered: Counter,
    /// Topics that clients asked for and may not subscribe to, messages that they may not publish.
    pub denied: [Counter; 2],
    /// Newer tokens that were taken, and that were not.
    pub renewals: [Counter; 2],
    /// Panics that ended one client or one turn of deliveries, and nothing else.
    pub panics: Counter,
}

/// What [`HubMetrics::denied`] counts, by index.
pub const DENIED: [&str; 2] = ["subscribe", "publish"];

/// What [`HubMetrics::renewals`] counts, by index.
pub const RENEWALS: [&str; 2] = ["renewed", "refused"];

/// What a node's link counts. Several threads add to these, but rarely.
#[derive(Debug, Default)]
pub struct LinkMetrics {
    /// Publications that a worker's clients missed, as the worker's queue was full.
    pub dropped: AtomicU64,
}

/// What a node's connection to its broker counts. Zero for the memory broker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BrokerMetrics {
    /// Connections made.
    pub connects: Counter,
    /// Publications that the broker has taken.
    pub published: Counter,
    /// Publications under way when the connection broke: other nodes may have them or not.
    pub unknown: Counter,
    /// Publications delivered within the node only, as the broker was away.
    pub node_only: Counter,
    /// Publications that came from the broker.
    pub received: Counter,
    /// What came from the broker and was not a publication of Tidewire.
    pub foreign: Counter,
    /// Publications that came after later ones of their node, or again.
    pub late: Counter,
}
