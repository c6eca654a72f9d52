//! How a verb asks the admin listener of a running node.

use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::AdminArgs;

/// What the listener has at `path`.
pub fn get<T: DeserializeOwned>(at: &AdminArgs, path: &str) -> anyhow::Result<T> {
    let request = Request::builder().method(Method::GET);
    read(&block_on(ask(at, path, request, Full::default()))?)
}

/// What the listener says to `asked` at `path`.
pub fn post<T: DeserializeOwned>(
    at: &AdminArgs,
    path: &str,
    asked: &impl Serialize,
) -> anyhow::Result<T> {
    let request = Request::builder().method(Method::POST);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = Full::from(serde_json::to_vec(asked)?);
    read(&block_on(ask(at, path, request, body))?)
}

fn read<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).context("the answer is not that of an admin listener")
}

fn block_on<T>(asked: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(asked)
}

async fn ask(
    at: &AdminArgs,
    path: &str,
    mut request: axum::http::request::Builder,
    body: Full<Bytes>,
) -> anyhow::Result<String> {
    let url = format!("{}{path}", at.admin.trim_end_matches('/'));
    if let Some(token) = token(at)? {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.uri(&url).body(body).context("the URL of `--admin` is none")?;
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
fn token(at: &AdminArgs) -> anyhow::Result<Option<String>> {
    if let Some(file) = &at.admin_token_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(std::env::var(TOKEN_NAME).ok().filter(|token| !token.is_empty()))
}

#[derive(Deserialize)]
struct Fault {
    error: String,
}

const TOKEN_NAME: &str = "TIDEWIRE_ADMIN_TOKEN";
const ANSWER_TIME: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 128 << 20;
