//! `tidewire revoke`: revokes at a running node, by its admin listener.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Deserialize;
use tidewire_auth::revocation::{Revocation, Revoked};
use tidewire_runtime::clock::unix_seconds;
use tidewire_runtime::units::Period;

use super::admin_client::{get, post};
use crate::admin::revocations::Request;
use crate::cli::RevokeArgs;

/// Revokes, or lists what is revoked.
pub fn run(args: &RevokeArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if args.list {
        let list: List = get(&args.at, PATH)?;
        for one in list.revocations {
            let (kind, name) = words(&one.of);
            let (ago, left) =
                (unix_seconds().saturating_sub(one.at), one.until.saturating_sub(unix_seconds()));
            let (ago, left) = (Period::from_secs(ago), Period::from_secs(left));
            writeln!(out, "{kind}\t{name}\trevoked {ago} ago\tfor another {left}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let asked =
        Request { subject: args.subject.clone(), token_id: args.token_id.clone(), life: args.life };
    let done: Done = post(&args.at, PATH, &asked)?;
    let (kind, name) = words(&done.revocation.of);
    let life = Period::from_secs(done.revocation.until.saturating_sub(done.revocation.at));
    writeln!(out, "{kind} {name} is revoked for {life}: {}", reach(&done.reach))?;
    if done.saved == Some(false) {
        writeln!(
            io::stderr(),
            "tidewire: it is not in the file of revocations; see the node's log"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct Done {
    #[serde(flatten)]
    revocation: Revocation,
    reach: String,
    saved: Option<bool>,
}

#[derive(Deserialize)]
struct List {
    revocations: Vec<Revocation>,
}

fn words(of: &Revoked) -> (&'static str, &str) {
    match of {
        Revoked::Subject(name) => ("subject", name),
        Revoked::TokenId(id) => ("token", id),
    }
}

fn reach(word: &str) -> &str {
    match word {
        "everywhere" => "the broker has it for every node",
        "node" => "on this node, which has no broker to others",
        "broker_away" => "on this node; the others learn of it when the broker is back",
        "unknown" => "on this node; the broker has not answered, the others learn of it later",
        other => other,
    }
}

const PATH: &str = "/revocations";
