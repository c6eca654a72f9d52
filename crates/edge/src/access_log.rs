//! One line for each request, WebSocket and connection, when it is over.
//!
//! The lines are `tracing` events of the target `access`, so the process's format (text or JSON)
//! is theirs, and a value can never begin a line of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use tidewire_auth::identity::Identity;
use tidewire_runtime::tls::Secured;
use tracing::{debug, info};

use crate::client_address::ClientAddress;
use crate::end::{End, Phase, Reason};
use crate::endpoint::Passed;
use crate::limits::turnstile::Pass;
use crate::route::host_of;
use crate::service::EdgeShard;
use crate::trusted_proxies::Asker;

/// What is known of a request, kept until its line is written.
#[derive(Debug)]
pub struct Record {
    begun: Instant,
    pub asker: Asker,
    listener: usize,
    /// Its route, `None` before one was found.
    pub route: Option<usize>,
    /// The rule that has decided about it.
    pub rule: Option<u16>,
    method: http::Method,
    /// Host, a space, path without query: a query may carry a token. A path has no space. Empty
    /// when there will be no line.
    host_path: Box<str>,
    pub tls: Option<TlsVersion>,
    pub server: Option<String>,
    /// What went wrong on our side of the answer.
    pub fault: Option<&'static str>,
    /// Who the client is, where that was asked.
    pub identity: Option<Arc<Identity>>,
    /// Why it was not let in.
    pub auth_error: Option<&'static str>,
    /// What counts it as a handshake at its route, until it is answered.
    pub pass: Option<Pass>,
    pub status: u16,
}

impl Record {
    /// `logged` is the request, if it will have a line.
    pub fn new(asker: Asker, listener: usize, logged: Option<&Parts>) -> Self {
        Self {
            begun: Instant::now(),
            asker,
            listener,
            route: None,
            rule: None,
            method: logged.map(|parts| parts.method.clone()).unwrap_or_default(),
            host_path: logged.map(host_path).unwrap_or_default(),
            tls: None,
            server: None,
            fault: None,
            identity: None,
            auth_error: None,
            pass: None,
            status: 0,
        }
    }

    /// Takes note that the request is for another host than its connection said.
    pub fn note_host(&mut self, parts: &Parts) {
        if !self.host_path.is_empty() {
            self.host_path = host_path(parts);
        }
    }

    /// The line of a plain request, or of a handshake that did not become a WebSocket.
    pub fn log(&self, shard: &EdgeShard, body_bytes: u64) {
        if !shard.edge.is_logging_requests {
            return;
        }
        let (host, path) = self.host_and_path();
        info!(
            target: "access",
            client = %self.asker.client,
            via = self.asker.client.shown_via().map(tracing::field::display),
            listener = shard.edge.listener_name(self.listener),
            tls = self.tls.map(TlsVersion::as_str),
            route = shard.edge.route_name(self.route),
            rule = shard.edge.rules.name(self.rule),
            server = self.server.as_deref(),
            method = %self.method,
            host,
            path,
            status = self.status,
            fault = self.fault,
            subject = subject(self.identity.as_deref()),
            auth_error = self.auth_error,
            body_bytes,
            duration_ms = self.begun.elapsed().as_millis() as u64,
            "request"
        );
    }

    /// What of it is kept while the WebSocket lives, which begins now and has the line. `entrance`
    /// counts it at its listener.
    pub fn websocket(&mut self, route: usize, entrance: Option<Pass>) -> Box<WebSocketRecord> {
        let passes = [self.pass.take().and_then(Pass::open), entrance];
        let is_counted = passes.iter().any(Option::is_some);
        Box::new(WebSocketRecord {
            begun: self.begun,
            opened_ms: u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX),
            client: self.asker.client,
            listener: self.listener as u16,
            route: route as u16,
            tls: self.tls,
            host_path: std::mem::take(&mut self.host_path),
            identity: self.identity.take(),
            _passes: is_counted.then(|| Box::new(passes)),
        })
    }

    fn host_and_path(&self) -> (&str, &str) {
        self.host_path.rsplit_once(' ').unwrap_or(("-", &self.host_path))
    }
}

/// What is known of a WebSocket, kept while it lives, so kept small.
#[derive(Debug)]
pub struct WebSocketRecord {
    begun: Instant,
    opened_ms: u32,
    client: ClientAddress,
    listener: u16,
    route: u16,
    tls: Option<TlsVersion>,
    host_path: Box<str>,
    identity: Option<Arc<Identity>>,
    /// What counts it at its route and at its listener, as long as it is there; few do.
    _passes: Option<Box<[Option<Pass>; 2]>>,
}

impl WebSocketRecord {
    pub fn route(&self) -> usize {
        usize::from(self.route)
    }

    /// The line of a WebSocket that is over.
    /// `error` is what its end is about, if `end` does not say it all.
    pub fn log(
        &self,
        shard: &EdgeShard,
        server: Option<&str>,
        end: End,
        error: Option<&str>,
        passed: Passed,
    ) {
        if !shard.edge.is_logging_requests {
            return;
        }
        let (host, path) = self.host_path.rsplit_once(' ').unwrap_or(("-", &self.host_path));
        info!(
            target: "access",
            client = %self.client,
            via = self.client.shown_via().map(tracing::field::display),
            listener = shard.edge.listener_name(self.listener.into()),
            tls = self.tls.map(TlsVersion::as_str),
            route = shard.edge.route_name(Some(self.route.into())),
            server,
            host,
            path,
            subject = subject(self.identity.as_deref()),
            by = end.by.as_str(),
            reason = end.reason.as_str(),
            code = end.code,
            error,
            phase = Phase::Tunnel.as_str(),
            bytes_in = passed.bytes_in,
            bytes_out = passed.bytes_out,
            messages_in = passed.messages_in,
            messages_out = passed.messages_out,
            opened_ms = self.opened_ms,
            duration_ms = self.begun.elapsed().as_millis() as u64,
            "websocket"
        );
    }
}

/// Host, a space, path.
fn host_path(parts: &Parts) -> Box<str> {
    let host = host_of(&parts.uri, &parts.headers).unwrap_or("-");
    [host, " ", parts.uri.path()].concat().into()
}

/// Whom a line is about: enough of the name to find it, however long it is.
fn subject(identity: Option<&Identity>) -> Option<&str> {
    let subject = identity?.subject()?;
    let end = subject.char_indices().map(|(at, _)| at).find(|&at| at >= SUBJECT_BYTES_MAX);
    Some(&subject[..end.unwrap_or(subject.len())])
}

const SUBJECT_BYTES_MAX: usize = 128;

/// The line of a connection that ended as HTTP.
#[derive(Debug)]
pub struct ConnectionRecord {
    pub client: ClientAddress,
    pub listener: usize,
    pub begun: Instant,
    pub requests: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub tls: Option<TlsVersion>,
    /// What went wrong with TLS, or was wrong with a request.
    pub error: Option<String>,
}

/// The version of TLS that a connection speaks, in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl TlsVersion {
    pub fn of(secured: &Secured) -> Self {
        if secured.version == "TLSv1.2" { Self::Tls12 } else { Self::Tls13 }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl ConnectionRecord {
    pub fn log(&self, shard: &Rc<EdgeShard>, end: End, phase: Phase) {
        shard.metrics.count_end(end);
        if !shard.edge.is_logging_requests {
            return;
        }
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    target: "access",
                    client = %self.client,
                    via = self.client.shown_via().map(tracing::field::display),
                    listener = shard.edge.listener_name(self.listener),
                    tls = self.tls.map(TlsVersion::as_str),
                    by = end.by.as_str(),
                    reason = end.reason.as_str(),
                    phase = phase.as_str(),
                    error = self.error,
                    requests = self.requests,
                    bytes_in = self.bytes_in,
                    bytes_out = self.bytes_out,
                    duration_ms = self.begun.elapsed().as_millis() as u64,
                    "connection"
                )
            };
        }
        // Whoever connects and leaves without a word is a health check more often than not.
        if self.bytes_in == 0 && end.reason == Reason::Eof { line!(debug) } else { line!(info) }
    }
}
