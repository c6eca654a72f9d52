//! What one worker counts about the edge: plain stores, summed when scraped.

use tidewire_runtime::metrics::Counter;

use crate::auth::denial::DenialKind;
use crate::end::{End, Party, Reason};
use crate::proxy_header::Outcome;
use crate::tls::failure::Failure;

/// The edge's counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct EdgeMetrics {
    /// By route, in the order of the configuration.
    pub routes: Vec<RouteMetrics>,
    pub tls: TlsMetrics,
    /// Headers of the PROXY protocol by what came of them: `proxy_headers[outcome]`.
    pub proxy_headers: [Counter; Outcome::ALL.len()],
    /// What trusted proxies have said of clients and could not be read.
    pub unreadable_addresses: Counter,
    /// Requests that no route took.
    pub unrouted: Counter,
    /// Ends of connections, by who and why: `ends[by][reason]`.
    ends: Vec<Counter>,
    /// By `[[auth]]`: what was found out, in the order of [`AUTH_RESULTS`].
    pub auths: Vec<[Counter; AUTH_RESULTS.len()]>,
    /// By `[[rule]]`: requests for which it has held.
    pub rules: Vec<Counter>,
}

/// What an `[[auth]]` can find out about a client, as metrics say it.
pub const AUTH_RESULTS: [&str; 6] =
    ["accepted", "missing", "invalid", "revoked", "forbidden", "unavailable"];
/// The TLS handshakes of one worker.
#[derive(Debug)]
pub struct TlsMetrics {
    pub full: Counter,
    /// With the keys of an earlier connection.
    pub resumed: Counter,
    pub failed: Counter,
    /// Of `failed`, by why: `failures[failure]`.
    pub failures: Vec<Counter>,
}

/// The counters of one route on one worker.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    /// Answers by class of status, 1xx to 5xx.
    pub responses: [Counter; 5],
    /// WebSockets open now.
    pub open: Counter,
    /// Messages that have passed, from clients and to clients.
    pub messages: [Counter; 2],
    /// Bytes of frames that have passed, from clients and to clients.
    pub bytes: [Counter; 2],
    /// How often a client, and a server, was not read from as it had sent faster than it may.
    pub waits: [Counter; 2],
    /// Of the edge, to clients and to servers.
    pub pings: [PingMetrics; 2],
}

/// The pings to one side.
#[derive(Debug, Default)]
pub struct PingMetrics {
    pub pings: Counter,
    /// Those that were answered, and how long that took, all together.
    pub pongs: Counter,
    pub microseconds: Counter,
    /// Peers that were given up, as nothing came of them.
    pub timeouts: Counter,
}

impl EdgeMetrics {
    pub fn new(routes: usize, auths: usize) -> Self {
        let counters = |count| (0..count).map(|_| Counter::default()).collect();
        Self {
            routes: (0..routes).map(|_| RouteMetrics::default()).collect(),
            tls: TlsMetrics {
                full: Counter::default(),
                resumed: Counter::default(),
                failed: Counter::default(),
                failures: counters(Failure::ALL.len()),
            },
            proxy_headers: Default::default(),
            unreadable_addresses: Counter::default(),
            unrouted: Counter::default(),
            ends: counters(Party::ALL.len() * Reason::ALL.len()),
            auths: (0..auths).map(|_| Default::default()).collect(),
            rules: Vec::new(),
        }
    }

    /// With counters for as many rules.
    pub fn with_rules(mut self, rules: usize) -> Self {
        self.rules.resize_with(rules, Counter::default);
        self
    }

    pub fn count_end(&self, end: End) {
        self.ends(end.by, end.reason).add(1);
    }

    /// Counts what an `[[auth]]` has found out; `None` is that it vouches for the client.
    pub fn count_auth(&self, auth: usize, denied: Option<DenialKind>) {
        self.auths[auth][denied.map_or(0, |kind| kind as usize + 1)].add(1);
    }

    pub fn ends(&self, by: Party, reason: Reason) -> &Counter {
        &self.ends[by as usize * Reason::ALL.len() + reason as usize]
    }
}

impl RouteMetrics {
    pub fn count_response(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.responses[class].add(1);
    }
}
