//! What operators and their tools ask the process: `/healthz`, `/readyz`, `/metrics`.

mod exposition;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use self::exposition::Exposition;
use crate::node::NodeView;

/// Starts the admin listener for these nodes; returns its address.
pub fn start(
    bind: SocketAddr,
    nodes: Vec<Arc<NodeView>>,
    control: &Handle,
) -> anyhow::Result<SocketAddr> {
    let listener = control
        .block_on(TcpListener::bind(bind))
        .with_context(|| format!("the admin listener cannot listen on {bind}"))?;
    let address = listener.local_addr().context("the admin listener has no address")?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { nodes: nodes.clone() }));
    let admin = Arc::new(Admin { nodes, registry });
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "see /healthz, /readyz and /metrics\n"))
        .with_state(admin);
    control.spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the admin listener ended");
        }
    });
    Ok(address)
}

struct Admin {
    nodes: Vec<Arc<NodeView>>,
    registry: Registry,
}

/// 200 when clients should be sent here, 503 and why otherwise.
async fn readiness(State(admin): State<Arc<Admin>>) -> Response {
    let reasons: Vec<_> = admin.nodes.iter().flat_map(|node| node.not_ready()).collect();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n")))
        .into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &admin.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
