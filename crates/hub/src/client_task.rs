//! The task of one client: reads its messages, keeps it alive, closes it in good order.
//!
//! ```text
//!   Open ──client's Close──> Closing, answered ──all written──> over
//!    │──ours: slow, expired, drain ..──> Closing ──client's Close, end or deadline──> over
//!    └──violation──> Due ──next turn──> Closing
//! ```
//!
//! A Close of ours goes out behind what is queued (for a slow client: behind the frame that has
//! begun), and then the client's is awaited: closing at once would destroy what is on its way,
//! our Close included, when the client is still sending (RFC 6455, section 7.1.1).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tidewire_auth::live::Call;
use tidewire_runtime::buffer::{Backlog, with_scratch};
use tidewire_runtime::conn::Upgraded;
use tidewire_runtime::connections::{Signal, Watch};
use tidewire_runtime::deadline::{NEVER, Tick, ticks};
use tidewire_runtime::turn::{TURN_BYTES, give_way};
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::frame::{Opcode, encode_frame};
use tidewire_wire::ws::message::{Decoder, Event, Payload, Role};
use tidewire_wire::{Traffic, Violation};
use tracing::error;

use crate::admission::{Done, Membership};
use crate::allowance::{Allowance, OverRate};
use crate::broker::Room;
use crate::client::{Meter, Wish};
use crate::close::{ClientEnd, Close};
use crate::liveness::{Liveness, Verdict};
use crate::pass::{Due, is_renewal};
use crate::publication::Kind;

/// A client's connection while it lasts.
pub(crate) struct ClientTask {
    membership: Membership,
    watch: Watch,
    decoder: Decoder,
    /// What was read and not yet taken in: what came behind the handshake, or the rest of a read
    /// in which room became scarce.
    leftover: Backlog,
    liveness: Liveness,
    phase: Phase,
    /// The round of [`crate::shard::Paused`] that it is not read in.
    pause: Option<u32>,
    done: Option<Done>,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// Our Close goes out in the next turn: deliveries of this one come before it, so that a client
    /// gets what it said before it broke a rule.
    Due(Box<Close>),
    /// Boxed, as most clients are not being closed.
    Closing(Box<Closing>),
}

#[derive(Debug)]
struct Closing {
    close: Close,
    /// Whether the client has sent its Close.
    client_closed: bool,
    /// Whether the client has been shown our end of the stream.
    is_shut: bool,
}

impl ClientTask {
    pub(crate) fn new(membership: Membership, upgraded: Upgraded, done: Done) -> Self {
        let Upgraded { conn, leftover } = upgraded;
        let shared = &membership.shard.shared;
        let liveness = Liveness::new(conn.watch.now());
        let first_look = liveness.first_look(&shared.deadlines, fastrand::f32());
        membership.client.attach(conn.socket);
        count_bytes_in(&membership, leftover.len());
        let limits = &membership.client.route.limits;
        if let Some(aging) = Allowance::aging(limits, conn.watch.now(), fastrand::f32()) {
            membership.client.allowance.put(aging);
        }
        let decoder = Decoder::new(Role::Server, limits.sizes(&shared.limits));
        let mut backlog = Backlog::default();
        backlog.fill_shared(leftover);
        let mut task = Self {
            membership,
            watch: conn.watch,
            decoder,
            leftover: backlog,
            liveness,
            phase: Phase::Open,
            pause: None,
            done: Some(done),
        };
        task.arm(first_look);
        // The connection may have heard of the drain before it came here.
        if task.watch.is_draining() {
            task.close(Close::Drained);
        }
        task
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.membership.client.register(cx.waker());
        if let Phase::Due(close) = &self.phase {
            self.begin_closing(**close);
        }
        while let Poll::Ready(signal) = self.watch.poll_signal(cx) {
            if let Some(close) = self.obey(signal) {
                return Poll::Ready(close);
            }
        }
        self.poll_identity(cx);
        match (&self.phase, self.membership.client.wish()) {
            (Phase::Open, Some(Wish::Slow)) => {
                self.membership.shard.metrics.slow_closes.add(1);
                self.close(Close::Slow);
            }
            (Phase::Open, Some(Wish::BrokerAway)) => self.close(Close::BrokerAway),
            (_, Some(Wish::Broken(error))) => {
                self.digest_leftover(cx);
                return Poll::Ready(self.end(Close::Broken(error)));
            }
            _ => {}
        }
        if let Poll::Ready(close) = self.poll_intake(cx) {
            return Poll::Ready(close);
        }
        self.poll_outflow(cx)
    }

    fn obey(&mut self, signal: Signal) -> Option<Close> {
        match (signal, &self.phase) {
            (Signal::Stop, Phase::Open) => {
                self.close(Close::Stopped);
                Some(Close::Stopped)
            }
            (Signal::Stop, _) => Some(self.end(Close::Stopped)),
            (Signal::Drain, _) => {
                self.close(Close::Drained);
                None
            }
            (Signal::Expired, Phase::Open | Phase::Due(_)) => {
                self.look();
                None
            }
            (Signal::Expired, Phase::Closing(closing)) => {
                // The kernel would keep what it holds for a client that does not read.
                if self.membership.client.is_backed_up() {
                    self.membership.client.reset_on_drop();
                }
                Some(closing.close)
            }
        }
    }

    /// Whether the client's identity still holds is asked before anything is read: what comes in
    /// the same moment as a revocation is not published.
    fn poll_identity(&mut self, cx: &Context<'_>) {
        let Some(pass) = &self.membership.client.pass else { return };
        match pass.poll_call(cx) {
            Some(Call::Revoked) => self.close(Close::Revoked),
            Some(Call::Look) if matches!(self.phase, Phase::Open) => self.look(),
            Some(Call::Look) | None => {}
        }
    }

    /// Asks to be woken at `at`, or earlier when there is something to do for its identity.
    fn arm(&mut self, at: Tick) {
        let Membership { shard, client } = &self.membership;
        let notice = match client.protocol.has_notices() {
            true => shard.shared.config.renew_notice.0,
            false => Duration::ZERO,
        };
        let due = client.pass.as_ref().map(|pass| pass.look(self.watch.now(), notice));
        let at = match due {
            None => at,
            Some(Due::Wait(until)) => at.min(until),
            Some(Due::Tell { seconds, expires, until }) => {
                shard.tell_expiring(client, seconds, expires);
                at.min(until)
            }
            Some(Due::Expired) => return self.close(Close::Expired),
        };
        let now = self.watch.now();
        let at = at.min(client.allowance.ask(|it| it.due(now)).unwrap_or(NEVER));
        match at {
            NEVER => self.watch.expire_never(),
            at => self.watch.expire_at(at),
        }
    }

    /// Looks whether the client is still there, and still who it was.
    fn look(&mut self) {
        let now = self.watch.now();
        let deadlines = self.membership.shard.shared.deadlines;
        let allowance = &self.membership.client.allowance;
        if allowance.ask(|it| it.is_too_old(now)) == Some(true) {
            return self.close(Close::Aged);
        }
        // It may have said something that was not read.
        if allowance.ask(|it| it.is_unheard()) == Some(true) {
            self.liveness.note_heard(now);
        }
        allowance.tidy(now);
        match self.liveness.check(now, &deadlines) {
            Verdict::Wait(until) => self.arm(until),
            Verdict::Ping(until) => {
                self.arm(until);
                // Behind what is queued it would be late; that the queue moves is as good a sign.
                if !self.membership.client.is_backed_up() {
                    let mut ping = BytesMut::new();
                    encode_frame(Opcode::Ping, b"", &mut ping);
                    self.send(ping);
                }
            }
            Verdict::Silent => self.close(Close::Silent),
            Verdict::Idle => self.close(Close::Idle),
        }
    }

    /// Reads until the socket has no more, or it is someone else's turn.
    fn poll_intake(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        let paused = self.membership.shard.paused();
        if self.pause.is_some_and(|round| !paused.is_over(round)) {
            return Poll::Pending;
        }
        self.pause = None;
        if self.is_paused() {
            return Poll::Pending;
        }
        let mut taken = 0;
        loop {
            let read = with_scratch(|scratch| {
                let length = match ready!(self.poll_bytes(cx, scratch)) {
                    Ok(length) => length,
                    Err(close) => return Poll::Ready(Err(close)),
                };
                let messages = self.digest(&mut scratch[..length], cx);
                Poll::Ready(Ok(length + messages * MESSAGE_WORTH))
            });
            let work = match ready!(read) {
                Ok(work) => work,
                Err(close) => return Poll::Ready(close),
            };
            if self.pause.is_some() || self.is_paused() {
                return Poll::Pending;
            }
            // One that sends without end must not keep the others waiting.
            taken += work;
            if taken >= TURN_BYTES {
                give_way(cx);
                return Poll::Pending;
            }
        }
    }

    /// The next bytes of the client, or how it ended.
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Close>> {
        if !self.leftover.is_empty() {
            let length = self.leftover.len().min(scratch.len());
            scratch[..length].copy_from_slice(&self.leftover.bytes()[..length]);
            self.leftover.consume(length);
            return Poll::Ready(Ok(length));
        }
        Poll::Ready(match ready!(self.membership.client.poll_read(cx, scratch)) {
            Ok(0) => Err(self.end(Close::Gone)),
            Ok(length) => {
                count_bytes_in(&self.membership, length);
                self.pay_for_read(length);
                Ok(length)
            }
            Err(error) => Err(self.end(Close::Broken(error.kind()))),
        })
    }

    /// Takes in what was read before the client was gone.
    fn digest_leftover(&mut self, cx: &Context<'_>) {
        loop {
            let mut rest = std::mem::take(&mut self.leftover).bytes().to_vec();
            let is_all_it_may = self.digest(&mut rest, cx) < MESSAGES_PER_TURN;
            if is_all_it_may || self.leftover.is_empty() {
                return;
            }
        }
    }

    /// Takes in what was read, or as much of it as is one turn. How many messages it was.
    fn digest(&mut self, mut input: &mut [u8], cx: &Context<'_>) -> usize {
        let mut was_asked = self.liveness.is_asked();
        self.liveness.note_heard(self.watch.now());
        let mut pongs = BytesMut::new();
        let mut room = Room::Ample;
        let mut is_too_fast = self.must_wait();
        let mut messages = 0;
        while room == Room::Ample
            && !is_too_fast
            && !self.is_refused()
            && messages < MESSAGES_PER_TURN
        {
            let event = match self.decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(violation) => {
                    self.refuse_behind(pongs, violation, cx);
                    return messages;
                }
            };
            if let Err(violation) = self.admit(&event, &mut was_asked) {
                self.refuse_behind(pongs, violation, cx);
                return messages;
            }
            messages += usize::from(matches!(event, Event::Text(_) | Event::Binary(_)));
            match event {
                Event::Text(text) if self.is_for_hub(&text) => self.renew(&text),
                Event::Text(text) => room = self.publish(Kind::Text, text),
                Event::Binary(bytes) => room = self.publish(Kind::Binary, bytes),
                Event::Ping(payload) => self.on_ping(&payload, &mut pongs),
                Event::Pong(_) => {}
                Event::Close { code, .. } => {
                    self.send(pongs.split());
                    self.on_close(code);
                }
            }
            is_too_fast = self.must_wait();
        }
        self.send(pongs);
        if room == Room::Ample && !is_too_fast && messages < MESSAGES_PER_TURN {
            return messages;
        }
        // The rest waits with its client, which feels it through TCP soon.
        if !input.is_empty() {
            let rest = [input, self.leftover.bytes()].concat();
            self.leftover = Backlog::default();
            self.leftover.fill_shared(rest.into());
        }
        if room == Room::Scarce {
            self.pause = Some(self.membership.shard.paused().enter(cx.waker()));
        }
        if is_too_fast {
            self.membership.shard.metrics.rate_pauses.add(1);
            self.look();
        }
        messages
    }

    /// Whether an event may be, by the limits of the route. It has been counted then.
    fn admit(&self, event: &Event<'_>, was_asked: &mut bool) -> Result<(), Violation> {
        let limits = &self.membership.client.route.limits;
        let (traffic, payload) = match event {
            Event::Text(text) => {
                if !self.is_for_hub(text) {
                    limits.check_opcode(Opcode::Text)?;
                }
                (Traffic::Messages, text)
            }
            Event::Binary(bytes) => {
                limits.check_opcode(Opcode::Binary)?;
                (Traffic::Messages, bytes)
            }
            // An answer to a ping of ours is no more than was asked for.
            Event::Pong(_) if std::mem::take(was_asked) => return Ok(()),
            Event::Ping(payload) | Event::Pong(payload) => (Traffic::ControlFrames, payload),
            Event::Close { .. } => return Ok(()),
        };
        self.take(traffic, 1)?;
        match limits.over_rate {
            OverRate::Close => self.take(Traffic::Bytes, payload.len() as u64),
            OverRate::Slow => Ok(()), // They were paid for when they were read.
        }
    }

    fn pay_for_read(&self, length: usize) {
        if self.membership.client.route.limits.over_rate == OverRate::Slow {
            let taken = self.take(Traffic::Bytes, length as u64);
            debug_assert_eq!(taken, Ok(()), "who is slowed down is not refused");
        }
    }

    /// Counts what has come, if there is a limit on it.
    fn take(&self, traffic: Traffic, amount: u64) -> Result<(), Violation> {
        let client = &self.membership.client;
        let limits = &client.route.limits;
        match limits.has_pace(traffic) && matches!(self.phase, Phase::Open) {
            true => client.allowance.with(|it| it.take(limits, traffic, amount, self.watch.now())),
            false => Ok(()),
        }
    }

    /// Whether nothing more may be taken in now. Who is being closed is not paused: its Close must
    /// be heard.
    fn must_wait(&self) -> bool {
        let client = &self.membership.client;
        let ask =
            || client.allowance.ask(|it| it.must_wait(&client.route.limits, self.watch.now()));
        matches!(self.phase, Phase::Open) && ask() == Some(true)
    }

    /// Whether it is not read from, as it has sent faster than it may.
    fn is_paused(&self) -> bool {
        let ask = || self.membership.client.allowance.ask(|it| it.is_paused(self.watch.now()));
        matches!(self.phase, Phase::Open) && ask() == Some(true)
    }

    /// Whether what it sends does not matter any more.
    fn is_refused(&self) -> bool {
        match &self.phase {
            Phase::Open => false,
            Phase::Due(_) => true,
            Phase::Closing(closing) => matches!(closing.close, Close::Violation(_)),
        }
    }

    fn refuse(&mut self, violation: Violation, cx: &Context<'_>) {
        if let Phase::Open = self.phase {
            self.phase = Phase::Due(Box::new(Close::Violation(violation)));
            cx.waker().wake_by_ref();
        }
    }

    /// As [`ClientTask::refuse`], when it has been answered what it said before.
    fn refuse_behind(&mut self, pongs: BytesMut, violation: Violation, cx: &Context<'_>) {
        self.send(pongs);
        self.refuse(violation, cx);
    }

    fn publish(&mut self, kind: Kind, payload: Payload<'_>) -> Room {
        let Membership { shard, client } = &self.membership;
        if let Phase::Closing(closing) = &self.phase
            && closing.close.ends_publishing(&client.route.limits)
        {
            return Room::Ample; // It has nothing to say here any more.
        }
        client.count(|traffic| traffic.messages_in += 1);
        shard.metrics.messages_in.add(1);
        self.liveness.note_message(self.watch.now());
        shard.publish(client, kind, payload.into_bytes())
    }

    fn is_for_hub(&self, text: &[u8]) -> bool {
        self.membership.client.protocol.has_notices() && is_renewal(text)
    }

    fn renew(&mut self, text: &[u8]) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.liveness.note_message(self.watch.now());
        self.membership.shard.renew(&self.membership.client, text);
        self.look();
    }

    fn on_ping(&mut self, payload: &[u8], pongs: &mut BytesMut) {
        // After our Close nothing may follow (RFC 6455, section 5.5.1).
        if let Phase::Open = self.phase {
            encode_frame(Opcode::Pong, payload, pongs);
        }
    }

    fn on_close(&mut self, code: Option<CloseCode>) {
        match &mut self.phase {
            Phase::Closing(closing) => closing.client_closed = true,
            Phase::Open | Phase::Due(_) => self.begin_closing(Close::Left(code)),
        }
    }

    /// Closes the client for a reason of ours.
    fn close(&mut self, close: Close) {
        if let Phase::Open = self.phase {
            self.begin_closing(close);
        }
    }

    fn begin_closing(&mut self, close: Close) {
        let Membership { shard, client } = &self.membership;
        shard.leave_topic(client);
        if let Close::Slow | Close::Revoked = close {
            client.cut();
        }
        let code = close.code(shard.shared.config.slow_close).unwrap_or(CloseCode::NO_STATUS);
        let mut frame = BytesMut::new();
        encode_close(code, &close.reason(), None, &mut frame);
        // Whatever waits, one frame more must not make the client a slow one now.
        let meter = Meter { queue_bytes_max: usize::MAX, ..shard.meter() };
        client.send(&[frame.freeze()], meter);
        let client_closed = matches!(close, Close::Left(_));
        self.phase = Phase::Closing(Box::new(Closing { close, client_closed, is_shut: false }));
        match close {
            // The worker says when the time is up.
            Close::Drained => self.watch.expire_never(),
            _ => {
                let limit = self.membership.shard.shared.config.close_timeout;
                self.watch.expire_after(ticks(limit.0));
            }
        }
    }

    /// Writes what is queued, and sees whether the closing is over.
    fn poll_outflow(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        let Membership { shard, client } = &self.membership;
        let (liveness, now) = (&mut self.liveness, self.watch.now());
        let drained = client.poll_drain(cx, &shard.metrics, || liveness.note_heard(now));
        if let Err(error) = ready!(drained) {
            return Poll::Ready(self.end(Close::Broken(error.kind())));
        }
        let Phase::Closing(closing) = &mut self.phase else { return Poll::Pending };
        if closing.client_closed {
            return Poll::Ready(closing.close);
        }
        // Its Close would not be understood any more. It sees ours and then the end, and ends.
        if let Close::Violation(_) = closing.close
            && !std::mem::replace(&mut closing.is_shut, true)
        {
            client.shutdown_write(cx);
        }
        Poll::Pending
    }

    /// The reason of the end: the one for which it is being closed, if it is.
    fn end(&self, close: Close) -> Close {
        match &self.phase {
            Phase::Closing(closing) => closing.close,
            Phase::Due(due) => **due,
            Phase::Open => close,
        }
    }

    fn send(&self, frames: BytesMut) {
        self.membership.shard.send(&self.membership.client, frames);
    }

    fn finish(&mut self, close: Close) {
        let Some(done) = self.done.take() else { return };
        let Membership { shard, client } = &self.membership;
        let code = close.code(shard.shared.config.slow_close);
        let undelivered = client.standing.get().undelivered();
        done(ClientEnd { close, code, traffic: client.traffic.get(), undelivered });
    }
}

impl Future for ClientTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_client(cx)));
        let close = match polled {
            Ok(polled) => ready!(polled),
            Err(_) => {
                self.membership.shard.metrics.panics.add(1);
                error!(client = ?self.membership.client.id, "a client's task ended by a panic");
                Close::Panicked
            }
        };
        self.finish(close);
        Poll::Ready(())
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        // The worker ended before the task could.
        let close = self.end(Close::Stopped);
        self.finish(close);
    }
}

fn count_bytes_in(membership: &Membership, length: usize) {
    membership.client.count(|traffic| traffic.bytes_in += length as u64);
    membership.shard.metrics.bytes_in.add(length as u64);
}

/// What a message is worth of a turn besides its bytes: to publish one of a byte takes as long as to
/// read so many.
const MESSAGE_WORTH: usize = 64;
const MESSAGES_PER_TURN: usize = TURN_BYTES / MESSAGE_WORTH;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    /// tokio rounds a task up to 128 bytes: 8 bytes more here would cost 128 for each client. The
    /// allocator has 192 bytes for a client with its two counts.
    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<ClientTask>() <= 144, "{}", size_of::<ClientTask>());
        assert!(size_of::<Client>() <= 176, "{}", size_of::<Client>());
    }
}
