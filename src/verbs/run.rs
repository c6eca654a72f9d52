//! `tidewire run`: a node from a file.

use std::process::ExitCode;

use tidewire_hub::broker::memory::MemoryBroker;
use tracing::info;

use crate::cli::RunArgs;
use crate::node::{self, Node};
use crate::plan::{Plan, PlanError};
use crate::signals::{Signals, on_hangup};
use crate::{admin, logging, privileges, process, service_manager};

/// Runs a node until a signal ends it.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let guarded = privileges::guard()?;
    let (plan, warnings) = match Plan::load(&args.config) {
        Ok(found) => found,
        Err(PlanError::Refused(report)) => {
            report.print();
            return Ok(ExitCode::from(1));
        }
        Err(error) => anyhow::bail!(error),
    };
    warnings.print();
    let log = logging::start(&plan.log);
    let files_each = if plan.backends.is_empty() { 1 } else { 2 };
    process::open_files(websockets_wanted(&plan), files_each);
    let control = process::control()?;
    let signals = Signals::listen(control.handle())?;
    let listeners = node::bind(&plan)?;
    let admin = plan.admin.clone().map(admin::bind).transpose()?;
    guarded.settle(&plan.process)?;
    let name = plan.hub.as_ref().map_or_else(|| "edge".to_owned(), |hub| hub.node_name());
    let node = Node::start(&name, plan, listeners, &MemoryBroker::new(), control.handle())?;
    let view = node.view.clone();
    on_hangup(control.handle(), move || view.ask_for_reload())?;
    for address in &node.addresses {
        info!(%address, "listening");
    }
    if let Some(admin) = admin {
        let address =
            admin::start(admin, vec![node.view.clone()], log.dropped(), control.handle())?;
        info!(%address, "admin: /healthz, /readyz, /metrics, /revocations, /servers");
    }
    service_manager::ready();
    process::serve_until_signal(&control, signals, vec![node])?;
    Ok(ExitCode::SUCCESS)
}

/// WebSockets that the plan's servers may have through this node at a time. Servers without a bound
/// count for as many as a small site has.
fn websockets_wanted(plan: &Plan) -> u64 {
    let servers = || plan.backends.iter().flat_map(|backend| &backend.config.server);
    let bounded: u64 = servers().map(|server| u64::from(server.maxconn)).sum();
    let is_bounded = plan.hub.is_none() && servers().all(|server| server.maxconn > 0);
    if is_bounded { bounded } else { bounded.max(WEBSOCKETS_WANTED) }
}

/// Fewer than these, and the log says how to have more.
const WEBSOCKETS_WANTED: u64 = 8_000;
