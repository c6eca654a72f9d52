//! `/revocations`: what is revoked, and the way to revoke.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidewire_auth::gossip::{LIFE_MAX, NAME_BYTES_MAX, is_name};
use tidewire_auth::revocation::{Revocation, Revoked};
use tidewire_runtime::clock::unix_seconds;
use tidewire_runtime::units::Period;
use tracing::info;

use super::Admin;
use super::exposition::Out;
use super::guard::Refused;
use crate::node::NodeView;
use crate::revocations::{Outcome, Revoker};

/// What is asked for: `{"subject":"ann"}` or `{"token_id":"..."}`, and `"for":"24h"`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Period>,
}

#[derive(Serialize)]
struct List {
    revocations: Vec<Revocation>,
}

#[derive(Serialize)]
struct Fault<'a> {
    error: &'a str,
}

pub async fn list(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.guard.check(&Method::GET, &headers) {
        return refuse(refused);
    }
    let now = unix_seconds();
    let all = admin.nodes.iter().flat_map(|node| node.revoker.known.all(now));
    let mut revocations: Vec<_> = all.collect();
    // The latest first; what several nodes of the process know, once.
    revocations.sort_by(|one, other| (other.at, &one.of).cmp(&(one.at, &other.of)));
    revocations.dedup_by(|one, other| one.of == other.of);
    json(StatusCode::OK, &List { revocations })
}

pub async fn revoke(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = admin.guard.check(&Method::POST, &headers) {
        return refuse(refused);
    }
    let (of, life) = match read(&body) {
        Ok(found) => found,
        Err(wrong) => return fault(StatusCode::BAD_REQUEST, &wrong),
    };
    let mut outcome: Option<Outcome> = None;
    for node in &admin.nodes {
        match node.revoker.revoke(of.clone(), life).await {
            Ok(next) => {
                // One node of the process that reaches the others is enough.
                let reach = outcome.as_ref().map_or(next.reach, |it| it.reach.min(next.reach));
                outcome = Some(Outcome { reach, saved: next.saved, ..next });
            }
            Err(full) => return fault(StatusCode::INSUFFICIENT_STORAGE, &full.to_string()),
        }
    }
    let Some(outcome) = outcome else { return StatusCode::NOT_FOUND.into_response() };
    info!(revoked = ?outcome.revocation.of, until = outcome.revocation.until,
          reach = ?outcome.reach, "revoked");
    json(StatusCode::OK, &outcome)
}

/// What the nodes of the process count of them.
pub(super) fn encode(nodes: &[Arc<NodeView>], out: &mut Out<'_>) -> fmt::Result {
    let per_node = |read: fn(&Revoker) -> u64| {
        let of =
            move |node: &Arc<NodeView>| (vec![("node", node.name.clone())], read(&node.revoker));
        nodes.iter().map(of)
    };
    out.gauge(
        "auth_revocations",
        "Tokens and subjects that are revoked now",
        per_node(|it| it.known.len(unix_seconds()) as u64),
    )?;
    out.counter(
        "auth_revocations_refused",
        "Revocations that there was no room for",
        per_node(|it| it.counts.refused.load(Ordering::Relaxed)),
    )?;
    out.counter(
        "auth_revocations_malformed",
        "Messages about revocations that were wrong and dropped",
        per_node(|it| it.counts.malformed.load(Ordering::Relaxed)),
    )?;
    let missed = nodes.iter().map(|node| {
        let missed = node.hub.as_ref().map_or(0, |hub| hub.control_missed());
        (vec![("node", node.name.clone())], missed)
    });
    out.counter(
        "auth_revocations_missed",
        "Messages about revocations that came faster than they could be heard",
        missed,
    )
}

fn read(body: &[u8]) -> Result<(Revoked, Option<Duration>), String> {
    let request: Request = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let of = match (request.subject, request.token_id) {
        (Some(subject), None) => Revoked::Subject(subject.into()),
        (None, Some(id)) => Revoked::TokenId(id.into()),
        _ => return Err("expected `subject` or `token_id`, one of the two".to_owned()),
    };
    if !is_name(of.name()) {
        return Err(format!("expected 1 to {NAME_BYTES_MAX} bytes without control characters"));
    }
    let life = request.life.map(|life| life.0);
    if life.is_some_and(|life| life < Duration::from_secs(1) || life > LIFE_MAX) {
        return Err("`for` is expected to be 1s to 400d".to_owned());
    }
    Ok((of, life))
}

pub(super) fn refuse((status, why): Refused) -> Response {
    let mut response = fault(status, why);
    if status == StatusCode::UNAUTHORIZED {
        let bearer = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

pub(super) fn fault(status: StatusCode, error: &str) -> Response {
    json(status, &Fault { error })
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("texts and numbers are always JSON");
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Longest body: a name of a subject, and what is around it.
pub const BODY_BYTES_MAX: usize = 8 * 1024;
