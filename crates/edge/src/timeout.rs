//! The deadlines of a connection, under the names that HAProxy gave them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

/// How long each wait may take. Each has the name and the meaning that it has in HAProxy; unlike
/// there, each has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a connection to a server to be established.
    pub connect: Period,
    /// For a client to go on with a request or to take more of a response. Not for tunnels.
    pub client: Period,
    /// For a server to begin its response or to go on with it. Not for tunnels.
    pub server: Period,
    /// For a WebSocket on which neither side says anything. Pings count as something.
    pub tunnel: Period,
    /// For a client's TLS handshake to be over.
    #[serde(alias = "client-hs")]
    pub client_hs: Period,
    /// For a client's request head to be complete, from the connection's (or the last response's)
    /// beginning.
    #[serde(alias = "http-request")]
    pub http_request: Period,
    /// For a client to begin its next request on a connection that is kept alive.
    #[serde(alias = "http-keep-alive")]
    pub http_keep_alive: Period,
    /// For a request to wait until a server has room for it.
    pub queue: Period,
    /// For a tunnel whose client has ended its direction: the rest must be said within this time.
    #[serde(alias = "client-fin")]
    pub client_fin: Period,
    /// For a tunnel whose server has ended its direction.
    #[serde(alias = "server-fin")]
    pub server_fin: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period::from_secs(5),
            client: Period::from_secs(30),
            server: Period::from_secs(30),
            tunnel: Period::from_secs(3600),
            client_hs: Period::from_secs(10),
            http_request: Period::from_secs(10),
            http_keep_alive: Period::from_secs(60),
            queue: Period::from_secs(5),
            client_fin: Period::from_secs(10),
            server_fin: Period::from_secs(10),
        }
    }
}

/// The timeouts that a backend can set for itself, in place of those in `[timeout]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTimeouts {
    /// For a connection to a server of this backend to be established.
    pub connect: Option<Period>,
    /// For a server of this backend to begin its response or to go on with it.
    pub server: Option<Period>,
    /// For a WebSocket to this backend on which neither side says anything.
    pub tunnel: Option<Period>,
    /// For a request to wait until a server of this backend has room for it.
    pub queue: Option<Period>,
    /// For a tunnel whose server has ended its direction.
    #[serde(alias = "server-fin")]
    pub server_fin: Option<Period>,
}

impl Timeouts {
    /// These, with what a backend sets for itself.
    pub fn with_backend(mut self, own: &BackendTimeouts) -> Self {
        self.connect = own.connect.unwrap_or(self.connect);
        self.server = own.server.unwrap_or(self.server);
        self.tunnel = own.tunnel.unwrap_or(self.tunnel);
        self.queue = own.queue.unwrap_or(self.queue);
        self.server_fin = own.server_fin.unwrap_or(self.server_fin);
        self
    }

    pub fn connect(&self) -> Duration {
        self.connect.0
    }
}
