//! A program from PyPI, in an environment of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::{skip, store};

/// Installs `package` (`kosoku==0.1.0`) once and returns where its programs are; `None`, said
/// aloud, when that is not possible.
pub fn install(name: &str, package: &str) -> Option<PathBuf> {
    if !skip::has("python3") {
        return None;
    }
    let directory = store::fetched(name, package, |directory| {
        run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
        let mut pip = Command::new(directory.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        // For a registry that answers slowly.
        run(pip.args(["--timeout", "60", package]))
    });
    match directory {
        Ok(directory) => Some(directory.join("bin")),
        Err(why) => {
            skip::skip(&format!("pip cannot install {package}: {why}"));
            None
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
