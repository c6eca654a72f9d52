//! How a connection ended: who ended it, for which one reason, in which phase.

use crate::words::words;

/// The one reason for which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub by: Party,
    pub reason: Reason,
    /// The close code of the WebSocket, when one was seen (RFC 6455, section 7.4).
    pub code: Option<u16>,
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Client,
    Server,
    /// This process.
    Edge,
}

/// Where in its life it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The header of the PROXY protocol was waited for or being read.
    Proxy,
    /// The TLS handshake was being made.
    Tls,
    /// A request was waited for or being read.
    Request,
    /// A request was being answered.
    Response,
    /// WebSocket frames were being moved.
    Tunnel,
}

words! {
    /// Why it ended. To add one: a line here.
    pub enum Reason {
        /// It sent a Close frame.
        Close = "close",
        /// It ended its stream without one.
        Eof = "eof",
        /// Its connection broke (reset, unreachable, keepalive).
        Broken = "broken",
        /// Its last response was whole and the connection was not kept alive.
        Done = "done",
        /// It sent what is not HTTP.
        BadRequest = "bad_request",
        /// It sent what is not WebSocket.
        BadFrame = "bad_frame",
        /// It sent a message, frame or number of fragments over the limit.
        TooBig = "too_big",
        /// It sent a kind of message that its route does not take (`opcodes`).
        Opcode = "opcode",
        /// It sent faster than it may, on a route that closes for that (`over_rate`).
        Rate = "rate",
        /// It took none of what waited for it, or not fast enough.
        Slow = "slow",
        /// Its body broke off, or did not go on in time.
        BadBody = "bad_body",
        /// It was to say whose connection it is (`proxy_protocol`), and did not; the line says why.
        ProxyHeader = "proxy_header",
        /// Its TLS handshake came to nothing; the line says why.
        TlsHandshake = "tls_handshake",
        /// Its TLS handshake was not over in time (`client_hs`).
        ClientHsTimeout = "client_hs_timeout",
        /// No request head in time (`http_request`).
        HttpRequestTimeout = "http_request_timeout",
        /// No further request in time (`http_keep_alive`).
        KeepAliveTimeout = "keep_alive_timeout",
        /// Nobody said anything for the `tunnel` timeout.
        TunnelTimeout = "tunnel_timeout",
        /// The client had ended its direction, and the rest took too long (`client_fin`).
        ClientFinTimeout = "client_fin_timeout",
        /// The server had ended its direction, and the rest took too long (`server_fin`).
        ServerFinTimeout = "server_fin_timeout",
        /// It said no message for too long, though it answers pings.
        IdleTimeout = "idle_timeout",
        /// It did not answer a ping.
        PingTimeout = "ping_timeout",
        /// There were too many connections, or they came too fast: it was not let in.
        Limited = "limited",
        /// Its address is not for here: it was not let in.
        Denied = "denied",
        /// The process drains.
        Drain = "drain",
        /// The WebSocket was as old as one may become (`lifetime`).
        Lifetime = "lifetime",
        /// Its server has more clients than its share, drains, or is not listed any more.
        Rebalance = "rebalance",
        /// Its server is down or in maintenance, and the backend closes for that (`on_down`).
        ServerDown = "server_down",
        /// The client's credential has ended.
        Expired = "expired",
        /// The client's credential was revoked.
        Revoked = "revoked",
        /// The broker is away and the configuration says to close.
        BrokerAway = "broker_away",
        /// A fault of ours.
        Internal = "internal",
    }
}

impl End {
    pub fn by(by: Party, reason: Reason) -> Self {
        Self { by, reason, code: None }
    }

    pub fn with_code(mut self, code: Option<u16>) -> Self {
        self.code = code;
        self
    }
}

impl Party {
    pub const ALL: [Party; 3] = [Party::Client, Party::Server, Party::Edge];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Edge => "edge",
        }
    }
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Response => "response",
            Self::Tunnel => "tunnel",
        }
    }
}
