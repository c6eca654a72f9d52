//! `/servers`: which servers take clients and why, and the way for an operator to say so.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidewire_edge::backend::Backend;
use tidewire_edge::end::Reason;
use tidewire_edge::server::Server;
use tidewire_edge::server_state::{Operator, State as ServerState};
use tidewire_edge::weight::WEIGHT_MAX;
use tracing::info;

use super::Admin;
use super::exposition::{Labels, Out};
use super::revocations::{fault, json, refuse};
use crate::node::NodeView;

/// What is asked for: of which server, and its new state or weight or both.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The node, where the process has several; all of them when it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub backend: String,
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Operator>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

/// The servers that a node has, or that were changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct List {
    pub servers: Vec<Row>,
}

/// A server as it is now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub node: String,
    pub backend: String,
    pub server: String,
    pub address: String,
    /// What it comes to: a word of the metric `edge_server_state`.
    pub state: String,
    /// Why it is not up.
    pub why: String,
    /// What the operator wants of it.
    pub operator: Operator,
    pub weight: u32,
    /// Requests and tunnels that it carries.
    pub connections: u64,
}

pub async fn list(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.guard.check(&Method::GET, &headers) {
        return refuse(refused);
    }
    let servers = all(&admin.nodes).map(|(node, backend, server)| row(node, backend, &server));
    json(StatusCode::OK, &List { servers: servers.collect() })
}

pub async fn set(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = admin.guard.check(&Method::POST, &headers) {
        return refuse(refused);
    }
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(wrong) => return fault(StatusCode::BAD_REQUEST, &wrong.to_string()),
    };
    if request.state.is_none() && request.weight.is_none() {
        return fault(StatusCode::BAD_REQUEST, "expected `state` or `weight`");
    }
    if request.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
        return fault(StatusCode::BAD_REQUEST, "`weight` is expected to be 0 to 256");
    }
    let meant = all(&admin.nodes).filter(|(node, backend, server)| {
        request.node.as_ref().is_none_or(|name| *name == node.name)
            && backend.name == request.backend
            && server.name == request.server
    });
    let meant: Vec<_> = meant.collect();
    if meant.is_empty() {
        let wrong = format!("there is no server {}/{}", request.backend, request.server);
        return fault(StatusCode::NOT_FOUND, &wrong);
    }
    for (node, backend, server) in &meant {
        carry_out(&request, node, backend, server);
    }
    let rows = meant.iter().map(|(node, backend, server)| row(node, backend, server));
    json(StatusCode::OK, &List { servers: rows.collect() })
}

fn carry_out(request: &Request, node: &NodeView, backend: &Arc<Backend>, server: &Server) {
    if let Some(state) = request.state {
        info!(node = node.name, backend = backend.name, server = server.name, %state,
              "the operator has set a state");
        backend.set_operator(server, state);
    }
    if let Some(weight) = request.weight {
        info!(
            node = node.name,
            backend = backend.name,
            server = server.name,
            weight,
            "the operator has set a weight"
        );
        backend.set_weight(server, weight);
    }
}

/// What is counted of them beside their clients.
pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let states = ServerState::ALL.into_iter().flat_map(|state| {
        all(nodes).map(move |(node, backend, server)| {
            let mut labels = labels(node, backend, &server);
            labels.push(("state", state.as_str().to_owned()));
            (labels, u64::from(server.status.state() == state))
        })
    });
    out.gauge("edge_server_state", "1 for the state that the server is in, else 0", states)?;
    let count = |read: fn(&Server) -> &AtomicU64| {
        all(nodes).map(move |(node, backend, server)| {
            (labels(node, backend, &server), read(&server).load(Ordering::Relaxed))
        })
    };
    out.counter(
        "edge_server_checks",
        "Health checks that are over",
        count(|it| &it.counts.checks),
    )?;
    out.counter(
        "edge_server_ejections",
        "Times that the server was ejected",
        count(|it| &it.counts.ejections),
    )?;
    out.counter(
        "edge_server_check_microseconds",
        "The time that health checks have taken together",
        count(|it| &it.counts.check_microseconds),
    )?;
    moved(nodes, out)
}

fn moved(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let moved = nodes.iter().flat_map(|node| {
        node.edge.backends.iter().flat_map(move |backend| {
            let counts = &backend.moving.counts;
            let counts =
                [(Reason::Rebalance, &counts.rebalance), (Reason::ServerDown, &counts.server_down)];
            counts.map(|(reason, count)| {
                let labels = vec![
                    ("node", node.name.clone()),
                    ("backend", backend.name.clone()),
                    ("reason", reason.as_str().to_owned()),
                ];
                (labels, count.load(Ordering::Relaxed))
            })
        })
    });
    out.counter("edge_backend_moved", "Clients that were told to come again, by why", moved)
}

fn all(
    nodes: &[Arc<NodeView>],
) -> impl Iterator<Item = (&Arc<NodeView>, &Arc<Backend>, Arc<Server>)> {
    nodes.iter().flat_map(|node| {
        node.edge.backends.iter().flat_map(move |backend| {
            let servers: Vec<_> = backend.servers().iter().map(Arc::clone).collect();
            servers.into_iter().map(move |server| (node, backend, server))
        })
    })
}

fn row(node: &NodeView, backend: &Backend, server: &Server) -> Row {
    let facts = server.status.facts();
    Row {
        node: node.name.clone(),
        backend: backend.name.clone(),
        server: server.name.clone(),
        address: server.address.to_string(),
        state: facts.state().to_string(),
        why: facts.why().to_owned(),
        operator: facts.operator,
        weight: server.weight.full(),
        connections: server.current(),
    }
}

fn labels(node: &NodeView, backend: &Backend, server: &Server) -> Labels {
    vec![
        ("node", node.name.clone()),
        ("backend", backend.name.clone()),
        ("server", server.name.clone()),
    ]
}
