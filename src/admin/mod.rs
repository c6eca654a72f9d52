//! What operators and their tools ask the process and tell it: `/healthz`, `/readyz`, `/metrics`,
//! `/revocations`, `/servers`. To add one: a file here and a line in [`start`]; what changes something, or tells
//! of users, asks the [`guard`] first.

mod addresses;
mod balance;
mod connections;
mod discovery;
mod exposition;
mod guard;
mod hub;
mod limits;
mod pings;
mod probes;
pub mod revocations;
mod rules;
mod server_tls;
pub mod servers;
mod sources;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tracing_appender::non_blocking::ErrorCounter;

use self::exposition::Exposition;
use self::guard::Guard;
use crate::config::admin::MetricsAccess;
use crate::node::NodeView;
use crate::plan::AdminPlan;

/// The admin listener, bound and not yet answering.
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    plan: AdminPlan,
}

/// Binds the admin listener, which may take rights that the process does not keep.
pub fn bind(plan: AdminPlan) -> anyhow::Result<Bound> {
    let bind = plan.bind;
    let listener = std::net::TcpListener::bind(bind)
        .with_context(|| format!("the admin listener cannot listen on {bind}"))?;
    listener.set_nonblocking(true).context("the admin listener cannot be used")?;
    let address = listener.local_addr().context("the admin listener has no address")?;
    Ok(Bound { listener, address, plan })
}

/// Has the admin listener answer for these nodes; returns its address.
pub fn start(
    bound: Bound,
    nodes: Vec<Arc<NodeView>>,
    log_dropped: ErrorCounter,
    control: &Handle,
) -> anyhow::Result<SocketAddr> {
    let Bound { listener, address, plan } = bound;
    let _runtime = control.enter();
    let listener = TcpListener::from_std(listener).context("the admin listener cannot be used")?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { nodes: nodes.clone(), log_dropped }));
    let metrics = plan.metrics;
    let guard = Guard { token: plan.token, address };
    let admin = Arc::new(Admin { nodes, registry, guard, metrics });
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(probes::readiness))
        .route("/metrics", get(probes::metrics))
        .route("/revocations", get(revocations::list).post(revocations::revoke))
        .route("/servers", get(servers::list).post(servers::set))
        .layer(DefaultBodyLimit::max(revocations::BODY_BYTES_MAX))
        .fallback(async || {
            let paths = "see /healthz, /readyz, /metrics, /revocations and /servers\n";
            (StatusCode::NOT_FOUND, paths)
        })
        .with_state(admin);
    control.spawn(connections::serve(listener, routes));
    Ok(address)
}

pub struct Admin {
    nodes: Vec<Arc<NodeView>>,
    registry: Registry,
    guard: Guard,
    metrics: MetricsAccess,
}
