//! `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::config::admin::MetricsAccess;

/// 200 when clients should be sent here, 503 and why otherwise. The header `Tidewire-State` says it
/// for machines: `drain` is that who is here may stay, which the http probe of an edge understands.
pub async fn readiness(State(admin): State<Arc<Admin>>) -> Response {
    let reasons: Vec<_> = admin.nodes.iter().flat_map(|node| node.not_ready()).collect();
    let state = match admin.nodes.iter().any(|node| node.wants_to_drain()) {
        _ if reasons.is_empty() => "ready",
        true => "drain",
        false => "down",
    };
    let state = [(tidewire_edge::health::http::STATE, state)];
    if reasons.is_empty() {
        return (state, "ready\n").into_response();
    }
    let text = format!("not ready\n{}\n", reasons.join("\n"));
    (StatusCode::SERVICE_UNAVAILABLE, state, text).into_response()
}

pub async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if let MetricsAccess::Token = admin.metrics
        && let Err(refused) = admin.guard.check(&Method::GET, &headers)
    {
        return refused.into_response();
    }
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &admin.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
