//! Plain HTTP, from a client to a server and back, its bodies streamed.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use tidewire_runtime::socket::Socket;
use tidewire_wire::http::hop::strip_hop_by_hop;
use tokio::time::{Instant, Sleep};

use crate::answer::BodyError;
use crate::backend::{Backend, Lease};
use crate::dial::{dial, dial_leased};
use crate::fault::Fault;
use crate::http_io::{HttpIo, Meter};
use crate::service::EdgeShard;

/// A server's answer, its head rebuilt for the client.
pub struct Forwarded {
    pub response: Response<ServerBody>,
    pub server: String,
}

/// Sends `request` (its head rebuilt already) to a server of `backend`.
pub async fn forward(
    shard: &Rc<EdgeShard>,
    backend: &Arc<Backend>,
    request: Request<ClientBody>,
) -> Result<Forwarded, Fault> {
    let lease = backend.lease(&[]).await?;
    let key = (backend.index, lease.index());
    if let Some(sender) = shard.pool.take(key).await {
        match exchange(shard, lease, sender, request).await {
            Err(Failed::Unsent(request)) => return forward_anew(shard, backend, *request).await,
            Err(Failed::Fault(fault)) => return Err(fault),
            Ok(forwarded) => return Ok(forwarded),
        }
    }
    match dial_leased(&lease).await {
        Ok(socket) => {
            let sender = open(shard, socket).await?;
            exchange(shard, lease, sender, request).await.map_err(Failed::into_fault)
        }
        // The next server, then.
        Err(_) if backend.retries > 0 => forward_anew(shard, backend, request).await,
        Err(fault) => Err(fault),
    }
}

/// As [`forward`], on a connection of its own: nothing of the request has reached a server.
async fn forward_anew(
    shard: &Rc<EdgeShard>,
    backend: &Arc<Backend>,
    request: Request<ClientBody>,
) -> Result<Forwarded, Fault> {
    let (lease, socket) = dial(backend).await?;
    let sender = open(shard, socket).await?;
    exchange(shard, lease, sender, request).await.map_err(Failed::into_fault)
}

/// Begins HTTP on a connection to a server; hyper's half of it gets a task.
async fn open(shard: &EdgeShard, socket: Socket) -> Result<SendRequest<ClientBody>, Fault> {
    let io = HttpIo::new(socket, Meter::new(Rc::clone(shard.worker())));
    let (sender, connection) = http1::handshake(io).await.map_err(Fault::from_hyper)?;
    tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for the response.
        let _ = connection.await;
    });
    Ok(sender)
}

enum Failed {
    Fault(Fault),
    /// The connection was closed before anything of the request was sent.
    Unsent(Box<Request<ClientBody>>),
}

impl Failed {
    fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Unsent(_) => Fault::ServerClosed,
        }
    }
}

async fn exchange(
    shard: &Rc<EdgeShard>,
    lease: Lease,
    mut sender: SendRequest<ClientBody>,
    request: Request<ClientBody>,
) -> Result<Forwarded, Failed> {
    let timeout = lease.backend().timeouts.server.0;
    let answered = tokio::time::timeout(timeout, sender.try_send_request(request)).await;
    let fail = |fault| {
        lease.server().counts.response_errors.fetch_add(1, Ordering::Relaxed);
        Err(Failed::Fault(fault))
    };
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(mut error)) => match error.take_message() {
            Some(request) => return Err(Failed::Unsent(Box::new(request))),
            None => return fail(Fault::from_hyper(error.into_error())),
        },
        Err(_) => return fail(Fault::ServerTimeout),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return fail(Fault::UnaskedSwitch);
    }
    strip_hop_by_hop(response.headers_mut());
    let server = lease.server().name.clone();
    let response = response.map(|incoming| ServerBody {
        incoming,
        wait: Wait::new(timeout),
        keep: Some(Keep { shard: Rc::clone(shard), sender, lease }),
    });
    Ok(Forwarded { response, server })
}

/// A server's body on its way to a client, with the claim on the server.
#[derive(Debug)]
pub struct ServerBody {
    incoming: Incoming,
    wait: Wait,
    /// Taken when the body is whole.
    keep: Option<Keep>,
}

#[derive(Debug)]
struct Keep {
    shard: Rc<EdgeShard>,
    sender: SendRequest<ClientBody>,
    lease: Lease,
}

impl ServerBody {
    /// A body without claims, of a connection that is not to be kept.
    pub fn of_last_exchange(incoming: Incoming, timeout: Duration) -> Self {
        Self { incoming, wait: Wait::new(timeout), keep: None }
    }

    /// The body is whole: the connection can serve the next request.
    fn finish(&mut self) {
        if let Some(Keep { shard, sender, lease }) = self.keep.take() {
            shard.pool.put((lease.backend().index, lease.index()), sender);
        }
    }
}

impl HttpBody for ServerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.wait.restart();
                match &frame {
                    Some(Ok(_)) if this.incoming.is_end_stream() => this.finish(),
                    None => this.finish(),
                    _ => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Server)))
            }
            Poll::Pending if this.wait.is_over(cx) => {
                Poll::Ready(Some(Err(BodyError::ServerTimeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ServerBody {
    fn drop(&mut self) {
        // A body that was empty from the start is never polled.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

/// A client's body on its way to a server.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    wait: Wait,
}

impl ClientBody {
    pub fn new(incoming: Incoming, timeout: Duration) -> Self {
        Self { incoming, wait: Wait::new(timeout) }
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
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.wait.restart();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)))
            }
            Poll::Pending if this.wait.is_over(cx) => {
                Poll::Ready(Some(Err(BodyError::ClientTimeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The time that a peer has to go on with its body. Armed by the first wait, so that a body that
/// is there at once costs no timer.
#[derive(Debug)]
struct Wait {
    timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn new(timeout: Duration) -> Self {
        Self { timeout, sleep: None }
    }

    fn restart(&mut self) {
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(Instant::now() + self.timeout);
        }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let timeout = self.timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        sleep.as_mut().poll(cx).is_ready()
    }
}
