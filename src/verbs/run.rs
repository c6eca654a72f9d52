//! `tidewire run`: a node from a file.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tidewire_hub::broker::memory::MemoryBroker;
use tracing::info;

use crate::cli::RunArgs;
use crate::config::diagnostic::{Paint, Report};
use crate::node::Node;
use crate::plan::{Plan, PlanError};
use crate::signals::Signals;
use crate::{admin, logging, process};

/// Runs a node until a signal ends it.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (plan, warnings) = match Plan::load(&args.config) {
        Ok(found) => found,
        Err(PlanError::Refused(report)) => {
            show(&report);
            return Ok(ExitCode::from(1));
        }
        Err(error) => anyhow::bail!(error),
    };
    show(&warnings);
    let _log = logging::start(&plan.log);
    process::open_files(WEBSOCKETS_WANTED);
    let control = process::control()?;
    let signals = Signals::listen(control.handle())?;
    let admin = plan.admin;
    let name = plan.hub.as_ref().map_or_else(|| "edge".to_owned(), |hub| hub.node_name());
    let node = Node::start(&name, plan, &MemoryBroker::new(), control.handle())?;
    for address in &node.addresses {
        info!(%address, "listening");
    }
    if let Some(bind) = admin {
        let address = admin::start(bind, vec![node.view.clone()], control.handle())?;
        info!(%address, "admin: /healthz, /readyz, /metrics");
    }
    process::serve_until_signal(&control, signals, vec![node])?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what is wrong with the configuration, if anything is.
fn show(report: &Report) {
    if !report.is_empty() {
        let paint = if io::stderr().is_terminal() { Paint::Colour } else { Paint::Plain };
        eprint!("{}", report.render(paint));
    }
}

/// Fewer than these, and the log says how to have more.
const WEBSOCKETS_WANTED: u64 = 8_000;
