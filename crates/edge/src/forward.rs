//! Plain HTTP, from a client to a server and back, its bodies streamed.

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
use hyper::client::conn::http1::SendRequest;
use tidewire_runtime::socket::Socket;

use crate::answer::BodyError;
use crate::backend::{Backend, Lease};
use crate::bad_answer::cleanse;
use crate::caller::Caller;
use crate::client_body::{ClientBody, Upload, UploadState};
use crate::dial::{dial_another, dial_first};
use crate::fault::Fault;
use crate::http_io::{HttpIo, Meter};
use crate::send_proxy::Whose;
use crate::server_tls;
use crate::service::EdgeShard;
use crate::stick::session::Learner;
use crate::wait::Wait;

/// A server's answer, its head rebuilt for the client.
pub struct Forwarded {
    pub response: Response<ServerBody>,
    pub server: String,
}

/// Sends `request` (its head rebuilt already) to a server of `backend`, for `caller`.
///
/// A connection that was kept may have been closed by its server in the same moment. Then the
/// request goes out again on a new one, if nothing of it was sent, or if it may be sent twice
/// (RFC 9110, section 9.2.2).
pub async fn forward(
    shard: &Rc<EdgeShard>,
    backend: &Arc<Backend>,
    caller: &Caller,
    request: Request<ClientBody>,
) -> Result<Forwarded, Fault> {
    let upload = request.body().upload();
    let forwarded = forward_once_or_again(shard, backend, caller, request).await;
    forwarded.map_err(|fault| match upload.state() {
        UploadState::TooLarge(max) => Fault::BodyTooLarge(max),
        _ => fault,
    })
}

async fn forward_once_or_again(
    shard: &Rc<EdgeShard>,
    backend: &Arc<Backend>,
    caller: &Caller,
    request: Request<ClientBody>,
) -> Result<Forwarded, Fault> {
    let lease = backend.lease(caller, &[]).await?;
    let whose = backend.connector.whose(caller.way);
    let Some(sender) = shard.pool.take(lease.server().id, whose).await else {
        return forward_anew(shard, lease, caller, request).await;
    };
    let again = repeatable(&request);
    match (exchange(shard, caller, lease, sender, request).await, again) {
        (Ok(forwarded), _) => Ok(forwarded),
        (Err(Failed::Unsent(request)), _) => {
            forward_anew(shard, backend.lease(caller, &[]).await?, caller, *request).await
        }
        (Err(Failed::Fault(Fault::ServerClosed)), Some(request)) => {
            forward_anew(shard, backend.lease(caller, &[]).await?, caller, request).await
        }
        (Err(Failed::Fault(fault)), _) => Err(fault),
    }
}

/// Sends `request` on a connection of its own: nothing of it has reached a server. If it may be
/// sent twice, it goes to another one when this one does not take our certificate.
async fn forward_anew(
    shard: &Rc<EdgeShard>,
    lease: Lease,
    caller: &Caller,
    request: Request<ClientBody>,
) -> Result<Forwarded, Fault> {
    let backend = Arc::clone(lease.backend());
    let (mut lease, mut socket) = dial_first(lease, caller).await?;
    let (mut request, mut tried) = (request, Vec::new());
    loop {
        let may_go_on = backend.tls.is_some() && tried.len() < backend.retries as usize;
        let copy = may_go_on.then(|| repeatable(&request)).flatten();
        tried.push(lease.server().id);
        let sender = open(shard, socket).await?;
        let fault = match exchange(shard, caller, lease, sender, request).await {
            Ok(forwarded) => return Ok(forwarded),
            Err(failed) => failed.into_fault(),
        };
        let Some(again) = copy.filter(|_| fault.is_certificate_refused()) else {
            return Err(fault);
        };
        (lease, socket) = dial_another(&backend, caller, &tried).await?.ok_or(fault)?;
        request = again;
    }
}

/// A copy of a request that does no harm when it is carried out twice.
fn repeatable(request: &Request<ClientBody>) -> Option<Request<ClientBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(ClientBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Begins HTTP on a connection to a server; hyper's half of it gets a task.
async fn open(shard: &EdgeShard, socket: Socket) -> Result<SendRequest<ClientBody>, Fault> {
    let io = HttpIo::new(socket, Meter::new(Rc::clone(shard.worker())));
    let (sender, connection) = shard.server_http.handshake(io).await.map_err(Fault::from_hyper)?;
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
    caller: &Caller,
    lease: Lease,
    mut sender: SendRequest<ClientBody>,
    request: Request<ClientBody>,
) -> Result<Forwarded, Failed> {
    let timeout = lease.backend().timeouts.server.0;
    let upload = request.body().upload();
    let answered = tokio::time::timeout(timeout, sender.try_send_request(request)).await;
    let fail = |fault| {
        server_tls::report::note(&lease, &fault);
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
    if let Err(bad) = cleanse(&mut response) {
        return fail(Fault::BadAnswer(bad));
    }
    let server = lease.server().name.clone();
    let learner = caller.answered(&lease, response.status(), response.headers_mut());
    let whose = lease.backend().connector.whose(caller.way).map(Box::new);
    let response = response.map(|incoming| ServerBody {
        incoming,
        learner,
        wait: Wait::new(timeout),
        keep: Some(Keep { shard: Rc::clone(shard), sender, lease, whose, upload }),
    });
    Ok(Forwarded { response, server })
}

/// A server's body on its way to a client, with the claim on the server.
#[derive(Debug)]
pub struct ServerBody {
    incoming: Incoming,
    wait: Wait,
    /// Looks for the session that it begins with, if it may.
    learner: Option<Box<Learner>>,
    /// Taken when the body is whole.
    keep: Option<Keep>,
}

#[derive(Debug)]
struct Keep {
    shard: Rc<EdgeShard>,
    sender: SendRequest<ClientBody>,
    lease: Lease,
    /// Whose the connection is, if its server was told.
    whose: Option<Box<Whose>>,
    upload: Rc<Upload>,
}

impl ServerBody {
    /// A body without claims, of a connection that is not to be kept.
    pub fn of_last_exchange(incoming: Incoming, timeout: Duration) -> Self {
        Self { incoming, wait: Wait::new(timeout), learner: None, keep: None }
    }

    fn learn(&mut self, frame: &Frame<Bytes>) {
        let (Some(learner), Some(bytes)) = (&mut self.learner, frame.data_ref()) else { return };
        if learner.is_done_with(bytes) {
            self.learner = None;
        }
    }

    /// The body is whole: the connection can serve the next request, unless this one is still
    /// being sent.
    fn finish(&mut self) {
        if let Some(Keep { shard, sender, lease, whose, upload }) = self.keep.take()
            && upload.state() == UploadState::Whole
        {
            shard.pool.put(lease.server().id, whose.map(|it| *it), sender);
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
                this.wait.restart(0);
                if let Some(Ok(frame)) = &frame {
                    this.learn(frame);
                }
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
