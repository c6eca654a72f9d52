//! Tidewire scales and secures WebSockets: an edge that understands them, and a hub that spreads
//! what is said on one server to the clients of all.
//!
//! The program is its verbs; each is a file in `verbs`. A configuration becomes a
//! [`plan::Plan`], and a plan becomes a running node.

mod acme;
mod admin;
mod bench;
mod cli;
mod config;
mod dev_certificate;
mod endpoints;
mod log_escape;
mod logging;
mod node;
mod page;
mod plan;
mod privileges;
mod process;
mod revocations;
mod service_manager;
mod signals;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Verb};

/// Many small allocations on many threads that live for days.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Up(args) => verbs::up::run(&args),
        Verb::Run(args) => verbs::run::run(&args),
        Verb::Revoke(args) => verbs::revoke::run(&args),
        Verb::Servers(args) => verbs::servers::run(&args),
        Verb::Check(args) => verbs::check::run(&args),
        Verb::Config(args) => verbs::config::run(&args),
        Verb::Token(args) => verbs::token::run(&args),
        Verb::Bench(args) => bench::run(*args).map(|()| ExitCode::SUCCESS),
        Verb::Completions(args) => verbs::completions::run(&args),
        Verb::Man(args) => verbs::man::run(&args),
    };
    result.unwrap_or_else(|error| verbs::failed(&error))
}
