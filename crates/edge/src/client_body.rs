//! A client's body on its way to a server: how much there may be of it, and how slowly it may come.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::answer::BodyError;
use crate::limits::body::BodyLimits;
use crate::onward::silence;
use crate::service::Edge;
use crate::wait::Wait;

/// A client's body on its way to a server.
#[derive(Debug)]
pub struct ClientBody {
    /// `None` is empty.
    source: Option<Source>,
    upload: Rc<Upload>,
    wait: Wait,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// Knows what its trailers must not say.
    edge: Arc<Edge>,
    max: Option<u64>,
    passed: u64,
}

/// What becomes of a body, for who waits for the answer to it.
#[derive(Debug)]
pub struct Upload(Cell<UploadState>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Also of one that was dropped before its end.
    UnderWay,
    /// The server's side has been given all of it.
    Whole,
    /// There was more than so many bytes.
    TooLarge(u64),
    /// It broke off, or was too slow.
    Broken,
}

impl Upload {
    pub fn state(&self) -> UploadState {
        self.0.get()
    }
}

impl ClientBody {
    /// `timeout` is how long the client may take to go on with it.
    pub fn new(
        incoming: Incoming,
        limits: &BodyLimits,
        timeout: Duration,
        edge: Arc<Edge>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let wait = Wait::new(timeout).with_rate(limits.min_rate);
        let source = Source { incoming, edge, max: limits.max, passed: 0 };
        let upload = Rc::new(Upload(Cell::new(UploadState::UnderWay)));
        Self { source: Some(source), upload, wait }
    }

    pub(crate) fn empty() -> Self {
        let upload = Rc::new(Upload(Cell::new(UploadState::Whole)));
        Self { source: None, upload, wait: Wait::new(Duration::ZERO) }
    }

    pub fn upload(&self) -> Rc<Upload> {
        Rc::clone(&self.upload)
    }

    fn end(&self, state: UploadState) {
        if self.upload.state() == UploadState::UnderWay {
            self.upload.0.set(state);
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => None,
            // Also when its connection was dropped within it.
            Some(Err(error)) => Some(Err(BodyError::Client(error))),
            Some(Ok(frame)) => Some(self.pass(frame)),
        })
    }

    fn pass(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(trailers) = frame.trailers_mut() {
            silence(trailers, &self.edge.identity_headers);
            drop_of_heads(trailers);
        }
        self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.max {
            Some(max) if self.passed > max => Err(BodyError::TooLarge(max)),
            _ => Ok(frame),
        }
    }
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        let polled = match source.poll_frame(cx) {
            Poll::Pending if this.wait.is_over(cx) => {
                Poll::Ready(Some(Err(BodyError::ClientTimeout)))
            }
            polled => polled,
        };
        let state = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => UploadState::Whole,
            Poll::Ready(Some(Ok(frame))) => {
                this.wait.restart(frame.data_ref().map_or(0, Bytes::len));
                if !source.incoming.is_end_stream() {
                    return polled;
                }
                UploadState::Whole
            }
            Poll::Ready(Some(Err(BodyError::TooLarge(max)))) => UploadState::TooLarge(*max),
            Poll::Ready(Some(Err(_))) => UploadState::Broken,
        };
        this.end(state);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let incoming = self.source.as_ref().map(|source| &source.incoming);
        incoming.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Takes out of trailers what belongs into a head (RFC 9110, section 6.5.1): some servers make one
/// list of the two, and would take a second host or another user from here.
fn drop_of_heads(trailers: &mut HeaderMap) {
    tidewire_wire::http::hop::strip_hop_by_hop(trailers);
    for name in &OF_HEADS {
        trailers.remove(name);
    }
}

const OF_HEADS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::ORIGIN,
];
