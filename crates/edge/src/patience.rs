//! How long a tunnel's peers may take nothing of what waits for them.

use tidewire_runtime::deadline::{NEVER, Tick};
use tidewire_runtime::pump::Pump;
use tidewire_runtime::socket::Socket;

use crate::end::Party;

/// Watches both sinks of a tunnel.
#[derive(Debug)]
pub(crate) struct Patience {
    /// In ticks.
    most: Tick,
    server: Waiting,
    client: Waiting,
}

/// What waits for a sink, and since when it has taken none of it.
#[derive(Debug, Default)]
struct Waiting {
    since: Option<Tick>,
    /// What was read by then, and how much of that was unsent: if both are as they were, nothing
    /// was taken.
    read: u64,
    unsent: usize,
}

impl Patience {
    pub(crate) fn new(most: Tick) -> Self {
        Self { most, server: Waiting::default(), client: Waiting::default() }
    }

    /// Looks at what waits. True when somebody has begun to wait.
    pub(crate) fn note(&mut self, up: (&Pump, &Socket), down: (&Pump, &Socket), now: Tick) -> bool {
        self.server.note(up, now) | self.client.note(down, now)
    }

    /// When it is over, and whose doing that would be.
    pub(crate) fn due(&self) -> (Tick, Party) {
        let due =
            |waiting: &Waiting| waiting.since.map_or(NEVER, |at| at.saturating_add(self.most));
        let (server, client) = (due(&self.server), due(&self.client));
        if server < client { (server, Party::Server) } else { (client, Party::Client) }
    }
}

impl Waiting {
    #[inline]
    fn note(&mut self, (pump, sink): (&Pump, &Socket), now: Tick) -> bool {
        if !pump.is_backed_up(sink) {
            self.since = None;
            return false;
        }
        let (read, unsent) = (pump.bytes(), pump.unsent_bytes(sink));
        if self.since.is_some() && (self.read, self.unsent) == (read, unsent) {
            return false;
        }
        (self.read, self.unsent) = (read, unsent);
        self.since.replace(now).is_none()
    }
}
