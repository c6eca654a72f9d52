//! Why a request could not be answered by a server, and what the client is told.

use std::error::Error;
use std::io;

use http::{Response, StatusCode};
use rustls::AlertDescription;
use tidewire_runtime::tls::error::TlsError;
use tidewire_wire::ws::handshake::BadSwitch;

use crate::answer::{self, Body};
use crate::backend::NoServer;
use crate::bad_answer::BadAnswer;
use crate::server_tls::failure::Failure;

/// Why a request could not be answered by a server. The status tells apart what happened: 503, no
/// server could be reached; 504, one was and did not answer in time; 502, its answer was none.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error("no server could be connected to: {0}")]
    Connect(io::Error),
    #[error("TLS with the server came to nothing: {0}")]
    Tls(TlsError),
    #[error("no server could be connected to in time")]
    ConnectTimeout,
    #[error("the server did not answer in time")]
    ServerTimeout,
    #[error("the server closed the connection before it answered")]
    ServerClosed,
    #[error("the server's answer is not HTTP: {0}")]
    NotHttp(hyper::Error),
    #[error("the server's answer to the WebSocket handshake is wrong: {0}")]
    Switch(BadSwitch),
    #[error("the server switched protocols though nobody had asked it to")]
    UnaskedSwitch,
    #[error("the server's answer could be read in two ways: {0}")]
    BadAnswer(BadAnswer),
    #[error("the body is over {0} bytes, which is the most that this route takes")]
    BodyTooLarge(u64),
    #[error("the client's body broke off or did not go on in time")]
    ClientBody,
}

impl Fault {
    /// What a failed exchange with a server means.
    pub fn from_hyper(error: hyper::Error) -> Self {
        if error.is_user() {
            return Self::ClientBody;
        }
        if error.is_parse() {
            return Self::NotHttp(error);
        }
        match alert(&error) {
            Some(alert) => Self::Tls(TlsError::ServerAlert(alert)),
            None => Self::ServerClosed,
        }
    }

    /// Whether the server has not taken our certificate, and so nothing of what was sent behind it.
    /// In TLS 1.3 that is known only in place of an answer.
    pub fn is_certificate_refused(&self) -> bool {
        matches!(self, Self::Tls(error) if Failure::of(error) == Failure::ClientCertificate)
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoServer(_) | Self::Connect(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::ServerTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Tls(_)
            | Self::ServerClosed
            | Self::NotHttp(_)
            | Self::Switch(_)
            | Self::BadAnswer(_)
            | Self::UnaskedSwitch => StatusCode::BAD_GATEWAY,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientBody => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The client's answer: what happened, without addresses or the system's words for it.
    pub fn answer(&self) -> Response<Body> {
        match self {
            Self::Connect(_) => answer::text(self.status(), "no server could be connected to"),
            Self::Tls(_) => answer::text(self.status(), "TLS with the server came to nothing"),
            Self::NotHttp(_) => answer::text(self.status(), "the server's answer is not HTTP"),
            Self::Switch(_) => {
                answer::text(self.status(), "the server's answer to the handshake is wrong")
            }
            _ => answer::text(self.status(), self),
        }
    }

    /// Its name in logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoServer(NoServer::NoneUp) => "no_server_up",
            Self::NoServer(NoServer::QueueFull) => "queue_full",
            Self::NoServer(NoServer::QueueTimeout) => "queue_timeout",
            Self::NoServer(NoServer::TunnelsFull) => "tunnels_full",
            Self::Connect(error) if error.kind() == io::ErrorKind::AddrNotAvailable => "no_source",
            Self::Connect(_) => "connect_failed",
            Self::Tls(_) => "server_tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::ServerTimeout => "server_timeout",
            Self::ServerClosed => "server_closed",
            Self::NotHttp(_) => "server_not_http",
            Self::Switch(_) => "server_bad_switch",
            Self::UnaskedSwitch => "server_unasked_switch",
            Self::BadAnswer(_) => "server_bad_answer",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::ClientBody => "client_body",
        }
    }
}

/// The alert that ended a connection: only after its part of the handshake a server sees our
/// certificate, or that there is none.
fn alert(error: &hyper::Error) -> Option<AlertDescription> {
    let error = error.source()?.downcast_ref::<io::Error>()?;
    match error.get_ref()?.downcast_ref::<TlsError>()? {
        TlsError::ServerAlert(alert) => Some(*alert),
        _ => None,
    }
}
