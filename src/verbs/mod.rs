//! What the program can be told to do, a file for each (`admin_client` is how they ask a node). To add one: a file here, its arguments and
//! its line in `cli`, and its line in `main`.

pub mod admin_client;
pub mod check;
pub mod completions;
pub mod config;
pub mod man;
pub mod revoke;
pub mod run;
pub mod servers;
pub mod token;
pub mod up;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::plan::PlanError;

/// Says why a verb failed, and with which code the program ends: 1, or 2 when a file cannot be
/// read.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output has had enough, as in `tidewire config | head`.
    let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(io::stderr(), "tidewire: {error:#}");
    match error.downcast_ref() {
        Some(PlanError::Read { .. }) => ExitCode::from(UNREADABLE),
        _ => ExitCode::FAILURE,
    }
}

/// A file that cannot be read is not a file that is wrong. clap, too, ends with this code when the
/// command line is wrong.
pub const UNREADABLE: u8 = 2;
