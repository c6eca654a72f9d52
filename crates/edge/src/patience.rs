//! How long a tunnel's peers may take nothing of what waits for them.
//!
//! Whether a peer has taken something is not to be seen from here alone: the kernel takes more of
//! us only when a third of its buffer is free, which a slow line may need a minute for. So the
//! kernel is asked what the peer has not got, now and then while something waits.

use tidewire_runtime::deadline::{NEVER, Tick};
use tidewire_runtime::pump::Pump;
use tidewire_runtime::socket::Socket;

use crate::end::Party;

/// Watches both sinks of a tunnel. It is there while something waits for one of them: most tunnels
/// are idle, and have nothing that waits.
#[derive(Debug, Default)]
pub(crate) struct Patience(Option<Box<Sinks>>);

#[derive(Debug, Default)]
struct Sinks {
    server: Waiting,
    client: Waiting,
}

/// What waits for a sink.
#[derive(Debug, Default)]
struct Waiting {
    /// Since when the sink has taken nothing, and when to look next.
    since: Option<(Tick, Tick)>,
    left: Left,
}

/// What a sink has yet to take. If it is as it was, nothing was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    read: u64,
    unsent: usize,
    unacknowledged: Option<usize>,
}

/// A direction: what is moved, and to where.
type Way<'t> = (&'t Pump, &'t Socket);

impl Patience {
    /// Takes note of what waits. True when somebody has begun to wait.
    #[inline]
    pub(crate) fn note(&mut self, up: Way<'_>, down: Way<'_>, now: Tick) -> bool {
        if !up.0.is_backed_up(up.1) && !down.0.is_backed_up(down.1) {
            self.0 = None;
            return false;
        }
        let sinks = self.0.get_or_insert_default();
        sinks.server.note(up, now) | sinks.client.note(down, now)
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Tick {
        let due = |waiting: &Waiting| waiting.since.map_or(NEVER, |(_, due)| due);
        self.0.as_ref().map_or(NEVER, |sinks| due(&sinks.server).min(due(&sinks.client)))
    }

    /// Looks, when that is due: who has taken nothing for `most` ticks.
    pub(crate) fn look(
        &mut self,
        up: Way<'_>,
        down: Way<'_>,
        most: Tick,
        now: Tick,
    ) -> Option<Party> {
        let sinks = self.0.as_mut()?;
        if sinks.server.look(up, most, now) {
            return Some(Party::Server);
        }
        sinks.client.look(down, most, now).then_some(Party::Client)
    }
}

impl Waiting {
    fn note(&mut self, (pump, sink): Way<'_>, now: Tick) -> bool {
        if !pump.is_backed_up(sink) {
            self.since = None;
            return false;
        }
        if self.since.is_some() {
            return false;
        }
        // What the kernel has is asked for a moment later, if it still waits then: many do not.
        (self.since, self.left) = (Some((now, now.saturating_add(1))), Left::default());
        true
    }

    /// Whether nothing was taken for `most`.
    fn look(&mut self, way: Way<'_>, most: Tick, now: Tick) -> bool {
        let Some((since, _)) = self.since.filter(|(_, due)| *due <= now) else { return false };
        let left = Left::of(way);
        let since = if left == self.left { since } else { now };
        (self.since, self.left) = (Some((since, now.saturating_add((most / 4).max(1)))), left);
        since.saturating_add(most) <= now
    }
}

impl Left {
    fn of((pump, sink): Way<'_>) -> Self {
        Self {
            read: pump.bytes(),
            unsent: pump.unsent_bytes(sink),
            unacknowledged: sink.unacknowledged_bytes(),
        }
    }
}
