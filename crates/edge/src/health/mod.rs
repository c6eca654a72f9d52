//! Whether the servers of a backend can take clients: probes, and what they add up to.
//!
//! A probe runs on the control plane; what workers see is one flag a server. To add a kind of
//! probe: a file here, a variant of [`ProbeKind`], and its line in [`probe`].

pub mod http;
pub mod machine;
pub mod tcp;
pub mod watch;
pub mod websocket;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

use crate::server::Address;

/// How the servers of a backend that have `check = true` are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// What a probe does.
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// The path that an http or websocket probe asks for.
    pub path: String,
    /// The Host header of an http or websocket probe; the server's address when it is not set.
    pub host: Option<String>,
    /// Status codes that an http probe takes for healthy; any 2xx or 3xx when it is empty.
    pub status: Vec<u16>,
    /// The time between the starts of two probes of a server.
    pub interval: Period,
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
    /// Connects and asks for `path`: the status must be one of `status`.
    Http,
    /// Connects, makes a WebSocket handshake on `path`, sends a ping and waits for its pong: what
    /// clients do works, not only the port.
    Websocket,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("status {0}")]
    Status(u16),
    #[error("no valid 101: {0}")]
    Switch(String),
    #[error("no pong, but {0}")]
    NoPong(String),
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Tcp,
            path: "/".into(),
            host: None,
            status: Vec::new(),
            interval: Period::from_secs(2),
            timeout: Period::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// Probes the server at `address` once, within the probe's timeout.
pub async fn probe(check: &CheckConfig, address: &Address) -> Result<(), ProbeError> {
    let attempt = async {
        match check.kind {
            ProbeKind::Tcp => tcp::probe(address).await.map(drop),
            ProbeKind::Http => http::probe(check, address).await,
            ProbeKind::Websocket => websocket::probe(check, address).await,
        }
    };
    tokio::time::timeout(check.timeout.0, attempt).await.unwrap_or(Err(ProbeError::Timeout))
}
