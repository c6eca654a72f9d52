//! Pings by the edge: whoever has said nothing for a while is asked whether it is still there.
//!
//! ```text
//!   client <──ping── edge          put in between two frames of what the server says
//!   client ──pong──> edge X        taken out again (`sieve`), so that no server hears of it
//! ```
//!
//! Any byte is a sign of life, so whoever talks is not pinged, and a message only notes the present
//! tick. The deadlines are looked at when one may have passed, as all others of a tunnel.

pub(crate) mod peer;
pub(crate) mod sieve;
#[cfg(test)]
mod simulation;

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::deadline::{NEVER, Tick, ticks};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::units::Period;
use tidewire_wire::ws::frame::{Opcode, encode_frame, encode_frame_masked};

use self::peer::{Peer, Situation, Verdict};
use self::sieve::Sieve;
use crate::end::{End, Party, Reason};
use crate::flow::Flow;
use crate::metrics::RouteMetrics;

/// Whom the edge pings, and when. Both sides answer by themselves, as RFC 6455 has it; no answer is
/// passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PingConfig {
    /// How long a client may say nothing before it is pinged. `"0s"`, the default, pings none.
    pub client: Period,
    /// How long a server may say nothing before it is pinged. `"0s"`, the default, pings none.
    pub server: Period,
    /// How long one that was pinged may stay silent. Then it counts as gone: its connection is
    /// dropped, and the other side is closed with 1001.
    pub pong: Period,
}

impl Default for PingConfig {
    fn default() -> Self {
        let off = Period::from_secs(0);
        Self { client: off, server: off, pong: Period::from_secs(10) }
    }
}

/// Whom a route pings, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pings {
    client: Option<Tick>,
    server: Option<Tick>,
    pong: Tick,
}

impl Pings {
    pub fn new(config: &PingConfig) -> Self {
        let some = |period: Period| (!period.0.is_zero()).then(|| ticks(period.0));
        Self {
            client: some(config.client),
            server: some(config.server),
            pong: ticks(config.pong.0),
        }
    }

    /// Whether `party` is pinged at all.
    pub fn are_for(&self, party: Party) -> bool {
        match party {
            Party::Client => self.client.is_some(),
            Party::Server => self.server.is_some(),
            Party::Edge => false,
        }
    }
}

/// Pings the peers of one tunnel.
#[derive(Debug)]
pub(crate) struct Pinger {
    client: Peer,
    server: Peer,
    pong: Tick,
}

impl Pinger {
    /// `None` where nobody is pinged. Client and server have `said` something already.
    pub(crate) fn new(pings: &Pings, said: (&[u8], &[u8]), now: Tick) -> Option<Box<Self>> {
        if pings.client.is_none() && pings.server.is_none() {
            return None;
        }
        let peer = |quiet: Option<Tick>, said: &[u8], is_masked| {
            let mut sieve = Sieve::new(fastrand::u32(..), is_masked);
            sieve.see(said);
            Peer::new(quiet, fastrand::f32(), sieve, said.len() as u64, now)
        };
        Some(Box::new(Self {
            client: peer(pings.client, said.0, true),
            server: peer(pings.server, said.1, false),
            pong: pings.pong,
        }))
    }

    /// What takes our pongs out of what the client says, and out of what the server says.
    pub(crate) fn sieves(&mut self) -> (&mut Sieve, &mut Sieve) {
        (&mut self.client.sieve, &mut self.server.sieve)
    }

    /// How many of the bytes that were read were not passed on.
    pub(crate) fn kept(&self) -> (u64, u64) {
        (self.client.sieve.kept(), self.server.sieve.kept())
    }

    /// Takes note of who was heard, and of what they have said to each other: `read` bytes so far.
    /// Whether one of them has answered, and [`Pinger::due`] may be sooner than it was.
    #[must_use]
    pub(crate) fn note(&mut self, read: (u64, u64), now: Tick, metrics: &RouteMetrics) -> bool {
        let has_answered = self.client.note(read.0, now) | self.server.note(read.1, now);
        let (client, server) = (&mut self.client, &mut self.server);
        server.is_asked_already |= client.sieve.take_ping();
        client.is_asked_already |= server.sieve.take_ping();
        for (sieve, metrics) in
            [&mut client.sieve, &mut server.sieve].into_iter().zip(&metrics.pings)
        {
            if let Some(time) = sieve.take_round_trip() {
                metrics.pongs.add(1);
                metrics.microseconds.add(time.as_micros().try_into().unwrap_or(u64::MAX));
            }
        }
        has_answered
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Tick {
        self.client.due(self.pong).min(self.server.due(self.pong))
    }

    /// Pings whoever was silent for long enough, and says who has not answered.
    pub(crate) fn look(
        &mut self,
        cx: &mut Context<'_>,
        (up, server): (&mut Flow, &mut Socket),
        (down, client): (&mut Flow, &mut Socket),
        now: Tick,
        metrics: &RouteMetrics,
    ) -> Result<(), End> {
        for party in [Party::Client, Party::Server] {
            let (peer, metrics, from, to, socket, other) = match party {
                Party::Client => {
                    (&mut self.client, &metrics.pings[0], &*up, &mut *down, &mut *client, &*server)
                }
                _ => {
                    (&mut self.server, &metrics.pings[1], &*down, &mut *up, &mut *server, &*client)
                }
            };
            if peer.due(self.pong) > now {
                continue;
            }
            match peer.look(now, &situation((from, other), (to, socket))) {
                Verdict::Wait => {}
                Verdict::Silent => {
                    metrics.timeouts.add(1);
                    return Err(End::by(party, Reason::PingTimeout));
                }
                Verdict::Ping => {
                    metrics.pings.add(1);
                    let frame = peer.sieve.ping(Instant::now());
                    let put = to.pump.put_in(socket, &frame);
                    // What it has not taken is written when it takes more.
                    let has_failed = put.is_err()
                        || matches!(to.pump.poll_unsent(cx, socket), Poll::Ready(Err(_)));
                    if has_failed {
                        return Err(End::by(party, Reason::Broken));
                    }
                }
            }
        }
        Ok(())
    }
}

/// How it is with a peer: what it says goes to the socket `other`, what it is to get to `socket`.
fn situation((from, other): (&Flow, &Socket), (to, socket): (&Flow, &Socket)) -> Situation {
    let unacknowledged = socket.unacknowledged_bytes().unwrap_or(0);
    let waiting = (to.pump.unsent_bytes(socket) + unacknowledged) as u64;
    Situation {
        is_read: !from.pump.is_backed_up(other) && from.paused_until().is_none(),
        is_between_frames: to.is_at_boundary() && !socket.has_unsent(),
        taken: to.pump.bytes().saturating_sub(waiting),
        is_queue: waiting > 0,
    }
}

/// A ping, as it is sent to a client or, with a mask, to a server.
fn encode_ping(payload: &[u8], mask: Option<[u8; 4]>) -> BytesMut {
    let mut frame = BytesMut::new();
    match mask {
        None => encode_frame(Opcode::Ping, payload, &mut frame),
        Some(mask) => encode_frame_masked(Opcode::Ping, payload, mask, &mut frame),
    }
    frame
}

/// Never, for those who are not pinged.
fn after(tick: Tick, period: Option<Tick>) -> Tick {
    period.map_or(NEVER, |period| tick.saturating_add(period))
}
