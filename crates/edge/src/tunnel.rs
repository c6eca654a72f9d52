//! Two sockets that speak WebSocket to each other through us. No HTTP runs here.
//!
//! ```text
//!   Open ──worker drains, server-to-client bytes cut at the end of a frame──> Closing
//!     Close 1001 goes to the client; its own Close goes on to the server as any frame does, the
//!     server answers and ends, and so do we: each side has seen an orderly close.
//!   Open ──both sides have said their Close──> Closing, for the rest of which there is a deadline
//!   Open, Closing ──both directions ended, a socket broke, or a deadline──> over, one log line
//! ```
//!
//! When the edge has its own reason to end it, both directions are cut (`closing`): a side has
//! broken a rule or passed a limit, the client's identity has lapsed, or it is old enough. That may
//! come at any stage but the last, and leads to Closing.
//!
//! The bytes are not changed and not copied. A [`Cursor`](tidewire_wire::ws::cursor::Cursor) per
//! direction follows the frames in them, which costs a few bytes of state and is what limits,
//! metrics and an orderly close need. On a route with limits an `inspector` sees each header before
//! anything of its frame passes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidewire_auth::live::{Call, Lapse, Live};
use tidewire_runtime::conn::{Conn, Upgraded};
use tidewire_runtime::connections::{Signal, Watch};
use tidewire_runtime::deadline::{NEVER, Tick, ticks};
use tidewire_runtime::pump::PumpError;
use tidewire_runtime::socket::Socket;
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::message::Role;
use tidewire_wire::ws::rules::Extensions;

use crate::access_log::WebSocketRecord;
use crate::backend::TunnelLease;
use crate::closing::{Cause, Closing};
use crate::end::{End, Party, Reason};
use crate::endpoint::Passed;
use crate::flow::{Extent, Flow, Terms};
use crate::linger::Lingering;
use crate::patience::Patience;
use crate::pings::Pinger;
use crate::service::EdgeShard;
use crate::timeout::Timeouts;

/// A client's WebSocket and a server's, joined.
#[derive(Debug)]
pub struct Tunnel {
    client: Client,
    server: Socket,
    /// From the client to the server.
    up: Flow,
    /// From the server to the client.
    down: Flow,
    stage: Stage,
    /// When something last passed.
    active: Tick,
    /// Who sent the first Close frame, or ended its direction first without one.
    first: Option<Party>,
    lease: TunnelLease,
    /// Who the client is, when the route asks for that.
    live: Option<Live>,
    /// Set when the edge ends it.
    closing: Option<Box<Closing>>,
    /// When it is as old as it may become.
    dies: Tick,
    /// With whoever takes nothing, on a route that does not wait for ever.
    patience: Patience,
    /// On a route that pings.
    pinger: Option<Box<Pinger>>,
    shard: Rc<EdgeShard>,
    record: Option<Box<WebSocketRecord>>,
}

/// A client's connection. Its addresses are not here: the record has what is still asked of them.
#[derive(Debug)]
struct Client {
    socket: Socket,
    watch: Watch,
}

/// A server that has agreed to speak WebSocket.
#[derive(Debug)]
pub struct ServerSide {
    pub socket: Socket,
    /// What it sent right behind its 101.
    pub leftover: Bytes,
    pub extensions: Extensions,
    pub lease: TunnelLease,
}

impl Tunnel {
    /// Joins `upgraded` with the server's socket. What either side has sent already, the client
    /// behind its handshake and the server behind its 101, goes first.
    pub fn new(
        upgraded: Upgraded,
        server: ServerSide,
        live: Option<Live>,
        shard: Rc<EdgeShard>,
        record: Box<WebSocketRecord>,
    ) -> Self {
        let Conn { socket, watch, .. } = upgraded.conn;
        let active = watch.now();
        shard.metrics.routes[record.route()].open.add(1);
        let route = &shard.edge.routes[record.route()];
        let limits = &route.limits;
        let terms = |limits| Terms { limits, now: active };
        let pinger = Pinger::new(&route.pings, (&upgraded.leftover, &server.leftover), active);
        let extensions = server.extensions;
        let (client, leftover) = (terms(&limits.client), upgraded.leftover);
        let up = Flow::with_leftover(leftover, Role::Server, extensions, client);
        let (leftover, terms) = (server.leftover, terms(&limits.server));
        let down = Flow::with_leftover(leftover, Role::Client, extensions, terms);
        let dies = limits.lifetime.map_or(NEVER, |most| active.saturating_add(lifetime(most)));
        let mut tunnel = Self {
            client: Client { socket, watch },
            server: server.socket,
            up,
            down,
            stage: Stage::Open,
            active,
            first: None,
            lease: server.lease,
            live,
            closing: None,
            dies,
            patience: Patience::default(),
            pinger,
            shard,
            record: Some(record),
        };
        tunnel.count(tunnel.passed());
        tunnel.rearm();
        tunnel.join();
        tunnel
    }

    /// Makes it known to those who move clients away from servers, if anybody does.
    fn join(&self) {
        if self.lease.backend().moving.is_on() {
            let server = self.lease.server();
            self.client.watch.join(server.id.number(), &server.members);
        }
    }

    fn timeouts(&self) -> &Timeouts {
        &self.lease.backend().timeouts
    }

    /// Moves what can be moved. Ready when the tunnel is over.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.passed();
        let (client, server) = (&mut self.client.socket, &mut self.server);
        let (upward, downward) = match (self.stage, &self.closing) {
            (_, Some(_)) => (Extent::ToBoundary, Extent::ToBoundary),
            (Stage::Draining, None) => (Extent::All, Extent::ToBoundary),
            (Stage::Open | Stage::Closing, None) => (Extent::All, Extent::All),
        };
        let now = self.client.watch.now();
        let route = self.record.as_ref().map_or(0, |record| record.route());
        let limits = &self.shard.edge.routes[route].limits;
        let terms = |limits| Terms { limits, now };
        let (of_client, of_server) = self.pinger.as_mut().map(|pinger| pinger.sieves()).unzip();
        let up = self.up.poll(cx, client, server, upward, terms(&limits.client), of_client);
        let down = self.down.poll(cx, server, client, downward, terms(&limits.server), of_server);
        self.note(before);
        if self.closing.is_none()
            && let Some(cause) = self.refused()
        {
            // Whether either is gone meanwhile is for the next round to find out.
            self.close(cause);
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = up {
            return Poll::Ready(self.broken(Party::Client, Party::Server, &error));
        }
        if let Poll::Ready(Err(error)) = down {
            return Poll::Ready(self.broken(Party::Server, Party::Client, &error));
        }
        if self.is_cut_off() {
            return Poll::Ready(End::by(Party::Server, Reason::Broken));
        }
        if self.is_over() {
            return Poll::Ready(self.over());
        }
        if let Some(closing) = &self.closing
            && closing.has_client_left(&self.up, (&self.down, &self.client.socket))
            && self.down.must_tell()
        {
            // It has said all that it had to say, and waits for the end.
            let _ = self.client.socket.shutdown_write();
        }
        // The other direction may go on: half-closed is a state that peers rely on.
        let may_tell = self.closing.as_ref().map_or((true, true), |closing| closing.may_tell());
        if may_tell.0 && self.up.ends_now() && self.server.shutdown_write().is_err() {
            return Poll::Ready(
                self.closed_by_us().unwrap_or(End::by(Party::Server, Reason::Broken)),
            );
        }
        if may_tell.1 && self.down.ends_now() && self.client.socket.shutdown_write().is_err() {
            return Poll::Ready(
                self.closed_by_us().unwrap_or(End::by(Party::Client, Reason::Broken)),
            );
        }
        // That may be unsent still, and its pump does not run any more.
        if self.up.pump.is_ended() && is_broken(self.server.poll_flush(cx)) {
            return Poll::Ready(End::by(Party::Server, Reason::Broken));
        }
        if self.down.pump.is_ended() && is_broken(self.client.socket.poll_flush(cx)) {
            return Poll::Ready(End::by(Party::Client, Reason::Broken));
        }
        Poll::Pending
    }

    /// Whether nothing can follow: both directions have ended; or both have had their Close and
    /// the server, who is to end the connection first (RFC 6455, section 7.1.1), has; or the client
    /// has our Close and is gone.
    fn is_over(&self) -> bool {
        if let Some(closing) = &self.closing {
            return closing.is_over((&self.up, &self.server), (&self.down, &self.client.socket));
        }
        if !self.down.pump.is_ended() {
            let has_ours = self.first == Some(Party::Edge)
                && !self.down.pump.is_backed_up(&self.client.socket);
            return has_ours && self.up.pump.is_ended();
        }
        self.up.pump.is_ended() || self.is_closed() && !self.up.pump.is_backed_up(&self.server)
    }

    /// Whether somebody on the way may have ended the server's direction, and not the server: under
    /// TLS that is not what a client is to be told. (With a Close in it, it was whole.)
    fn is_cut_off(&self) -> bool {
        self.down.pump.is_ended()
            && self.server.is_truncated()
            && self.closing.is_none()
            && !(self.up.has_close() || self.down.has_close())
    }

    /// Whether both sides have said their Close; ours is as good as the server's.
    fn is_closed(&self) -> bool {
        self.up.has_close() && (self.down.has_close() || self.first == Some(Party::Edge))
    }

    /// Takes note of what has passed: for the idle deadline, the counters, and who ended it.
    fn note(&mut self, (up, down): (u64, u64)) {
        let after = self.passed();
        let (up, down) = (after.0 - up, after.1 - down);
        if up + down > 0 {
            // Once it closes, what still passes buys no more time.
            if self.stage != Stage::Closing {
                self.active = self.client.watch.now();
            }
            self.count((up, down));
        }
        if self.first.is_none() {
            self.first = if self.up.is_ending() {
                Some(Party::Client)
            } else if self.down.is_ending() {
                Some(Party::Server)
            } else {
                None
            };
        }
        if self.stage != Stage::Closing && self.is_closed() {
            self.stage = Stage::Closing;
            self.rearm();
        }
        let now = self.client.watch.now();
        let route = self.route();
        let has_answered = self.pinger.as_mut().is_some_and(|pinger| {
            let read = (self.up.pump.bytes(), self.down.pump.bytes());
            pinger.note(read, now, &self.shard.metrics.routes[route])
        });
        let (up, down) = ((&self.up.pump, &self.server), (&self.down.pump, &self.client.socket));
        let limits = &self.shard.edge.routes[self.route()].limits;
        let waits = limits.stall.is_some() && self.patience.note(up, down, now);
        // A half-closed tunnel has less time than an open one.
        let is_half_closed = self.up.pump.has_source_ended() != self.down.pump.has_source_ended();
        if waits || is_half_closed || has_answered || self.resumes() != NEVER {
            self.rearm();
        }
    }

    /// Counts so many bytes, upward and downward, and what was in them.
    fn count(&mut self, (up, down): (u64, u64)) {
        let route = &self.shard.metrics.routes[self.route()];
        route.bytes[0].add(up);
        route.bytes[1].add(down);
        route.messages[0].add(self.up.take_new_messages());
        route.messages[1].add(self.down.take_new_messages());
        route.waits[0].add(self.up.take_new_pauses());
        route.waits[1].add(self.down.take_new_pauses());
    }

    /// What one of the two did wrong.
    fn refused(&self) -> Option<Cause> {
        let by_client = self.up.refused().map(Cause::ClientBroke);
        by_client.or_else(|| self.down.refused().map(Cause::ServerBroke))
    }

    /// When somebody is to be read again who has said more than it may.
    fn resumes(&self) -> Tick {
        let resumes = |flow: &Flow| flow.paused_until().unwrap_or(NEVER);
        resumes(&self.up).min(resumes(&self.down))
    }

    /// When the next deadline is, and which end it would be.
    fn deadline(&self) -> (Tick, End) {
        let timeouts = self.timeouts();
        let by_edge = |reason| End::by(Party::Edge, reason);
        let waits_for_server =
            self.closing.as_ref().is_some_and(|closing| closing.waits_for() == Party::Server);
        let (since, timeout, end) = if self.stage == Stage::Closing {
            let fin = if waits_for_server { timeouts.server_fin } else { timeouts.client_fin };
            (Tick::MIN, fin, self.over())
        } else if let Some(since) = self.up.source_ended() {
            (since, timeouts.client_fin, by_edge(Reason::ClientFinTimeout))
        } else if let Some(since) = self.down.source_ended() {
            (since, timeouts.server_fin, by_edge(Reason::ServerFinTimeout))
        } else {
            (Tick::MIN, timeouts.tunnel, by_edge(Reason::TunnelTimeout))
        };
        (self.active.max(since).saturating_add(ticks(timeout.0)), end)
    }

    /// Who has taken nothing of what waits for it for too long.
    fn stalled(&mut self) -> Option<Party> {
        let now = self.client.watch.now();
        let (up, down) = ((&self.up.pump, &self.server), (&self.down.pump, &self.client.socket));
        let most = self.shard.edge.routes[self.route()].limits.stall?;
        self.patience.look(up, down, ticks(most), now)
    }

    /// What has passed, upward and downward: what was read without the answers to our pings.
    fn passed(&self) -> (u64, u64) {
        let (up, down) = (self.up.pump.bytes(), self.down.pump.bytes());
        match &self.pinger {
            None => (up, down),
            Some(pinger) => (up - pinger.kept().0, down - pinger.kept().1),
        }
    }

    /// Who is pinged now, if anybody: neither side has begun to end it.
    fn pinger(&self) -> Option<&Pinger> {
        self.pinger.as_deref().filter(|_| self.stage == Stage::Open && self.first.is_none())
    }

    /// Pings who is silent, and finds out who is gone.
    fn ping(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let route = self.route();
        if self.pinger().is_none() {
            return Ok(());
        }
        let Some(pinger) = &mut self.pinger else { return Ok(()) };
        let (now, metrics) = (self.client.watch.now(), &self.shard.metrics.routes[route]);
        let (up, down) = (&mut self.up, &mut self.down);
        pinger.look(cx, (up, &mut self.server), (down, &mut self.client.socket), now, metrics)
    }

    /// There is one deadline, the first of all: that of the stage, the end of the client's identity
    /// or of the tunnel's life, when somebody is to be read again or, until then, to be looked
    /// after, when to look whether somebody takes nothing, and when to ping.
    fn rearm(&self) {
        let left = self.live.as_ref().filter(|_| self.closing.is_none()).and_then(Live::left);
        let expires = left.map(|left| self.client.watch.now().saturating_add(ticks(left)));
        let dies = if self.stage == Stage::Open { self.dies } else { NEVER };
        let first = self.deadline().0.min(expires.unwrap_or(NEVER));
        let looks = self.patience.due().min(self.pinger().map_or(NEVER, Pinger::due));
        let resumes = match self.resumes() {
            NEVER => NEVER,
            at => at.min(self.client.watch.now().saturating_add(ABSENCE_TICKS)),
        };
        self.client.watch.expire_at(first.min(dies).min(resumes).min(looks));
    }

    /// Looks whether the client's identity still holds.
    fn poll_identity(&mut self, cx: &Context<'_>) {
        let Some(live) = self.live.as_ref().filter(|_| self.closing.is_none()) else { return };
        match live.poll_call(cx) {
            Some(Call::Revoked) => self.close(Cause::Lapsed(Lapse::Revoked)),
            Some(Call::Look) => self.rearm(),
            None => {}
        }
    }

    /// The end that it is, if the edge ends it.
    fn closed_by_us(&self) -> Option<End> {
        self.closing.as_ref().and_then(|closing| closing.end())
    }

    fn has_expired(&self) -> bool {
        let live = self.live.as_ref().filter(|_| self.closing.is_none());
        live.and_then(Live::left).is_some_and(|left| left.is_zero())
    }

    fn is_too_old(&self) -> bool {
        self.stage == Stage::Open && self.dies <= self.client.watch.now()
    }

    /// It is to end for this: both directions are to be cut.
    fn close(&mut self, cause: Cause) {
        let has_close = self.up.has_close() || self.down.has_close();
        let closing = Closing::new(cause);
        let has_ours = self.stage == Stage::Closing && self.first == Some(Party::Edge);
        let is_reason = !has_close && !has_ours;
        self.closing =
            Some(Box::new(if is_reason { closing } else { closing.on_the_way_out(has_ours) }));
        if is_reason {
            self.first = Some(Party::Edge);
        }
        // One that closes already gets no more time for it.
        if self.stage != Stage::Closing {
            self.stage = Stage::Closing;
            self.active = self.client.watch.now();
        }
        self.rearm();
    }

    /// Cuts the directions that are between two frames and are not cut yet. True when one was.
    fn cut(&mut self) -> Result<bool, End> {
        let Some(closing) = &mut self.closing else { return Ok(false) };
        closing.cut((&mut self.up, &mut self.server), (&mut self.down, &mut self.client.socket))
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.client.watch.is_to_leave() && self.stage == Stage::Open {
            let is_down = self.lease.server().status.state().is_down();
            self.close(if is_down { Cause::ServerDown } else { Cause::Rebalance });
        }
        while let Poll::Ready(signal) = self.client.watch.poll_signal(cx) {
            match signal {
                Signal::Stop => return Poll::Ready(End::by(Party::Edge, Reason::Drain)),
                Signal::Drain if self.stage == Stage::Open => self.stage = Stage::Draining,
                Signal::Drain => {}
                Signal::Expired if self.has_expired() => {
                    self.close(Cause::Lapsed(Lapse::Expired));
                }
                Signal::Expired if self.is_too_old() => self.close(Cause::Lifetime),
                Signal::Expired => {
                    if let Some(party) = self.stalled() {
                        return Poll::Ready(End::by(party, Reason::Slow));
                    }
                    if let Err(end) = self.ping(cx) {
                        return Poll::Ready(end);
                    }
                    let (at, end) = self.deadline();
                    if at <= self.client.watch.now() {
                        return Poll::Ready(end);
                    }
                    self.rearm();
                }
            }
        }
        Poll::Pending
    }

    /// Moves on as far as it goes now.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Err(end) = self.cut() {
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = self.poll_move(cx) {
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = self.poll_signals(cx) {
                return Poll::Ready(end);
            }
            let has_cut = match self.stage {
                Stage::Draining => self.try_close().map(|()| self.stage == Stage::Closing),
                Stage::Open | Stage::Closing => self.cut(),
            };
            match has_cut {
                // The pump has another job now: let it register for it.
                Ok(true) => {}
                Ok(false) if self.resumes() <= self.client.watch.now() => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Sends the client our Close as soon as what it has been given ends with a whole frame.
    fn try_close(&mut self) -> Result<(), End> {
        if self.down.has_close() || self.up.has_close() {
            // They are about it already.
            self.stage = Stage::Closing;
        } else if self.down.frames.cursor.is_lost() {
            return Err(End::by(Party::Edge, Reason::Drain));
        } else if self.down.is_at_boundary() {
            let mut frame = BytesMut::new();
            encode_close(CloseCode::GOING_AWAY, "", None, &mut frame);
            if self.down.pump.finish_with(&mut self.client.socket, &frame).is_err() {
                return Err(End::by(Party::Client, Reason::Broken));
            }
            self.first = Some(Party::Edge);
            self.stage = Stage::Closing;
        } else {
            return Ok(());
        }
        self.active = self.client.watch.now();
        self.rearm();
        Ok(())
    }

    /// Whose connection broke: the pump knows which socket, the direction knows whose it is.
    fn broken(&self, source: Party, sink: Party, error: &PumpError) -> End {
        let party = match error {
            PumpError::Source(_) => source,
            PumpError::Sink(_) => sink,
        };
        // Who closes in good order and is gone before the other's last bytes has not broken off.
        match self.first {
            Some(first) if self.up.has_close() || self.down.has_close() => self.closed(first),
            Some(first) if self.closing.is_some() => self.closed(first),
            _ => End::by(party, Reason::Broken),
        }
    }

    fn over(&self) -> End {
        match self.first {
            Some(first) => self.closed(first),
            None => End::by(Party::Edge, Reason::Internal),
        }
    }

    fn closed(&self, first: Party) -> End {
        let code = match first {
            Party::Client => self.up.frames.cursor.close_code(),
            Party::Server => self.down.frames.cursor.close_code(),
            Party::Edge => {
                let drained = End::by(first, Reason::Drain).with_code(Some(1001));
                return self.closed_by_us().unwrap_or(drained);
            }
        };
        let reason = if code.is_some() { Reason::Close } else { Reason::Eof };
        End::by(first, reason).with_code(code)
    }

    /// Tells the server that its client is gone, when nothing else has, and logs the end.
    fn finish(&mut self, end: End) {
        let is_gone = matches!(end.reason, Reason::Slow | Reason::PingTimeout);
        if is_gone {
            // The kernel need not keep what it does not take.
            match end.by {
                Party::Server => self.server.reset_on_drop(),
                Party::Client | Party::Edge => self.client.socket.reset_on_drop(),
            }
        }
        if self.closing.is_some() {
            return self.log(end); // They have been told, where there was a place for it.
        }
        let code = CloseCode::GOING_AWAY;
        if !self.up.has_close() && self.up.is_at_boundary() && end.by != Party::Server {
            let mut frame = BytesMut::new();
            let mask = fastrand::u32(..).to_ne_bytes();
            encode_close(code, "", Some(mask), &mut frame);
            let _ = self.server.try_write(&frame);
        }
        let is_ours = end.by == Party::Edge && end.reason != Reason::Drain;
        let is_gone_server = end.by == Party::Server && is_gone;
        if (is_ours || is_gone_server) && !self.down.has_close() && self.down.is_at_boundary() {
            let mut frame = BytesMut::new();
            let reason = if is_ours { end.reason.as_str() } else { "" };
            encode_close(code, reason, None, &mut frame);
            let _ = self.client.socket.try_write(&frame);
        }
        self.log(end);
    }

    /// Whether the client may still have something to say: its Close, when it has just heard that
    /// its server is silent. Under TLS it answers our end with its own
    /// close_notify: to a connection that is gone that means a reset, and browsers then forget the
    /// Close that they have had.
    fn lingers(&self, end: End) -> bool {
        let is_silent_server = end.by == Party::Server && end.reason == Reason::PingTimeout;
        let has_had_close =
            self.down.has_close() || self.first == Some(Party::Edge) || is_silent_server;
        let is_over = self.up.pump.has_source_ended() || end.reason == Reason::Slow;
        (self.client.socket.is_tls() || is_silent_server) && has_had_close && !is_over
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // What comes in the same moment as a revocation is not passed on.
        self.poll_identity(cx);
        self.poll_on(cx)
    }

    fn log(&mut self, end: End) {
        let Some(record) = self.record.take() else { return };
        self.shard.metrics.routes[record.route()].open.sub(1);
        let bytes = self.passed();
        let passed = Passed {
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            messages_in: self.up.frames.cursor.messages(),
            messages_out: self.down.frames.cursor.messages(),
        };
        self.shard.metrics.count_end(end);
        let violation = self.closing.as_ref().and_then(|closing| closing.violation());
        let error = violation.map(|violation| violation.to_string());
        let server = Some(self.lease.server().name.as_str());
        record.log(&self.shard, server, end, error.as_deref(), passed);
    }

    fn route(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.route())
    }
}

/// A tunnel as a task: the tunnel, and what may follow its end.
#[derive(Debug)]
pub(crate) struct TunnelTask(Life);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always Open; a box would be one more allocation"
)]
enum Life {
    Open(Tunnel),
    Lingering(Lingering),
    Over,
}

impl TunnelTask {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self(Life::Open(tunnel))
    }
}

impl Future for TunnelTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let life = &mut self.0;
        if let Life::Open(tunnel) = life {
            let end = ready!(tunnel.poll(cx));
            tunnel.finish(end);
            // What else it has, its lease above all, is given back now.
            *life = match std::mem::replace(life, Life::Over) {
                Life::Open(tunnel) if tunnel.lingers(end) => {
                    Life::Lingering(Lingering::new(tunnel.client.socket, tunnel.client.watch))
                }
                _ => Life::Over,
            };
        }
        match life {
            Life::Lingering(lingering) => lingering.poll(cx),
            Life::Open(_) | Life::Over => Poll::Ready(()),
        }
    }
}

impl Drop for TunnelTask {
    /// The runtime ended under it, or a fault of ours did: it is logged all the same.
    fn drop(&mut self) {
        if let Life::Open(tunnel) = &mut self.0
            && tunnel.record.is_some()
        {
            let is_draining = tunnel.client.watch.is_draining();
            let reason = if is_draining { Reason::Drain } else { Reason::Internal };
            tunnel.log(End::by(Party::Edge, reason));
        }
    }
}

/// How often it is looked whether somebody who is not read for now is there still.
const ABSENCE_TICKS: Tick = 10;

/// Up to a tenth less than `most`: those who came together are not to come back together.
fn lifetime(most: Duration) -> Tick {
    ticks(most.mul_f64(1.0 - fastrand::f64() / 10.0))
}

fn is_broken(flushed: Poll<io::Result<()>>) -> bool {
    matches!(flushed, Poll::Ready(Err(_)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Waiting for a frame boundary to send our Close at.
    Draining,
    Closing,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever has no identity must not pay for those who have one. tokio rounds a task up to 128
    /// bytes, so 400 is as good as less.
    #[test]
    fn an_idle_tunnel_is_small() {
        assert!(size_of::<TunnelTask>() <= 400, "{}", size_of::<TunnelTask>());
    }
}
