//! Answers that the edge gives itself, and the body of every answer that goes to a client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use tidewire_wire::ws::handshake::Refusal;
use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::forward::ServerBody;
use crate::hygiene::Unfit;
use crate::session::Over;

/// The body of an answer to a client.
pub struct Body {
    content: Content,
    /// Dropped with the body: the answer is over, whole or not.
    over: Option<Over>,
}

enum Content {
    /// What the edge says itself.
    Own(Full<Bytes>),
    /// What a server says.
    Server(Box<ServerBody>),
    /// A file.
    File(Box<ServeFileSystemResponseBody>),
}

/// A body that broke off. The connection ends, so that the client does not take it for whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the server's body broke off: {0}")]
    Server(hyper::Error),
    #[error("the server did not go on with its body in time")]
    ServerTimeout,
    #[error("the client did not go on with its body in time")]
    ClientTimeout,
    #[error("the client's body broke off: {0}")]
    Client(hyper::Error),
    #[error("the client's body is over {0} bytes")]
    TooLarge(u64),
    #[error("the file could not be read: {0}")]
    File(std::io::Error),
}

/// An answer with a short text that says what is wrong to whoever looks at it.
pub fn text(status: StatusCode, detail: impl fmt::Display) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let text = format!("{} {reason}: {detail}\n", status.as_u16());
    with_type(status, Bytes::from(text), HeaderValue::from_static("text/plain; charset=utf-8"))
}

/// An answer with `content` of a media type.
pub fn with_type(status: StatusCode, content: Bytes, media_type: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::own(content));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// The answer to a request that no route serves.
pub fn unfit(unfit: Unfit) -> Response<Body> {
    let mut response = text(unfit.status(), unfit);
    response.headers_mut().extend(unfit.header());
    response
}

/// The answer to a handshake that must not be followed by a 101.
pub fn refusal(refusal: Refusal) -> Response<Body> {
    let mut response = text(refusal.status(), refusal);
    if let Some((name, value)) = refusal.header() {
        response.headers_mut().insert(name, value);
    }
    if refusal.status() == StatusCode::UPGRADE_REQUIRED {
        ask_for_upgrade(response.headers_mut());
    }
    response
}

/// The answer to plain HTTP where only WebSocket is served (RFC 9110, section 15.5.22).
pub fn upgrade_required() -> Response<Body> {
    let mut response =
        text(StatusCode::UPGRADE_REQUIRED, "only WebSocket connections are served here");
    ask_for_upgrade(response.headers_mut());
    response
}

fn ask_for_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
}

/// A 101 with the headers of `headers`, on which the three of the switch are set anew.
pub fn switching(mut headers: HeaderMap, accept: HeaderValue) -> Response<Body> {
    ask_for_upgrade(&mut headers);
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let mut response = Response::new(Body::own(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Has the connection end with this answer.
pub fn close_after(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Body {
    pub fn own(content: Bytes) -> Self {
        Self { content: Content::Own(Full::new(content)), over: None }
    }

    pub fn server(body: ServerBody) -> Self {
        Self { content: Content::Server(Box::new(body)), over: None }
    }

    pub fn file(body: ServeFileSystemResponseBody) -> Self {
        Self { content: Content::File(Box::new(body)), over: None }
    }

    /// Whether the edge knows all of it, with no server to wait for.
    pub fn is_own(&self) -> bool {
        !matches!(self.content, Content::Server(_))
    }

    /// Has `over` dropped when the answer is.
    pub fn before(mut self, over: Over) -> Self {
        self.over = Some(over);
        self
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.content {
            Content::Own(_) => "Body::own",
            Content::Server(_) => "Body::server",
            Content::File(_) => "Body::file",
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Content::Server(body) => Pin::new(&mut **body).poll_frame(cx),
            Content::File(body) => Pin::new(&mut **body).poll_frame(cx).map_err(BodyError::File),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(over)) = (&frame, &mut this.over) {
            over.count(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(body) => body.is_end_stream(),
            Content::Server(body) => body.is_end_stream(),
            Content::File(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(body) => body.size_hint(),
            Content::Server(body) => body.size_hint(),
            Content::File(body) => body.size_hint(),
        }
    }
}
