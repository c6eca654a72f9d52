//! `tidewire check`: says all that is wrong with configuration files, and what they do when
//! nothing is.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::UNREADABLE;
use crate::cli::{CheckArgs, CheckFormat};
use crate::config::diagnostic::{Record, Report};
use crate::plan::{Plan, PlanError};

/// Checks each file. The code is 2 when one cannot be read, else 1 when one is wrong, else 0.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut code = 0;
    for path in &args.config {
        let found = Plan::load(path);
        code = code.max(match &found {
            Ok((_, warnings)) if warnings.is_empty() || !args.strict => 0,
            Ok(_) | Err(PlanError::Refused(_)) => 1,
            Err(PlanError::Read { .. }) => UNREADABLE,
        });
        match args.format {
            CheckFormat::Text => say(path, &found)?,
            CheckFormat::Json => record(path, &found)?,
        }
    }
    Ok(ExitCode::from(code))
}

type Found = Result<(Plan, Report), PlanError>;

/// For people: findings on standard error, what a good file does on standard output.
fn say(path: &Path, found: &Found) -> io::Result<()> {
    match found {
        Ok((plan, warnings)) => {
            warnings.print();
            write!(io::stdout(), "{}: ok\n{plan}", path.display())?;
        }
        Err(PlanError::Refused(report)) => report.print(),
        Err(error @ PlanError::Read { .. }) => writeln!(io::stderr(), "tidewire: {error}")?,
    }
    Ok(())
}

/// For programs: a JSON object for each finding, a line each.
fn record(path: &Path, found: &Found) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match found {
        Ok((_, report)) | Err(PlanError::Refused(report)) => {
            for record in report.records() {
                writeln!(stdout, "{}", serde_json::to_string(&record)?)?;
            }
            Ok(())
        }
        Err(error @ PlanError::Read { .. }) => {
            let (file, message) = (path.display().to_string(), error.to_string());
            let record = Record::of_file(&file, &message);
            writeln!(stdout, "{}", serde_json::to_string(&record)?)
        }
    }
}
