//! Probes every server that is to be probed, for as long as the node runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::machine::Machine;
use super::probe;
use crate::backend::Backend;
use crate::server::Server;

/// Starts the probes of all `backends` on the control plane.
pub fn spawn(backends: &[Arc<Backend>], control: &Handle) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for backend in backends {
        for server in backend.servers().iter().filter(|server| server.is_checked) {
            tasks.push(control.spawn(watch(Arc::clone(backend), Arc::clone(server))));
        }
    }
    tasks
}

async fn watch(backend: Arc<Backend>, server: Arc<Server>) {
    let mut machine = Machine::new(backend.check.rise, backend.check.fall);
    let interval = backend.check.interval.0.max(Duration::from_millis(10));
    // Spread over the interval, so that many servers are not probed in one burst.
    let start = Instant::now() + interval.mul_f64(fastrand::f64() / 4.0);
    let mut ticks = tokio::time::interval_at(start, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = probe(&backend.check, &server.address).await;
        if result.is_err() {
            server.counts.check_failures.fetch_add(1, Ordering::Relaxed);
        }
        if !machine.record(result.is_ok()) {
            continue;
        }
        backend.set_up(&server, machine.is_up());
        let (backend, server_name) = (&backend.name, &server.name);
        match result {
            Ok(()) => info!(backend, server = server_name, "server is up"),
            Err(error) => {
                server.counts.check_downs.fetch_add(1, Ordering::Relaxed);
                warn!(backend, server = server_name, %error, "server is down");
            }
        }
    }
}
