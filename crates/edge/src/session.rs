//! A client's connection while it speaks HTTP.
//!
//! ```text
//!   Head ──head read──> Answering ──answer over──> KeepAlive ──head begins──> Head ...
//!                           └─ 101 written ──> handed over: to a tunnel or an endpoint
//! ```
//!
//! hyper reads and writes; what is asked of a request, in order, is in [`request`].

mod request;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tidewire_runtime::conn::{Conn, Upgraded};
use tidewire_runtime::connections::{Signal, Watch};
use tidewire_runtime::deadline::{Tick, ticks};
use tidewire_runtime::newcomers;
use tidewire_runtime::socket::Socket;
use tidewire_runtime::tls::Secured;
use tokio::task::yield_now;

use crate::access_log::{ConnectionRecord, Record, TlsVersion};
use crate::answer::{self, Body, close_after};
use crate::client_address::ClientAddress;
use crate::door::{self};
use crate::end::{End, Party, Phase, Reason};
use crate::framing::{Answer as Answering, Framing, Refused};
use crate::handover::Handover;
use crate::http_io::{HttpIo, Meter};
use crate::hygiene;
use crate::last_word::LastWord;
use crate::limits::turnstile::{Entered, Pass};
use crate::linger::linger;
use crate::rules::Judgement;
use crate::service::EdgeShard;
use crate::tls::handshake::handshake;

/// Serves HTTP to a client until its connection ends or becomes a WebSocket.
/// `via` is the proxy that has said that the client is at the connection's peer.
pub async fn run(
    shard: Rc<EdgeShard>,
    conn: Conn,
    listener: usize,
    entered: Entered,
    via: Option<IpAddr>,
) {
    let (conn, entrance) = match entered {
        Entered { pass, line: None } => (conn, pass),
        entered => {
            // Boxed: those who do not wait do not carry its room.
            let waits = Box::pin(door::wait_for_turn(&shard, conn, listener, via, entered));
            let Some(in_now) = waits.await else { return };
            in_now
        }
    };
    let (conn, secured) = match shard.edge.tls[listener].clone() {
        None => (conn, None),
        Some(tls) => {
            // Boxed: what a handshake needs is gone when it is over.
            let shaken = Box::pin(handshake(&shard, conn, listener, &tls)).await;
            let Some((conn, secured)) = shaken else { return };
            (conn, Some(secured))
        }
    };
    let Conn { socket, watch, peer, local } = conn;
    let framing = Framing::new(shard.edge.head_limits[listener]);
    let meter = Meter::of_client(Rc::clone(shard.worker()), framing);
    let session = Rc::new(Session {
        watch,
        meter: Rc::clone(&meter),
        stage: Cell::new(Stage::Head),
        handover: RefCell::new(None),
        requests: Cell::new(0),
        begun: Instant::now(),
        client: ClientAddress::new(peer, via),
        local,
        listener,
        secured,
        entrance: RefCell::new(entrance),
        shard,
    });
    let io = HttpIo::new(socket, meter);
    let mut http = session.shard.http[listener].serve_connection(io, Service(Rc::clone(&session)));
    session.watch.expire_after(ticks(session.shard.edge.timeouts.http_request.0));
    let mut outcome = poll_fn(|cx| {
        let was_said = session.framing().answer() == Answering::Said;
        let mut polled = Pin::new(&mut http).poll(cx);
        if matches!(polled, Poll::Ready(Ok(()))) && session.is_cut_short() {
            polled = Pin::new(&mut http).poll(cx);
        }
        if let Poll::Ready(result) = polled {
            return Poll::Ready(Outcome::Over(result));
        }
        if was_said && session.framing().answer() == Answering::None {
            session.wait_for_next();
        }
        if let Some(refused) = session.framing().refused(session.requests.get()) {
            return Poll::Ready(Outcome::Refused(refused));
        }
        while let Poll::Ready(signal) = session.watch.poll_signal(cx) {
            match signal {
                Signal::Stop => return Poll::Ready(Outcome::Ended(Party::Edge, Reason::Drain)),
                Signal::Drain => {
                    Pin::new(&mut http).graceful_shutdown();
                    if session.is_idle() {
                        return Poll::Ready(Outcome::Ended(Party::Edge, Reason::Drain));
                    }
                }
                Signal::Expired => {
                    if let Some(reason) = session.expired() {
                        return Poll::Ready(Outcome::Ended(Party::Client, reason));
                    }
                }
            }
        }
        Poll::Pending
    })
    .await;
    let parts = http.into_parts();
    drop(parts.service);
    let (mut socket, rest) = parts.io.into_socket_and_rest();
    if matches!(outcome, Outcome::Over(Ok(()))) && !rest.is_empty() {
        outcome = session.write_rest(&mut socket, &rest).await;
    }
    let handover = session.handover.take();
    match handover.filter(|_| matches!(outcome, Outcome::Over(Ok(())))) {
        Some(handover) => {
            let session = Rc::into_inner(session).expect("hyper was the only other owner");
            session.watch.renew();
            let conn = Conn { socket, watch: session.watch, peer, local };
            handover.start(&session.shard, Upgraded { conn, leftover: parts.read_buf });
        }
        None => session.end(outcome, socket).await,
    }
}

/// The state of a client's connection, shared by its task, hyper, and the bodies of its answers.
#[derive(Debug)]
pub struct Session {
    shard: Rc<EdgeShard>,
    watch: Watch,
    meter: Rc<Meter>,
    stage: Cell<Stage>,
    handover: RefCell<Option<Handover>>,
    requests: Cell<u32>,
    begun: Instant,
    /// Who has connected; a proxy may say of each request whose it is.
    client: ClientAddress,
    local: std::net::SocketAddr,
    listener: usize,
    /// What its TLS handshake has settled, when there was one.
    secured: Option<Secured>,
    /// What counts it at its listener.
    entrance: RefCell<Option<Pass>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first request is waited for or being read.
    Head,
    Answering,
    /// A further request is waited for or being read.
    KeepAlive,
}

enum Outcome {
    Over(hyper::Result<()>),
    Ended(Party, Reason),
    Refused(Refused),
}

impl Session {
    /// Answers a request.
    async fn respond(self: Rc<Self>, request: Request<Incoming>) -> Response<Body> {
        // The answer before it may have been written meanwhile, and the end said.
        self.framing().keep_end();
        self.stage.set(Stage::Answering);
        self.requests.set(self.requests.get() + 1);
        self.framing().set_answer(Answering::Owed);
        self.entrance.replace(self.entrance.take().and_then(Pass::open));
        self.watch.expire_after(self.client_timeout());
        newcomers::turn().await;
        let (parts, body) = request.into_parts();
        let is_logged = self.shard.edge.is_logging_requests;
        let asker = self.asker(&parts.headers);
        let mut record = Record::new(asker, self.listener, is_logged.then_some(&parts));
        record.tls = self.secured.as_ref().map(TlsVersion::of);
        let mut judged = Judgement::default();
        let mut response = match hygiene::check(&parts) {
            Err(unfit) => close_after(answer::unfit(unfit)),
            Ok(()) => self.route(&mut record, parts, body, &mut judged).await,
        };
        judged.change_response(response.headers_mut());
        self.framing().set_answer(Answering::Begun);
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.framing().ends_with(self.requests.get()) && !is_switch {
            response = close_after(response);
        }
        record.status = response.status().as_u16();
        self.count(&record, response.status());
        if is_switch {
            self.framing().written().await;
            self.framing().set_answer(Answering::Switch);
            return response; // The WebSocket gets the line.
        }
        if response.body().is_own() {
            self.framing().keep_end();
        }
        self.https().mark(response.headers_mut());
        let over = Over { session: self, record, body_bytes: 0 };
        response.map(|body| body.before(over))
    }

    fn framing(&self) -> &Framing {
        self.meter.framing().expect("the connection is a client's")
    }

    /// Whether hyper is over before an answer is written: where an upgrade was asked for, and no 101
    /// given, it says so once without a flush.
    fn is_cut_short(&self) -> bool {
        self.handover.borrow().is_none() && self.framing().is_unwritten()
    }

    /// Writes the rest of a 101, to a client that has not taken what was said before.
    async fn write_rest(&self, socket: &mut Socket, mut rest: &[u8]) -> Outcome {
        self.watch.expire_never();
        self.watch.expire_after(self.client_timeout());
        poll_fn(|cx| {
            while !rest.is_empty() {
                match socket.poll_write(cx, rest) {
                    Poll::Ready(Ok(length)) => rest = &rest[length..],
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Outcome::Ended(Party::Client, Reason::Broken));
                    }
                    Poll::Pending => match ready!(self.watch.poll_signal(cx)) {
                        Signal::Expired => {
                            return Poll::Ready(Outcome::Ended(Party::Client, Reason::Slow));
                        }
                        Signal::Stop => {
                            return Poll::Ready(Outcome::Ended(Party::Edge, Reason::Drain));
                        }
                        Signal::Drain => {} // The next owner is told again.
                    },
                }
            }
            Poll::Ready(Outcome::Over(Ok(())))
        })
        .await
    }

    /// Whether no request is being read or answered.
    fn is_idle(&self) -> bool {
        self.stage() != Stage::Answering && self.meter.heard().is_none()
    }

    /// Until it is written, an answer goes on.
    fn stage(&self) -> Stage {
        match self.framing().answer() {
            Answering::Said => Stage::Answering,
            _ => self.stage.get(),
        }
    }

    /// Waits for somebody else, if it has to be, as nobody does for a client that has left: of its
    /// end hyper hears meanwhile.
    async fn waits_for<T>(&self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        let mut is_waiting = false;
        let said = poll_fn(|cx| {
            let polled = other.as_mut().poll(cx);
            if polled.is_pending() && !std::mem::replace(&mut is_waiting, true) {
                self.framing().say_end();
            }
            polled
        })
        .await;
        self.framing().keep_end();
        said
    }

    /// From here on a server is to answer, which nobody asks for a client that has left.
    async fn hear_end(&self) {
        if self.framing().say_end() {
            yield_now().await;
        }
    }

    fn client_timeout(&self) -> Tick {
        ticks(self.shard.edge.timeouts.client.0)
    }

    /// An answer is over: the next request may come.
    fn answered(&self) {
        self.stage.set(Stage::KeepAlive);
        self.framing().note_said();
        self.meter.begin();
        self.wait_for_next();
    }

    fn wait_for_next(&self) {
        self.watch.expire_never(); // One that has passed is not for what begins here.
        self.watch.expire_after(ticks(self.shard.edge.timeouts.http_keep_alive.0));
    }

    /// The deadline has passed: why the connection ends, or `None` if it need not.
    fn expired(&self) -> Option<Reason> {
        let timeouts = &self.shard.edge.timeouts;
        let now = self.watch.now();
        match (self.stage(), self.meter.heard(), self.meter.stalled()) {
            (Stage::Head, ..) => Some(Reason::HttpRequestTimeout),
            (Stage::KeepAlive, None, _) => Some(Reason::KeepAliveTimeout),
            (Stage::KeepAlive, Some(heard), _) => {
                let at = heard.saturating_add(ticks(timeouts.http_request.0));
                if at <= now {
                    return Some(Reason::HttpRequestTimeout);
                }
                self.watch.expire_at(at);
                None
            }
            (Stage::Answering, _, Some(since)) if since + self.client_timeout() <= now => {
                Some(Reason::Slow)
            }
            (Stage::Answering, ..) => {
                self.watch.expire_after(self.client_timeout());
                None
            }
        }
    }

    async fn end(self: Rc<Self>, outcome: Outcome, mut socket: Socket) {
        let phase = match self.stage() {
            Stage::Answering => Phase::Response,
            _ => Phase::Request,
        };
        let end = match &outcome {
            Outcome::Ended(by, reason) => End::by(*by, *reason),
            Outcome::Refused(_) => End::by(Party::Client, Reason::BadRequest),
            Outcome::Over(result) => self.why(result.as_ref().err()),
        };
        let last_word = match outcome {
            Outcome::Refused(refused) => Some(LastWord::Refused(refused)),
            Outcome::Over(Err(error)) if end.reason == Reason::BadRequest => {
                Some(LastWord::Unreadable(error))
            }
            _ if end.reason == Reason::HttpRequestTimeout && self.meter.heard().is_some() => {
                Some(LastWord::TooLate)
            }
            _ => None,
        };
        let error = last_word.as_ref().map(LastWord::to_string);
        let can_be_told = match &last_word {
            Some(LastWord::Refused(refused)) => refused.can_be_told,
            // What does not go on is the body of a request that has its answer.
            Some(LastWord::TooLate) if !self.framing().is_in_head(self.requests.get()) => false,
            _ => self.framing().answer() == Answering::None,
        };
        if let Some(last_word) = last_word.filter(|_| can_be_told) {
            self.shard.metrics.unrouted.add(1);
            last_word.say(&mut socket);
        }
        let record = ConnectionRecord {
            client: self.client,
            listener: self.listener,
            begun: self.begun,
            requests: self.requests.get(),
            bytes_in: self.meter.bytes_in(),
            bytes_out: self.meter.bytes_out(),
            tls: self.secured.as_ref().map(TlsVersion::of),
            error,
        };
        record.log(&self.shard, end, phase);
        let is_cut = end.reason == Reason::BadRequest && !can_be_told;
        if is_cut || matches!(end.reason, Reason::Slow | Reason::Broken) {
            socket.reset_on_drop();
        } else if end.by != Party::Client || end.reason != Reason::Eof {
            linger(&mut socket, &self.watch).await;
        }
    }

    fn why(&self, error: Option<&hyper::Error>) -> End {
        let Some(error) = error else {
            return match self.stage.get() {
                Stage::Head => End::by(Party::Client, Reason::Eof),
                _ => End::by(Party::Client, Reason::Done),
            };
        };
        if error.is_incomplete_message() {
            End::by(Party::Client, Reason::Eof)
        } else if error.is_parse() || error.is_parse_too_large() {
            End::by(Party::Client, Reason::BadRequest)
        } else if error.is_user() {
            End::by(Party::Server, Reason::BadBody)
        } else {
            End::by(Party::Client, Reason::Broken)
        }
    }
}

/// Dropped when an answer is over: writes the request's line and lets the next request come.
#[derive(Debug)]
pub struct Over {
    session: Rc<Session>,
    record: Record,
    body_bytes: u64,
}

impl Over {
    /// Takes note of bytes of the body that are on their way.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.body_bytes += bytes as u64;
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        self.record.log(&self.session.shard, self.body_bytes);
        self.session.answered();
    }
}

/// The session as hyper sees it.
struct Service(Rc<Session>);

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.0.framing().keep_end();
        Answer(Box::pin(Rc::clone(&self.0).respond(request)))
    }
}

/// An answer on its way.
struct Answer(Pin<Box<dyn Future<Output = Response<Body>>>>);

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        newcomers::measured(|| self.0.as_mut().poll(cx)).map(Ok)
    }
}
