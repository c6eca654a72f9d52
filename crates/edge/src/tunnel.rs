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
//! When the client's identity lapses, both directions are cut (`lapsing`). That may come at any
//! stage but the last, and leads to Closing.
//!
//! The bytes are not changed and not copied. A [`Cursor`](tidewire_wire::ws::cursor::Cursor) per direction follows the frames in
//! them, which costs a few bytes of state and is what limits, metrics and an orderly close need.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tidewire_auth::live::{Call, Lapse, Live};
use tidewire_runtime::conn::{Conn, Upgraded};
use tidewire_runtime::connections::Signal;
use tidewire_runtime::deadline::{NEVER, Tick, ticks};
use tidewire_runtime::pump::PumpError;
use tidewire_runtime::socket::Socket;
use tidewire_wire::ws::close::{CloseCode, encode_close};

use crate::access_log::WebSocketRecord;
use crate::backend::Lease;
use crate::end::{End, Party, Reason};
use crate::endpoint::Passed;
use crate::flow::{Extent, Flow};
use crate::lapsing::Lapsing;
use crate::service::EdgeShard;
use crate::timeout::Timeouts;

/// A client's WebSocket and a server's, joined.
pub struct Tunnel {
    client: Conn,
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
    lease: Lease,
    /// Who the client is, when the route asks for that.
    live: Option<Live>,
    /// Set when that does not hold any more.
    lapsing: Option<Box<Lapsing>>,
    shard: Rc<EdgeShard>,
    record: Option<Box<WebSocketRecord>>,
}

impl Tunnel {
    /// Joins `upgraded` with the server's socket. What either side has sent already, the client
    /// behind its handshake and the server behind its 101, goes first.
    pub fn new(
        upgraded: Upgraded,
        server: Socket,
        server_leftover: Bytes,
        lease: Lease,
        live: Option<Live>,
        shard: Rc<EdgeShard>,
        record: Box<WebSocketRecord>,
    ) -> Self {
        let active = upgraded.conn.watch.now();
        shard.metrics.routes[record.route()].open.add(1);
        let tunnel = Self {
            client: upgraded.conn,
            server,
            up: Flow::with_leftover(upgraded.leftover),
            down: Flow::with_leftover(server_leftover),
            stage: Stage::Open,
            active,
            first: None,
            lease,
            live,
            lapsing: None,
            shard,
            record: Some(record),
        };
        tunnel.rearm();
        tunnel
    }

    fn timeouts(&self) -> &Timeouts {
        &self.lease.backend().timeouts
    }

    /// Moves what can be moved. Ready when the tunnel is over.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = (self.up.pump.bytes(), self.down.pump.bytes());
        let (client, server) = (&mut self.client.socket, &mut self.server);
        let (upward, downward) = match (self.stage, &self.lapsing) {
            (_, Some(_)) => (Extent::ToBoundary, Extent::ToBoundary),
            (Stage::Draining, None) => (Extent::All, Extent::ToBoundary),
            (Stage::Open | Stage::Closing, None) => (Extent::All, Extent::All),
        };
        let dropped = self.lapsing.as_deref_mut().map(Lapsing::dropped).unzip();
        let up = self.up.poll(cx, client, server, upward, dropped.0);
        let down = self.down.poll(cx, server, client, downward, dropped.1);
        self.note(before);
        if let Poll::Ready(Err(error)) = up {
            return Poll::Ready(self.broken(Party::Client, Party::Server, &error));
        }
        if let Poll::Ready(Err(error)) = down {
            return Poll::Ready(self.broken(Party::Server, Party::Client, &error));
        }
        if self.is_over() {
            return Poll::Ready(self.over());
        }
        if let Some(lapsing) = &self.lapsing
            && lapsing.has_client_left(&self.up, (&self.down, &self.client.socket))
            && self.down.must_tell()
        {
            // It has said all that it had to say, and waits for the end.
            let _ = self.client.socket.shutdown_write();
        }
        // The other direction may go on: half-closed is a state that peers rely on.
        let may_tell = self.lapsing.as_ref().map_or((true, true), |lapsing| lapsing.may_tell());
        if may_tell.0 && self.up.ends_now() && self.server.shutdown_write().is_err() {
            return Poll::Ready(self.lapsed().unwrap_or(End::by(Party::Server, Reason::Broken)));
        }
        if may_tell.1 && self.down.ends_now() && self.client.socket.shutdown_write().is_err() {
            return Poll::Ready(self.lapsed().unwrap_or(End::by(Party::Client, Reason::Broken)));
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
        if let Some(lapsing) = &self.lapsing {
            return lapsing.is_over((&self.up, &self.server), (&self.down, &self.client.socket));
        }
        if !self.down.pump.is_ended() {
            let has_ours = self.first == Some(Party::Edge)
                && !self.down.pump.is_backed_up(&self.client.socket);
            return has_ours && self.up.pump.is_ended();
        }
        self.up.pump.is_ended() || self.is_closed() && !self.up.pump.is_backed_up(&self.server)
    }

    /// Whether both sides have said their Close; ours is as good as the server's.
    fn is_closed(&self) -> bool {
        self.up.has_close() && (self.down.has_close() || self.first == Some(Party::Edge))
    }

    /// Takes note of what has passed: for the idle deadline, the counters, and who ended it.
    fn note(&mut self, (up, down): (u64, u64)) {
        let (up, down) = (self.up.pump.bytes() - up, self.down.pump.bytes() - down);
        if up + down > 0 {
            // Once it closes, what still passes buys no more time.
            if self.stage != Stage::Closing {
                self.active = self.client.watch.now();
            }
            let route = &self.shard.metrics.routes[self.route()];
            route.bytes[0].add(up);
            route.bytes[1].add(down);
            route.messages[0].add(self.up.take_new_messages());
            route.messages[1].add(self.down.take_new_messages());
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
        // A half-closed tunnel has less time than an open one.
        if self.up.pump.has_source_ended() != self.down.pump.has_source_ended() {
            self.rearm();
        }
    }

    /// When the next deadline is, and which end it would be.
    fn deadline(&self) -> (Tick, End) {
        let timeouts = self.timeouts();
        let by_edge = |reason| End::by(Party::Edge, reason);
        let (timeout, end) = if self.stage == Stage::Closing {
            (timeouts.client_fin, self.over())
        } else if self.up.pump.has_source_ended() {
            (timeouts.client_fin, by_edge(Reason::ClientFinTimeout))
        } else if self.down.pump.has_source_ended() {
            (timeouts.server_fin, by_edge(Reason::ServerFinTimeout))
        } else {
            (timeouts.tunnel, by_edge(Reason::TunnelTimeout))
        };
        (self.active.saturating_add(ticks(timeout.0)), end)
    }

    /// There is one deadline: that of the stage, or the end of the client's identity.
    fn rearm(&self) {
        let left = self.live.as_ref().filter(|_| self.lapsing.is_none()).and_then(Live::left);
        let expires = left.map(|left| self.client.watch.now().saturating_add(ticks(left)));
        self.client.watch.expire_at(self.deadline().0.min(expires.unwrap_or(NEVER)));
    }

    /// Looks whether the client's identity still holds.
    fn poll_identity(&mut self, cx: &Context<'_>) {
        let Some(live) = self.live.as_ref().filter(|_| self.lapsing.is_none()) else { return };
        match live.poll_call(cx) {
            Some(Call::Revoked) => self.lapse(Lapse::Revoked),
            Some(Call::Look) => self.rearm(),
            None => {}
        }
    }

    /// The end that it is, if it ends because the identity does not hold.
    fn lapsed(&self) -> Option<End> {
        self.lapsing.as_ref().and_then(|lapsing| lapsing.end())
    }

    fn has_expired(&self) -> bool {
        let live = self.live.as_ref().filter(|_| self.lapsing.is_none());
        live.and_then(Live::left).is_some_and(|left| left.is_zero())
    }

    /// The client's identity does not hold any more: both directions are to be cut.
    fn lapse(&mut self, lapse: Lapse) {
        let has_close = self.up.has_close() || self.down.has_close();
        let lapsing = Lapsing::new(lapse);
        let has_ours = self.stage == Stage::Closing && self.first == Some(Party::Edge);
        let is_reason = !has_close && !has_ours;
        self.lapsing =
            Some(Box::new(if is_reason { lapsing } else { lapsing.on_the_way_out(has_ours) }));
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
        let Some(lapsing) = &mut self.lapsing else { return Ok(false) };
        lapsing.cut((&mut self.up, &mut self.server), (&mut self.down, &mut self.client.socket))
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while let Poll::Ready(signal) = self.client.watch.poll_signal(cx) {
            match signal {
                Signal::Stop => return Poll::Ready(End::by(Party::Edge, Reason::Drain)),
                Signal::Drain if self.stage == Stage::Open => self.stage = Stage::Draining,
                Signal::Drain => {}
                Signal::Expired if self.has_expired() => self.lapse(Lapse::Expired),
                Signal::Expired => {
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
        } else if self.down.cursor.is_lost() {
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
            Some(first) if self.lapsing.is_some() => self.closed(first),
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
            Party::Client => self.up.cursor.close_code(),
            Party::Server => self.down.cursor.close_code(),
            Party::Edge => {
                let drained = End::by(first, Reason::Drain).with_code(Some(1001));
                return self.lapsed().unwrap_or(drained);
            }
        };
        let reason = if code.is_some() { Reason::Close } else { Reason::Eof };
        End::by(first, reason).with_code(code)
    }

    /// Tells the server that its client is gone, when nothing else has, and logs the end.
    fn finish(&mut self, end: End) {
        if self.lapsing.is_some() {
            return self.log(end); // They have been told, where there was a place for it.
        }
        let code = CloseCode::GOING_AWAY;
        if !self.up.has_close() && self.up.is_at_boundary() && end.by != Party::Server {
            let mut frame = BytesMut::new();
            let mask = fastrand::u32(..).to_ne_bytes();
            encode_close(code, "", Some(mask), &mut frame);
            let _ = self.server.try_write(&frame);
        }
        if end.by == Party::Edge
            && end.reason != Reason::Drain
            && !self.down.has_close()
            && self.down.is_at_boundary()
        {
            let mut frame = BytesMut::new();
            encode_close(code, end.reason.as_str(), None, &mut frame);
            let _ = self.client.socket.try_write(&frame);
        }
        self.log(end);
    }

    fn log(&mut self, end: End) {
        let Some(record) = self.record.take() else { return };
        self.shard.metrics.routes[record.route()].open.sub(1);
        let passed = Passed {
            bytes_in: self.up.pump.bytes(),
            bytes_out: self.down.pump.bytes(),
            messages_in: self.up.cursor.messages(),
            messages_out: self.down.cursor.messages(),
        };
        self.shard.metrics.count_end(end);
        record.log(&self.shard, Some(&self.lease.server().name), end, passed);
    }

    fn route(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.route())
    }
}

impl Future for Tunnel {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // What comes in the same moment as a revocation is not passed on.
        this.poll_identity(cx);
        let end = ready!(this.poll_on(cx));
        this.finish(end);
        Poll::Ready(())
    }
}

impl Drop for Tunnel {
    /// The runtime ended under it, or a fault of ours did: it is logged all the same.
    fn drop(&mut self) {
        if self.record.is_some() {
            let reason =
                if self.client.watch.is_draining() { Reason::Drain } else { Reason::Internal };
            self.log(End::by(Party::Edge, reason));
        }
    }
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
        assert!(size_of::<Tunnel>() <= 400, "{}", size_of::<Tunnel>());
    }
}
