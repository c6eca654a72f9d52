//! Whether the servers of a backend can take clients: probes, and what they add up to.
//!
//! A probe runs on the control plane; what workers see is the [state](crate::server_state) of a
//! server. To add a kind of probe: a file here, a variant of [`ProbeKind`], and its line in
//! [`probe`].

pub mod expectation;
pub mod http;
pub mod machine;
pub mod status;
mod stream;
mod target;
pub mod tcp;
pub mod watch;
pub mod websocket;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::dialer::NoSource;
use tidewire_runtime::percent::Percent;
use tidewire_runtime::tls::error::TlsError;
use tidewire_runtime::units::Period;

use self::expectation::BodyPattern;
use self::status::StatusRange;
use self::target::Target;
use crate::backend::Backend;
use crate::connector::no_source;
use crate::rules::text_pattern::TextPattern;
use crate::server::Server;

/// How the servers of a backend that have `check = true` are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// What a probe does.
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// The port that is probed, in place of that of the server's address.
    pub port: Option<u16>,
    /// Whether TLS is spoken, as the backend's `tls` says. By default it is where that is set, but
    /// not on another port or address than the server's own.
    pub tls: Option<bool>,
    /// Whether a probe's connection begins with a header of the PROXY protocol, as the backend's
    /// `send_proxy` says: one that says that it is the edge's own. By default as with `tls`.
    pub send_proxy: Option<bool>,
    /// The path that an http or websocket probe asks for; `*` is for an http probe with the method
    /// `OPTIONS`.
    pub path: String,
    /// The Host header of an http or websocket probe; the server's address when it is not set.
    pub host: Option<String>,
    /// The method of an http probe.
    pub method: String,
    /// More headers of an http or websocket probe.
    pub headers: BTreeMap<String, String>,
    /// The body of an http probe.
    pub body: Option<String>,
    /// Status codes that an http probe takes for healthy, such as 204, "2xx" or "200-299"; any 2xx
    /// or 3xx when it is empty.
    pub status: Vec<StatusRange>,
    /// Status codes by which a server says that it drains: it gets no new clients, those who are
    /// there stay. The header `Tidewire-State: drain` says the same with any status.
    pub drain_status: Vec<StatusRange>,
    /// A text that the body of a healthy answer has, within its first 64 KiB.
    pub expect: Option<String>,
    /// A regular expression that the body of a healthy answer matches, or the first 64 KiB of a
    /// longer one. Without look-around; `\w`, `\d` and `(?i)` are about ASCII.
    pub expect_regex: Option<BodyPattern>,
    /// Headers that a healthy answer has, each with this value. A `*` at its beginning or end stands
    /// for anything.
    pub expect_headers: BTreeMap<String, TextPattern>,
    /// The time between the starts of two probes of a server.
    pub interval: Period,
    /// That time while probes speak against the server's present state; `interval` when not set.
    pub fast_interval: Option<Period>,
    /// That time while the server is down; `interval` when not set.
    pub down_interval: Option<Period>,
    /// How much these times vary by chance, so that probes of many edges and servers do not come
    /// together.
    pub spread: Percent,
    /// The time that a probe may take in all.
    pub timeout: Period,
    /// Probes in a row that must succeed for a server that is down to be up.
    pub rise: u32,
    /// Probes in a row that must fail for a server that is up to be down.
    pub fall: u32,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// Connects.
    #[default]
    Tcp,
    /// Connects and asks for `path`: the answer must have one of `status`, and what `expect`,
    /// `expect_regex` and `expect_headers` say.
    Http,
    /// Connects, makes a WebSocket handshake on `path`, sends a ping and waits for its pong: what
    /// clients do works, not only the port.
    Websocket,
}

/// What a server that answers says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Well,
    /// It wants no new clients; by which words.
    Drain(String),
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("the head of the answer is over 16 KiB, or has more than 100 headers")]
    LargeHead,
    #[error("the answer broke off")]
    BrokeOff,
    #[error("status {0}")]
    Status(u16),
    #[error("the answer does not have the text {0:?}")]
    Unexpected(String),
    #[error("the answer does not match {0:?}")]
    NoMatch(String),
    #[error("the answer does not have the header {0} as {1:?}")]
    Header(String, String),
    #[error("no valid 101: {0}")]
    Switch(String),
    #[error("no pong, but {0}")]
    NoPong(String),
}

impl ProbeError {
    /// Whether the probe could not be made for want of a port of our own: that says nothing of the
    /// server, and it must not go down with our ports.
    pub fn is_for_want_of_ports(&self) -> bool {
        match self {
            Self::Connect(error) => no_source(error).is_some_and(NoSource::is_for_want_of_ports),
            _ => false,
        }
    }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Tcp,
            path: "/".into(),
            port: None,
            tls: None,
            send_proxy: None,
            host: None,
            method: "GET".into(),
            headers: BTreeMap::new(),
            body: None,
            status: Vec::new(),
            drain_status: Vec::new(),
            expect: None,
            expect_regex: None,
            expect_headers: BTreeMap::new(),
            interval: Period::from_secs(2),
            fast_interval: None,
            down_interval: None,
            spread: Percent::whole(5),
            timeout: Period::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// Probes `server` of `backend` once, within the probe's timeout.
pub async fn probe(backend: &Backend, server: &Server) -> Result<Answer, ProbeError> {
    let check = &backend.check;
    let target = &Target::new(backend, server);
    let attempt = async {
        match check.kind {
            ProbeKind::Tcp => tcp::probe(target).await.map(|_| Answer::Well),
            ProbeKind::Http => http::probe(target).await,
            ProbeKind::Websocket => websocket::probe(target).await.map(|()| Answer::Well),
        }
    };
    tokio::time::timeout(check.timeout.0, attempt).await.unwrap_or(Err(ProbeError::Timeout))
}
