//! What counts those who go through a door: of a listener or of a route.
//!
//! ```text
//!   arrives ──meet──> Pass (handshake) ──join_all──> ──identify──> ──open──> Pass (open) ─> gone
//!     by its address        │            of all        by its name
//!                           └─ at each: a quota is used up (Turned), or a Line is to be waited in
//! ```
//!
//! A [`Pass`] goes with the connection, whoever has it, and takes back on its drop what was counted.
//! A [`Line`] is only there while the connection waits for its turn: one line after the other, so
//! that nobody takes a turn of all whose turn it is not by its address.

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
use super::turns::Place;

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
#[derive(Debug, Default)]
pub struct Entered {
    /// `None` when nothing is counted.
    pub pass: Option<Pass>,
    /// Where it has to wait for its turn.
    pub line: Option<Box<Line>>,
}

/// A place in a line, until its turn is taken. Whoever drops it before that gives it to the next.
#[derive(Debug)]
pub struct Line {
    turnstile: Arc<Turnstile>,
    at: LineOf,
    place: Place,
    is_over: bool,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineOf {
    Address(Key),
    Identity(Key),
    Total,
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

    /// Takes in a connection that begins its handshake, as far as it goes without waiting;
    /// [`Entered::come_in`] is the rest. One that brings the requests of many clients has no
    /// `client`: it is one of all, and of no address.
    pub fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Entered, Turned> {
        let mut entered = self.meet(client)?;
        if let Some(pass) = entered.pass.as_mut().filter(|_| entered.line.is_none()) {
            entered.line = pass.join_all(client)?;
        }
        Ok(entered)
    }

    /// Takes in a connection by its address alone; [`Pass::join_all`] is to follow.
    pub fn meet(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Entered, Turned> {
        if self.address.is_none() && self.identity.is_none() && self.total.is_none() {
            return Ok(Entered::default());
        }
        let mut entered = Entered::default();
        let mut slot = None;
        if let (Some(Counted { quota, table }), Some(key)) =
            (&self.address, client.and_then(address_key))
        {
            let place;
            let taken = table.enter(key, quota, self.now());
            (slot, place) = taken.map_err(|why| self.turned(Whose::Address, why))?;
            entered.line = place.map(|place| self.line(LineOf::Address(key), place));
            self.tell_of_overflow(table);
        }
        entered.pass = Some(Pass {
            turnstile: Arc::clone(self),
            address: slot,
            identity: None,
            is_in_total: false,
            stage: Stage::Handshake,
        });
        Ok(entered)
    }

    /// Whether all clients together are counted.
    pub fn counts_all(&self) -> bool {
        self.total.is_some()
    }

    fn line(self: &Arc<Self>, at: LineOf, place: Place) -> Box<Line> {
        Box::new(Line { turnstile: Arc::clone(self), at, place, is_over: false })
    }

    /// Takes in a request of `client` that is no handshake, by its address alone;
    /// [`Turnstile::request_of_all`] is to follow.
    pub fn request(&self, client: IpAddr) -> Result<(), Turned> {
        let (Some(Counted { quota, table }), Some(key)) = (&self.address, address_key(client))
        else {
            return Ok(());
        };
        let taken = table.request(key, quota, self.now());
        taken.map_err(|why| self.turned(Whose::Address, why))
    }

    /// Takes in a request of `client` as one of all.
    pub fn request_of_all(&self, client: IpAddr) -> Result<(), Turned> {
        let Some((quota, tally)) = &self.total else { return Ok(()) };
        let taken = lock(tally).request(quota, self.now());
        taken.map_err(|why| {
            self.undo_address(Some(client), Tally::undo_request);
            self.turned(Whose::Total, why)
        })
    }

    /// Takes in a request of `identity`, at `client`, that is no handshake.
    pub fn request_of(&self, client: IpAddr, identity: &Identity) -> Result<(), Turned> {
        let Some((Counted { quota, table }, key)) = self.identified(identity) else {
            return Ok(());
        };
        let taken = table.request(key, quota, self.now());
        taken.map_err(|why| {
            self.undo_address(Some(client), Tally::undo_request);
            self.undo_total(Tally::undo_request);
            self.turned(Whose::Identity, why)
        })
    }

    /// How long it is until the turn of `place`. `None` when it has come.
    fn ask(&self, at: LineOf, place: &Place) -> Option<Duration> {
        let now = self.now();
        match at {
            LineOf::Address(key) => {
                self.address.as_ref().and_then(|it| it.table.ask(key, &it.quota, place, now))
            }
            LineOf::Identity(key) => {
                self.identity.as_ref().and_then(|it| it.table.ask(key, &it.quota, place, now))
            }
            LineOf::Total => {
                self.total.as_ref().and_then(|(quota, tally)| lock(tally).ask(quota, place, now))
            }
        }
    }

    fn leave_line(&self, at: LineOf, place: &Place) {
        let now = self.now();
        let leave = |counted: &Option<Counted>, key| {
            let counted = counted.as_ref();
            counted.map(|it| it.table.leave_line(key, &it.quota, place, now))
        };
        match at {
            LineOf::Address(key) => leave(&self.address, key),
            LineOf::Identity(key) => leave(&self.identity, key),
            LineOf::Total => {
                let total = self.total.as_ref();
                total.map(|(quota, tally)| lock(tally).leave_line(quota, place, now))
            }
        };
    }

    fn identified(&self, identity: &Identity) -> Option<(&Counted, Key)> {
        let counted = self.identity.as_ref()?;
        Some((counted, Key::of_identity(identity, &self.seeds)?))
    }

    /// A client that another quota has refused does not pay for having come.
    fn undo_address(&self, client: Option<IpAddr>, undo: fn(&mut Tally, &Quota, u64)) {
        if let (Some(Counted { quota, table }), Some(key)) =
            (&self.address, client.and_then(address_key))
        {
            table.undo(key, quota, undo, self.now());
        }
    }

    fn undo_total(&self, undo: fn(&mut Tally, &Quota, u64)) {
        if let Some((quota, tally)) = &self.total {
            undo(&mut lock(tally), quota, self.now());
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
    /// Counts the connection, of `client`, as one of all; the line where it has to wait, if so.
    pub fn join_all(&mut self, client: Option<IpAddr>) -> Result<Option<Box<Line>>, Turned> {
        let turnstile = &self.turnstile;
        let Some((quota, tally)) = &turnstile.total else { return Ok(None) };
        let entered = lock(tally).enter(quota, turnstile.now());
        let place = entered.map_err(|why| {
            turnstile.undo_address(client, Tally::undo);
            turnstile.turned(Whose::Total, why)
        })?;
        self.is_in_total = quota.holds(Stage::Handshake);
        Ok(place.map(|place| turnstile.line(LineOf::Total, place)))
    }

    /// Counts the connection, of `client`, as one of `identity`; the line where it has to wait, if
    /// so.
    pub fn identify(
        &mut self,
        client: IpAddr,
        identity: &Identity,
    ) -> Result<Option<Box<Line>>, Turned> {
        let turnstile = &self.turnstile;
        let Some((Counted { quota, table }, key)) = turnstile.identified(identity) else {
            return Ok(None);
        };
        let entered = table.enter(key, quota, turnstile.now());
        let (slot, place) = entered.map_err(|why| {
            turnstile.undo_address(Some(client), Tally::undo);
            turnstile.undo_total(Tally::undo);
            turnstile.turned(Whose::Identity, why)
        })?;
        self.identity = slot;
        turnstile.tell_of_overflow(table);
        Ok(place.map(|place| turnstile.line(LineOf::Identity(key), place)))
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

impl Entered {
    /// Waits for its turn by its address and then of all, and is in.
    pub async fn come_in(mut self, client: Option<IpAddr>) -> Result<Option<Pass>, Turned> {
        while let Some(line) = self.line.take() {
            let was_met = matches!(line.at, LineOf::Address(_));
            line.turn().await;
            if let Some(pass) = self.pass.as_mut().filter(|_| was_met) {
                self.line = pass.join_all(client)?;
            }
        }
        Ok(self.pass)
    }
}

impl Line {
    /// Waits for its turn.
    pub async fn turn(mut self: Box<Self>) {
        while let Some(turn) = self.turnstile.ask(self.at, &self.place) {
            tokio::select! {
                () = tokio::time::sleep(turn) => {}
                () = self.place.ring() => {}
            }
        }
        self.is_over = true;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_over {
            self.turnstile.leave_line(self.at, &self.place);
        }
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
