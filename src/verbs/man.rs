//! `tidewire man`: the manual pages, made from the command line's own definition.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{Cli, ManArgs};

/// Prints the page of the program, or writes one for it and one for each verb.
pub fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        Some(dir) => write_pages(&command, "tidewire", dir)?,
        None => io::stdout().write_all(&page(command)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `tidewire.1`, `tidewire-run.1`, and so on down.
fn write_pages(command: &Command, name: &str, dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(format!("{name}.1"));
    let own = command.clone().display_name(name);
    fs::write(&path, page(own)?).with_context(|| format!("cannot write {}", path.display()))?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        write_pages(verb, &format!("{name}-{}", verb.get_name()), dir)?;
    }
    Ok(())
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    // What we say after the options is examples, and that is what manual pages call them.
    let page = String::from_utf8_lossy(&page);
    Ok(page.replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n").into_bytes())
}
