//! What counts those who go through a door: of a listener or of a route.
//!
//! ```text
//!   arrives ──enter──> Pass (handshake) ──open──> Pass (open) ──dropped──> gone
//!      └─ a quota is used up: Turned        └─ dropped: it came to nothing
//! ```
//!
//! A [`Pass`] goes with the connection, whoever has it, and takes back on its drop what was counted.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidewire_auth::identity::Identity;

use super::quota::{Quota, Quotas, Whose};
use super::table::{Census, Key, Slot, Table};
use super::tally::{Exceeded, Stage, Tally};
use super::turned::{Limit, Turned};

/// Counts those who come through. Shared by all workers.
#[derive(Debug)]
pub struct Turnstile {
    /// What it stands before: `route "chat"`.
    name: String,
    address: Option<Counted>,
    identity: Option<Counted>,
    total: Option<(Quota, Mutex<Tally>)>,
    seeds: [RandomState; 2],
    begun: Instant,
    refused: [Refusals; Limit::COUNT],
    uncounted_seen: AtomicU64,
    overflow: Told,
}

#[derive(Debug)]
struct Counted {
    quota: Quota,
    table: Table,
}

/// How often a limit has refused somebody.
#[derive(Debug, Default)]
struct Refusals {
    count: AtomicU64,
    told: Told,
}

/// When something was last told, which is told again only after a while.
#[derive(Debug, Default)]
struct Told(AtomicU64);

/// A connection that is counted, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    turnstile: Arc<Turnstile>,
    address: Option<Slot>,
    identity: Option<Slot>,
    is_in_total: bool,
    stage: Stage,
}

/// A connection that may come in.
#[derive(Debug)]
pub struct Entered {
    /// `None` when nothing is counted.
    pub pass: Option<Pass>,
    /// How long it has to wait for its turn.
    pub turn: Duration,
}

impl Turnstile {
    pub fn new(name: String, quotas: &Quotas) -> Self {
        let counted = |quota: Quota| {
            let table = || Table::new(quotas.max_known);
            (!quota.is_empty()).then(|| Counted { quota, table: table() })
        };
        let total = quotas.total;
        Self {
            name,
            address: counted(quotas.per_address),
            identity: counted(quotas.per_identity),
            total: (!total.is_empty()).then(|| (total, Mutex::default())),
            seeds: [RandomState::new(), RandomState::new()],
            begun: Instant::now(),
            refused: Default::default(),
            uncounted_seen: AtomicU64::new(0),
            overflow: Told::default(),
        }
    }

    /// Takes in a connection of `client` that begins its handshake.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Entered, Turned> {
        self.take_in(Some(client))
    }

    /// Takes in a connection that brings the requests of many clients: it is one of all, and of
    /// no address.
    pub fn enter_for_many(self: &Arc<Self>) -> Result<Entered, Turned> {
        self.take_in(None)
    }

    fn take_in(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Entered, Turned> {
        if self.address.is_none() && self.identity.is_none() && self.total.is_none() {
            return Ok(Entered { pass: None, turn: Duration::ZERO });
        }
        let now = self.now();
        let mut turn = Duration::ZERO;
        let mut pass = Pass {
            turnstile: Arc::clone(self),
            address: None,
            identity: None,
            is_in_total: false,
            stage: Stage::Handshake,
        };
        let key = client.and_then(address_key);
        if let (Some(Counted { quota, table }), Some(key)) = (&self.address, key) {
            let entered = table.enter(key, quota, now);
            (pass.address, turn) = entered.map_err(|why| self.turned(Whose::Address, why))?;
            self.tell_of_overflow(table);
        }
        if let Some((quota, tally)) = &self.total {
            match lock(tally).enter(quota, now) {
                Ok(of_total) => turn = turn.max(of_total),
                Err(why) => {
                    if let Some(key) = key {
                        self.undo_address(pass.address.take(), key);
                    }
                    return Err(self.turned(Whose::Total, why));
                }
            }
            pass.is_in_total = quota.holds(Stage::Handshake);
        }
        Ok(Entered { pass: Some(pass), turn })
    }

    /// Takes in a request of `client` that is no handshake.
    pub fn request(&self, client: IpAddr) -> Result<(), Turned> {
        let now = self.now();
        let key = address_key(client);
        if let (Some(Counted { quota, table }), Some(key)) = (&self.address, key) {
            let taken = table.request(key, quota, now);
            taken.map_err(|why| self.turned(Whose::Address, why))?;
        }
        if let Some((quota, tally)) = &self.total
            && let Err(why) = lock(tally).request(quota, now)
        {
            if let (Some(Counted { quota, table }), Some(key)) = (&self.address, key) {
                table.undo(key, quota, Tally::undo_request);
            }
            return Err(self.turned(Whose::Total, why));
        }
        Ok(())
    }

    /// Takes in a request of `identity` that is no handshake.
    pub fn request_of(&self, identity: &Identity) -> Result<(), Turned> {
        let Some((Counted { quota, table }, key)) = self.identified(identity) else {
            return Ok(());
        };
        let taken = table.request(key, quota, self.now());
        taken.map_err(|why| self.turned(Whose::Identity, why))
    }

    fn identified(&self, identity: &Identity) -> Option<(&Counted, Key)> {
        let counted = self.identity.as_ref()?;
        Some((counted, Key::of_identity(identity, &self.seeds)?))
    }

    /// A client that another quota has refused does not pay for having come.
    fn undo_address(&self, slot: Option<Slot>, key: Key) {
        let Some(Counted { quota, table }) = &self.address else { return };
        if slot.is_some() || !quota.holds(Stage::Handshake) {
            table.undo(key, quota, Tally::undo);
        }
    }

    fn turned(&self, whose: Whose, why: Exceeded) -> Turned {
        let limit = Limit { whose, what: why.what };
        let refusals = &self.refused[limit.index()];
        let refused = refusals.count.fetch_add(1, Ordering::Relaxed) + 1;
        if refusals.told.is_due(self.begun) {
            let (name, limit) = (&self.name, limit.as_str());
            tracing::warn!(refused, "limit `{limit}` of {name} is reached");
        }
        Turned::limited(whose, why, fastrand::f32())
    }

    fn tell_of_overflow(&self, table: &Table) {
        let uncounted = table.uncounted();
        if uncounted > self.uncounted_seen.load(Ordering::Relaxed) {
            self.uncounted_seen.store(uncounted, Ordering::Relaxed);
            if self.overflow.is_due(self.begun) {
                let name = &self.name;
                tracing::warn!(
                    uncounted,
                    "{name} has more clients than `max_known`: some are not counted"
                );
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How often each limit has refused somebody; those that nobody can meet are left out.
    pub fn refusals(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::all()
            .filter(|limit| self.has(*limit))
            .map(|limit| (limit, self.refused[limit.index()].count.load(Ordering::Relaxed)))
    }

    fn has(&self, limit: Limit) -> bool {
        use super::tally::What;
        let quota = match limit.whose {
            Whose::Address => self.address.as_ref().map(|it| &it.quota),
            Whose::Identity => self.identity.as_ref().map(|it| &it.quota),
            Whose::Total => self.total.as_ref().map(|(quota, _)| quota),
        };
        quota.is_some_and(|quota| match limit.what {
            What::Connections => quota.connections.is_some(),
            What::Handshakes => quota.handshakes.is_some(),
            What::Rate => quota.arrivals.is_some(),
            What::Requests => quota.requests.is_some(),
        })
    }

    /// Who is counted, by whose quota it is, and how many were not for want of room.
    pub fn census(&self) -> impl Iterator<Item = (&'static str, Census, u64)> {
        let of = |name, counted: &Option<Counted>| {
            counted.as_ref().map(|it| (name, it.table.census(), it.table.uncounted()))
        };
        let total = self
            .total
            .as_ref()
            .map(|(_, tally)| ("total", Census { known: 1, held: lock(tally).held().into() }, 0));
        let tables = [of("per_address", &self.address), of("per_identity", &self.identity), total];
        tables.into_iter().flatten()
    }
}

impl Pass {
    /// Counts the client as `identity`, too, and says how long it has to wait for its turn.
    pub fn identify(&mut self, identity: &Identity) -> Result<Duration, Turned> {
        let turnstile = Arc::clone(&self.turnstile);
        let Some((Counted { quota, table }, key)) = turnstile.identified(identity) else {
            return Ok(Duration::ZERO);
        };
        let entered = table.enter(key, quota, turnstile.now());
        let (slot, turn) = entered.map_err(|why| turnstile.turned(Whose::Identity, why))?;
        self.identity = slot;
        turnstile.tell_of_overflow(table);
        Ok(turn)
    }

    /// The handshake is over. `None` when nothing is counted any more.
    pub fn open(mut self) -> Option<Self> {
        if self.stage == Stage::Open {
            return Some(self);
        }
        let now = self.turnstile.now();
        let turnstile = Arc::clone(&self.turnstile);
        let open = |counted: &Option<Counted>, slot: Option<Slot>| {
            let counted = counted.as_ref()?;
            counted.table.open(slot?, &counted.quota, now)
        };
        // Set first: whatever happens below, nothing is taken back twice.
        self.stage = Stage::Open;
        self.address = open(&turnstile.address, self.address.take());
        self.identity = open(&turnstile.identity, self.identity.take());
        if let Some((quota, tally)) = turnstile.total.as_ref().filter(|_| self.is_in_total) {
            lock(tally).open(quota);
            self.is_in_total = quota.holds(Stage::Open);
        }
        let is_counted = self.address.is_some() || self.identity.is_some() || self.is_in_total;
        is_counted.then_some(self)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Turnstile { address, identity, total, .. } = &*self.turnstile;
        for (counted, slot) in [(address, self.address), (identity, self.identity)] {
            if let (Some(Counted { quota, table }), Some(slot)) = (counted, slot) {
                table.leave(slot, quota, self.stage, self.turnstile.now());
            }
        }
        if let Some((quota, tally)) = total.as_ref().filter(|_| self.is_in_total) {
            lock(tally).leave(quota, self.stage);
        }
    }
}

impl Told {
    /// Whether it is to be told now; then it counts as told.
    fn is_due(&self, begun: Instant) -> bool {
        // Zero is never.
        let now = begun.elapsed().as_secs() + 1;
        let last = self.0.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= last + TOLD_EVERY;
        // One of those who come at the same moment tells it.
        is_due && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Whoever comes by a Unix socket, and of whom nobody says more, has no address to be counted by.
fn address_key(client: IpAddr) -> Option<Key> {
    (!client.is_unspecified()).then(|| Key::of_address(client))
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds from one line about the same limit to the next.
const TOLD_EVERY: u64 = 60;

#[cfg(test)]
mod tests;
