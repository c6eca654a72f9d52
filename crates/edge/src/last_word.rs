//! What a client is told on a connection that hyper serves no more: why it ends.

use std::fmt;

use http::StatusCode;
use tidewire_runtime::socket::Socket;
use tidewire_wire::http::framing::fault::FramingFault;

use crate::framing::Refused;

/// Why no further request is read.
#[derive(Debug)]
pub(crate) enum LastWord {
    /// A request that is not one by the letter.
    Refused(Refused),
    /// A head that only hyper found wrong.
    Unreadable(hyper::Error),
    /// No whole head came in time.
    TooLate,
}

impl LastWord {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refused) => refused.fault.status(),
            Self::Unreadable(error) if error.is_parse_too_large() => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::TooLate => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Says it, as a whole answer. What the socket does not take at once is not said: the client
    /// has not read what came before.
    pub fn say(&self, socket: &mut Socket) {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let text = format!("{} {reason}: {self}\n", status.as_u16());
        let answer = format!(
            "HTTP/1.1 {} {reason}\r\nconnection: close\r\n\
             content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{text}",
            status.as_u16(),
            text.len(),
        );
        let _ = socket.try_write(answer.as_bytes());
    }
}

impl fmt::Display for LastWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Refused { fault: FramingFault::Tls, .. }) => {
                f.write_str("this listener speaks plain HTTP")
            }
            Self::Refused(refused) => refused.fault.fmt(f),
            Self::Unreadable(error) => write!(f, "the request cannot be read: {error}"),
            Self::TooLate => f.write_str("no whole request head came."),
        }
    }
}
