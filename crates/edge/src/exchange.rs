//! The upgrade: a client's handshake goes to a server, whose 101 is checked before anybody is told.
//!
//! ```text
//!   dial ─> request sent ─> head read ─┬─ 101 that answers the offer ─> Switched: two raw sockets
//!                                      ├─ another 101 ─> 502, the connection closed
//!                                      └─ any other answer ─> passed on, the connection not kept
//! ```
//!
//! Until the 101 is there and right, this connection is HTTP: a proxy that tunnels on the client's
//! word alone lets it smuggle requests past every rule (hostile servers: on the server's).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use tidewire_runtime::socket::Socket;
use tidewire_wire::ws::handshake::{Offer, check_switch};

use crate::answer::{self, Body};
use crate::backend::{Backend, Lease};
use crate::bad_answer::cleanse;
use crate::caller::Caller;
use crate::dial::{dial, dial_another};
use crate::ejection::Deed;
use crate::fault::Fault;
use crate::forward::ServerBody;
use crate::http_io::{HttpIo, Meter};
use crate::limits::table::Key;
use crate::server_tls;
use crate::service::EdgeShard;
use crate::tunnel::ServerSide;

/// What a server made of a handshake.
pub enum Exchanged {
    Switched(Switched),
    /// Not a 101: a response like any other.
    Declined {
        response: Response<Body>,
        server: String,
    },
}

/// Both sides have agreed to speak WebSocket.
pub struct Switched {
    /// For the client.
    pub response: Response<Body>,
    pub server: ServerSide,
}

/// Takes the handshake `request` (its head rebuilt) to a server of `backend`, for `caller`.
pub async fn exchange(
    shard: &EdgeShard,
    backend: &Arc<Backend>,
    caller: &Caller,
    request: Request<()>,
    offer: &Offer,
) -> Result<Exchanged, Fault> {
    let place = backend.enter_tunnel()?;
    let (lease, answered) = ask_servers(shard, backend, caller, request).await?;
    let Answered { mut response, connection, is_over } = answered;
    let fail = |fault| {
        note_failure(&lease, caller, &fault);
        Err(fault)
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        if let Err(bad) = cleanse(&mut response) {
            return fail(Fault::BadAnswer(bad));
        }
        let counts_errors = backend.ejection.as_ref().is_some_and(|it| it.config.server_errors);
        if counts_errors && response.status().is_server_error() {
            note_unswitched(&lease, caller);
        }
        caller.answered(&lease, response.status(), response.headers_mut());
        return Ok(decline(response, (!is_over).then_some(connection), lease));
    }
    let switch = match check_switch(response.status(), response.headers(), offer) {
        Ok(switch) => switch,
        Err(wrong) => return fail(Fault::Switch(wrong)),
    };
    // Taken before: a server may nominate it in its Connection.
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).cloned();
    let accept = accept.expect("a switch that was checked has it, and it is right");
    if let Err(bad) = cleanse(&mut response) {
        return fail(Fault::BadAnswer(bad));
    }
    backend.note(lease.server(), Deed::Switched);
    caller.answered(&lease, response.status(), response.headers_mut());
    let headers = std::mem::take(response.headers_mut());
    let parts = connection.into_parts();
    Ok(Exchanged::Switched(Switched {
        response: answer::switching(headers, accept),
        server: ServerSide {
            socket: parts.io.into_socket(),
            leftover: parts.read_buf,
            extensions: switch.extensions,
            lease: place.hold(lease),
        },
    }))
}

/// Asks a server of `backend`, and another one when it does not take our certificate: nothing has
/// come of the request then.
async fn ask_servers(
    shard: &EdgeShard,
    backend: &Arc<Backend>,
    caller: &Caller,
    mut request: Request<()>,
) -> Result<(Lease, Answered), Fault> {
    let (mut lease, mut socket) = dial(backend, caller).await?;
    let mut tried = Vec::new();
    loop {
        let may_go_on = backend.tls.is_some() && tried.len() < backend.retries as usize;
        let copy = may_go_on.then(|| request.clone());
        let asked = tokio::time::timeout(backend.timeouts.server.0, ask(shard, socket, request));
        let fault = match asked.await {
            Ok(Ok(answered)) => return Ok((lease, answered)),
            Ok(Err(error)) => Fault::from_hyper(error),
            Err(_) => Fault::ServerTimeout,
        };
        note_failure(&lease, caller, &fault);
        let Some(again) = copy.filter(|_| fault.is_certificate_refused()) else {
            return Err(fault);
        };
        tried.push(lease.server().id);
        drop(lease);
        (lease, socket) = dial_another(backend, caller, &tried).await?.ok_or(fault)?;
        request = again;
    }
}

fn note_failure(lease: &Lease, caller: &Caller, fault: &Fault) {
    note_unswitched(lease, caller);
    server_tls::report::note(lease, fault);
    lease.server().counts.response_errors.fetch_add(1, Ordering::Relaxed);
}

fn note_unswitched(lease: &Lease, caller: &Caller) {
    if let Some(way) = &caller.way {
        lease.backend().note(lease.server(), Deed::NotSwitched(Key::of_address(way.client.ip())));
    }
}

type Connection = http1::Connection<HttpIo, Empty<Bytes>>;

struct Answered {
    response: Response<hyper::body::Incoming>,
    connection: Connection,
    /// Whether hyper is done with the connection, as it is after a 101.
    is_over: bool,
}

/// Sends the request and reads the head of the answer, with hyper's half of the connection driven
/// by this task: no other is needed for what is one question and one answer.
async fn ask(shard: &EdgeShard, socket: Socket, request: Request<()>) -> hyper::Result<Answered> {
    let io = HttpIo::new(socket, Meter::new(std::rc::Rc::clone(shard.worker())));
    let (mut sender, mut connection) = shard.server_http.handshake(io).await?;
    let answer = sender.send_request(request.map(|()| Empty::new()));
    let mut answer = std::pin::pin!(answer);
    let mut is_over = false;
    let response = std::future::poll_fn(|cx| {
        if !is_over {
            // Done with a 101; an error comes out of `answer`, which knows what it means.
            is_over = connection.poll_without_shutdown(cx).is_ready();
        }
        answer.as_mut().poll(cx)
    });
    let response = response.await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !is_over {
        std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
        is_over = true;
    }
    Ok(Answered { response, connection, is_over })
}

/// Passes on an answer that is not a 101. The connection closes behind it, since what the client
/// sent meanwhile may be frames or requests.
fn decline(
    response: Response<hyper::body::Incoming>,
    connection: Option<Connection>,
    lease: Lease,
) -> Exchanged {
    let server = lease.server().name.clone();
    let timeout = lease.backend().timeouts.server.0;
    if let Some(connection) = connection {
        tokio::task::spawn_local(async move {
            let _ = connection.await;
            drop(lease);
        });
    }
    let body = |incoming| Body::server(ServerBody::of_last_exchange(incoming, timeout));
    Exchanged::Declined { response: response.map(body), server }
}
