//! The metrics of all nodes of the process, read from the workers' counters when scraped.
//!
//! To add one: a line in [`Exposition::encode`] beside its siblings, and one in docs/metrics.md.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidewire_edge::end::{Party, Reason};
use tidewire_edge::metrics::{AUTH_RESULTS, RouteMetrics};
use tidewire_edge::server::Server;
use tidewire_runtime::metrics::{Counter, WorkerMetrics};
use tracing_appender::non_blocking::ErrorCounter;

use super::{
    addresses, balance, discovery, limits, pings, revocations, rules, server_tls, servers, sources,
    tls,
};
use crate::acme::metrics::OrderResult;
use crate::node::NodeView;

pub struct Exposition {
    pub nodes: Vec<Arc<NodeView>>,
    /// Lines that the log has dropped.
    pub log_dropped: ErrorCounter,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut out = Out { encoder };
        self.runtime(&mut out)?;
        self.routes(&mut out)?;
        self.ends(&mut out)?;
        self.vouching(&mut out)?;
        rules::encode(&self.nodes, &mut out)?;
        limits::encode(&self.nodes, &mut out)?;
        pings::encode(&self.nodes, &mut out)?;
        addresses::encode(&self.nodes, &mut out)?;
        tls::encode(&self.nodes, &mut out)?;
        self.servers(&mut out)?;
        servers::encode(&self.nodes, &mut out)?;
        server_tls::encode(&self.nodes, &mut out)?;
        sources::encode(self, &mut out)?;
        discovery::encode(&self.nodes, &mut out)?;
        revocations::encode(&self.nodes, &mut out)?;
        self.orders(&mut out)?;
        self.keys(&mut out)?;
        self.hubs(&mut out)
    }
}

impl Exposition {
    fn runtime(&self, out: &mut Out<'_>) -> fmt::Result {
        let per_worker = |read: fn(&WorkerMetrics) -> u64| {
            let nodes = self.nodes.iter();
            nodes.flat_map(move |node| {
                node.worker_metrics.iter().enumerate().map(move |(index, metrics)| {
                    let labels = vec![("node", node.name.clone()), ("worker", index.to_string())];
                    (labels, read(metrics))
                })
            })
        };
        out.counter(
            "runtime_accepted",
            "Connections accepted",
            per_worker(|it| it.accepted.value()),
        )?;
        out.counter(
            "runtime_handed_on",
            "Fresh connections handed on to a less loaded worker",
            per_worker(|it| it.handed_on.value()),
        )?;
        out.counter(
            "runtime_accept_pauses",
            "Times that accepting paused for want of open files",
            per_worker(|it| it.accept_pauses.value()),
        )?;
        out.gauge(
            "runtime_connections",
            "Client connections open now",
            per_worker(|it| it.connections.value()),
        )?;
        let dropped = self.log_dropped.dropped_lines() as u64;
        out.counter(
            "runtime_log_lines_dropped",
            "Lines of the log that were dropped, as what reads it was slower",
            [(Labels::new(), dropped)].into_iter(),
        )
    }

    fn routes(&self, out: &mut Out<'_>) -> fmt::Result {
        const DIRECTIONS: [&str; 2] = ["from_client", "to_client"];
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate();
        let responses = classes.flat_map(|(index, class)| {
            self.per_route(("class", class), move |it| it.responses[index].value())
        });
        out.counter(
            "edge_responses",
            "Answers by class of status; a 101 opens a WebSocket",
            responses,
        )?;
        let unrouted = self.nodes.iter().map(|node| {
            let sum = node.edge_metrics.iter().map(|it| it.unrouted.value()).sum();
            (vec![("node", node.name.clone())], sum)
        });
        out.counter("edge_unrouted", "Requests that no route took", unrouted)?;
        let open = self.per_route(("", ""), |it| it.open.value());
        out.gauge("edge_websockets", "WebSockets open now", open)?;
        let messages = DIRECTIONS.into_iter().enumerate().flat_map(|(index, direction)| {
            self.per_route(("direction", direction), move |it| it.messages[index].value())
        });
        out.counter("edge_tunnel_messages", "Messages through tunnels", messages)?;
        let bytes = DIRECTIONS.into_iter().enumerate().flat_map(|(index, direction)| {
            self.per_route(("direction", direction), move |it| it.bytes[index].value())
        });
        out.counter("edge_tunnel_bytes", "Bytes of frames through tunnels", bytes)?;
        let waits = DIRECTIONS.into_iter().enumerate().flat_map(|(index, direction)| {
            self.per_route(("direction", direction), move |it| it.waits[index].value())
        });
        out.counter("edge_tunnel_waits", "Times that a rate made a sender wait", waits)
    }

    /// A value of every route, summed over the workers.
    fn per_route<'a>(
        &'a self,
        label: (&'static str, &'static str),
        read: impl Fn(&RouteMetrics) -> u64 + Copy + 'a,
    ) -> impl Iterator<Item = (Labels, u64)> + 'a {
        self.nodes.iter().flat_map(move |node| {
            node.edge.routes.iter().enumerate().map(move |(index, route)| {
                let sum = node.edge_metrics.iter().map(|it| read(&it.routes[index])).sum();
                let mut labels = vec![("node", node.name.clone()), ("route", route.name.clone())];
                if !label.0.is_empty() {
                    labels.push((label.0, label.1.to_owned()));
                }
                (labels, sum)
            })
        })
    }

    fn ends(&self, out: &mut Out<'_>) -> fmt::Result {
        let all = Party::ALL
            .into_iter()
            .flat_map(|by| Reason::ALL.iter().map(move |&reason| (by, reason)));
        let ends = all.flat_map(|(by, reason)| {
            self.nodes.iter().filter_map(move |node| {
                let sum: u64 = node.edge_metrics.iter().map(|it| it.ends(by, reason).value()).sum();
                let labels = vec![
                    ("node", node.name.clone()),
                    ("by", by.as_str().to_owned()),
                    ("reason", reason.as_str().to_owned()),
                ];
                (sum > 0).then_some((labels, sum))
            })
        });
        out.counter("edge_ends", "Ends of client connections, by who ended them and why", ends)
    }

    fn vouching(&self, out: &mut Out<'_>) -> fmt::Result {
        let results = self.nodes.iter().flat_map(|node| {
            let authorities = node.edge.authorities.iter().enumerate();
            authorities.flat_map(move |(index, authority)| {
                AUTH_RESULTS.into_iter().enumerate().map(move |(result, word)| {
                    let counters = node.edge_metrics.iter().map(|it| &it.auths[index][result]);
                    let labels = vec![
                        ("node", node.name.clone()),
                        ("auth", authority.name.clone()),
                        ("result", word.to_owned()),
                    ];
                    (labels, counters.map(Counter::value).sum())
                })
            })
        });
        out.counter("edge_auth", "What was found out about clients, by who found it out", results)
    }

    fn servers(&self, out: &mut Out<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.gauge(
            "edge_server_up",
            "Whether the server is up",
            self.per_server(|it| it.is_up().into()),
        )?;
        out.gauge(
            "edge_server_connections",
            "Requests and tunnels that the server carries now",
            self.per_server(Server::current),
        )?;
        out.counter(
            "edge_server_leases",
            "Requests and tunnels given to the server",
            self.per_server(|it| load(&it.counts.leases)),
        )?;
        balance::encode(self, out)?;
        out.counter(
            "edge_server_connect_errors",
            "Connections to the server that could not be established",
            self.per_server(|it| load(&it.counts.connect_errors)),
        )?;
        out.counter(
            "edge_server_response_errors",
            "Answers of the server that were none, or not HTTP, or no valid 101",
            self.per_server(|it| load(&it.counts.response_errors)),
        )?;
        out.counter(
            "edge_server_check_failures",
            "Health checks of the server that failed",
            self.per_server(|it| load(&it.counts.check_failures)),
        )?;
        out.counter(
            "edge_server_downs",
            "Times the server went from up to down",
            self.per_server(|it| load(&it.counts.check_downs)),
        )?;
        Ok(())
    }

    pub(super) fn per_server<'a>(
        &'a self,
        read: impl Fn(&Server) -> u64 + Copy + 'a,
    ) -> impl Iterator<Item = (Labels, u64)> + 'a {
        self.nodes.iter().flat_map(move |node| {
            node.edge.backends.iter().flat_map(move |backend| {
                let servers = backend.servers();
                let values = servers.iter().map(|server| {
                    let labels = vec![
                        ("node", node.name.clone()),
                        ("backend", backend.name.clone()),
                        ("server", server.name.clone()),
                    ];
                    (labels, read(server))
                });
                values.collect::<Vec<_>>()
            })
        })
    }

    fn orders(&self, out: &mut Out<'_>) -> fmt::Result {
        let orders = OrderResult::ALL.into_iter().flat_map(|result| {
            self.nodes.iter().map(move |node| {
                let labels =
                    vec![("node", node.name.clone()), ("result", result.as_str().to_owned())];
                (labels, node.acme_metrics.value(result))
            })
        });
        out.counter("acme_orders", "Certificates ordered, by what came of it", orders)
    }

    /// Left out where nobody has to say who they are.
    fn keys(&self, out: &mut Out<'_>) -> fmt::Result {
        let reports = || {
            self.nodes.iter().flat_map(|node| {
                let reports = node.methods.iter().filter_map(|method| method.report());
                reports.map(|report| {
                    let labels =
                        vec![("node", node.name.clone()), ("auth", report.auth.to_string())];
                    (labels, report)
                })
            })
        };
        if reports().next().is_none() {
            return Ok(());
        }
        let keys = reports().map(|(labels, report)| (labels, report.keys as u64));
        out.gauge("auth_keys", "Keys or users that clients are checked with", keys)?;
        let fetched = || reports().filter_map(|(labels, it)| Some((labels, it.fetches?)));
        let ages = fetched().filter_map(|(labels, it)| Some((labels, it.age?.as_secs())));
        out.gauge("auth_jwks_age_seconds", "Time since the key set was fetched", ages)?;
        let fetches = fetched().flat_map(|(labels, it)| {
            [("ok", it.ok), ("failed", it.failed)].map(|(result, count)| {
                let mut labels = labels.clone();
                labels.push(("result", result.to_owned()));
                (labels, count)
            })
        });
        out.counter("auth_jwks_fetches", "Fetches of key sets, by what they came to", fetches)
    }
}

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) struct Out<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Out<'_> {
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            match labels.is_empty() {
                true => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                false => metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
