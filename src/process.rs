//! What a process needs before and around its nodes: threads for what is rare, open files, an end.

use anyhow::Context;
use tidewire_runtime::limit::raise_open_files;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::node::Node;
use crate::service_manager;
use crate::signals::Signals;

/// The runtime of the control plane: brokers, probes, the admin listener.
pub fn control() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control plane")
}

/// Raises the limit on open files, and warns when fewer WebSockets than `wanted` fit under it, of
/// which each takes `files_each`: one for its client, one for its server if it has one.
pub fn open_files(wanted: u64, files_each: u64) {
    let limit = match raise_open_files() {
        Ok(open_files) => open_files.limit,
        Err(error) => return warn!(%error, "the limit on open files could not be raised"),
    };
    let Some(limit) = limit else { return };
    // The rest is listeners, probes, the log.
    let room = limit.saturating_sub(RESERVED_FILES) / files_each;
    if room < wanted {
        warn!(
            limit,
            "the limit on open files leaves room for about {room} WebSockets; \
             raise it with `ulimit -n` or systemd's LimitNOFILE"
        );
    }
}

/// Waits for a signal, then drains the nodes one after the other, in this order.
pub fn serve_until_signal(
    control: &Runtime,
    mut signals: Signals,
    nodes: Vec<Node>,
) -> anyhow::Result<()> {
    let name = control.block_on(signals.next());
    service_manager::stopping();
    info!("{name}: draining; another one ends every connection at once");
    let drainers = nodes.iter().map(Node::drainer).collect();
    signals.then_stop(control.handle(), drainers);
    for node in nodes {
        node.drain(control.handle());
    }
    info!("ended");
    Ok(())
}

const RESERVED_FILES: u64 = 128;
