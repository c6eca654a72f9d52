//! `tidewire revoke`: revokes at a running node, by its admin listener.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tidewire_auth::revocation::{Revocation, Revoked};
use tidewire_runtime::clock::unix_seconds;
use tidewire_runtime::units::Period;

use crate::admin::revocations as asked;
use crate::cli::RevokeArgs;

/// Revokes, or lists what is revoked.
pub fn run(args: &RevokeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let text = runtime.block_on(ask(args))?;
    let mut out = io::stdout().lock();
    if args.list {
        let list: List = serde_json::from_str(&text).context(NOT_TIDEWIRE)?;
        for one in list.revocations {
            let (kind, name) = words(&one.of);
            let (ago, left) =
                (unix_seconds().saturating_sub(one.at), one.until.saturating_sub(unix_seconds()));
            let (ago, left) = (Period::from_secs(ago), Period::from_secs(left));
            writeln!(out, "{kind}\t{name}\trevoked {ago} ago\tfor another {left}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let done: Done = serde_json::from_str(&text).context(NOT_TIDEWIRE)?;
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

async fn ask(args: &RevokeArgs) -> anyhow::Result<String> {
    let url = format!("{}/revocations", args.admin.trim_end_matches('/'));
    let mut request = Request::builder().uri(&url);
    if let Some(token) = token(args)? {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if args.list {
        Full::<axum::body::Bytes>::default()
    } else {
        request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/json");
        let asked = asked::Request {
            subject: args.subject.clone(),
            token_id: args.token_id.clone(),
            life: args.life,
        };
        Full::from(serde_json::to_vec(&asked)?)
    };
    let request = request.body(body).context("the URL of `--admin` is none")?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answered = async {
        let response = client.request(request).await.map_err(|error| no_answer(&url, &error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{url} broke off: {error}"))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if !status.is_success() {
            let fault: Option<Fault> = serde_json::from_str(&text).ok();
            bail!("{url} answers {status}: {}", fault.map_or(text, |fault| fault.error));
        }
        Ok(text)
    };
    match tokio::time::timeout(ANSWER_TIME, answered).await {
        Ok(answer) => answer,
        Err(_) => bail!("{url} does not answer"),
    }
}

fn no_answer(url: &str, error: &hyper_util::client::legacy::Error) -> anyhow::Error {
    // The outer ones say `client error` and `tcp connect error`, the innermost which.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    anyhow::anyhow!("{url} cannot be reached: {cause}")
}

/// The admin token: of a file, or of the environment. Never of the command line, which everybody on
/// the machine can read.
fn token(args: &RevokeArgs) -> anyhow::Result<Option<String>> {
    if let Some(file) = &args.admin_token_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(std::env::var(TOKEN_NAME).ok().filter(|token| !token.is_empty()))
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

#[derive(Deserialize)]
struct Fault {
    error: String,
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

const TOKEN_NAME: &str = "TIDEWIRE_ADMIN_TOKEN";
const NOT_TIDEWIRE: &str = "the answer is not that of an admin listener";
const ANSWER_TIME: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 128 << 20;
