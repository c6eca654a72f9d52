//! `tidewire token password`: asks for a password without showing it.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tidewire_auth::basic;

use super::args::PasswordArgs;
use super::{named, say};

pub fn run(args: &PasswordArgs) -> anyhow::Result<()> {
    named(&args.user)?;
    let password = read().context("the password")?;
    if password.is_empty() {
        bail!("the password is empty");
    }
    let line = basic::line(&args.user, &password);
    say(&line.map_err(|why| anyhow::anyhow!("the password cannot be used: {why}"))?)
}

/// A line of standard input.
fn read() -> anyhow::Result<String> {
    let stdin = io::stdin();
    let _quiet = match stdin.is_terminal() {
        true => {
            write!(io::stderr(), "Password: ")?;
            Some(Quiet::new()?)
        }
        false => None,
    };
    let mut line = String::new();
    stdin.lock().take(LINE_BYTES_MAX).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        let _ = writeln!(io::stderr());
    }
}

const LINE_BYTES_MAX: u64 = 4096;
