//! The tallies of addresses or identities, in bounded memory.
//!
//! Whoever has nothing open and all paid is forgotten. When the table is full, a newcomer takes the
//! place of the one with the least to remember among a few: of nobody who has something open. If
//! all of those few have, the newcomer is not counted by its address or identity: to hold all places
//! takes as many open connections, and then to refuse everybody else would be the worse answer.
//! What all clients together may have holds for it all the same.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use super::quota::Quota;
use super::tally::{Exceeded, Stage, Tally};
use super::turns::Place;

/// Who is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u64; 2]);

/// Tallies by key. Shared by all workers, who touch it when a connection begins, has got through
/// its handshake, and ends.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded: nobody can choose addresses that meet in one place.
    hasher: RandomState,
    uncounted: AtomicU64,
}

/// The place of a tally that something is counted in. It is not given away until that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(NonZeroU32);

/// What there is in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Keys that are remembered.
    pub known: usize,
    /// Connections and handshakes that are counted.
    pub held: u64,
}

#[derive(Debug)]
struct Shard {
    tallies: Slab<(Key, Tally)>,
    /// Where in `tallies` each key is.
    index: HashTable<u32>,
    /// Where the next look for somebody to forget begins.
    hand: usize,
    most: usize,
}

impl Table {
    /// For `most` keys.
    pub fn new(most: usize) -> Self {
        let shards = SHARDS.min(most.max(1));
        let shard = |number| {
            let most = most / shards + usize::from(number < most % shards);
            Mutex::new(Shard::new(most.max(1)))
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            hasher: RandomState::new(),
            uncounted: AtomicU64::new(0),
        }
    }

    /// Takes in a connection of `key`: where it is counted, if it is, and its place in the line, if
    /// it must wait for its turn.
    pub fn enter(
        &self,
        key: Key,
        quota: &Quota,
        now: u64,
    ) -> Result<(Option<Slot>, Option<Place>), Exceeded> {
        let (number, mut shard) = self.shard_of(key);
        let Some(at) = shard.place(key, now, &self.hasher) else {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
            return Ok((None, None));
        };
        let place = shard.tallies[at].1.enter(quota, now)?;
        let slot = quota.holds(Stage::Handshake).then(|| self.slot(number, at));
        Ok((slot, place))
    }

    /// How long it is until the turn of `place`, in the line of `key`. `None` when it has come: then
    /// it may be that `key` is forgotten.
    pub fn ask(&self, key: Key, quota: &Quota, place: &Place, now: u64) -> Option<Duration> {
        let (_, mut shard) = self.shard_of(key);
        let at = shard.find(key, self.hasher.hash_one(key))?;
        shard.tallies[at].1.ask(quota, place, now)
    }

    /// Gives `place` to those behind it.
    pub fn leave_line(&self, key: Key, quota: &Quota, place: &Place, now: u64) {
        let (_, mut shard) = self.shard_of(key);
        if let Some(at) = shard.find(key, self.hasher.hash_one(key)) {
            shard.tallies[at].1.leave_line(quota, place, now);
        }
    }

    /// Takes in a request of `key` that is no handshake.
    pub fn request(&self, key: Key, quota: &Quota, now: u64) -> Result<(), Exceeded> {
        if quota.requests.is_none() {
            return Ok(());
        }
        let (_, mut shard) = self.shard_of(key);
        let Some(at) = shard.place(key, now, &self.hasher) else {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        shard.tallies[at].1.request(quota, now)
    }

    /// Takes back what another quota has refused.
    pub fn undo(&self, key: Key, quota: &Quota, undo: fn(&mut Tally, &Quota, u64), now: u64) {
        let (_, mut shard) = self.shard_of(key);
        if let Some(at) = shard.find(key, self.hasher.hash_one(key)) {
            undo(&mut shard.tallies[at].1, quota, now);
        }
    }

    /// The connection at `slot` has got through its handshake: where it is counted from now on.
    pub fn open(&self, slot: Slot, quota: &Quota, now: u64) -> Option<Slot> {
        if !quota.holds(Stage::Open) {
            self.leave(slot, quota, Stage::Handshake, now);
            return None;
        }
        let (mut shard, at) = self.at(slot);
        shard.tallies[at].1.open(quota);
        Some(slot)
    }

    /// The connection at `slot` is gone.
    pub fn leave(&self, slot: Slot, quota: &Quota, stage: Stage, now: u64) {
        let (mut shard, at) = self.at(slot);
        let tally = &mut shard.tallies[at].1;
        tally.leave(quota, stage);
        if tally.is_fresh(now) {
            shard.forget(at, &self.hasher);
        }
    }

    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for shard in &self.shards {
            let shard = lock(shard);
            census.known += shard.tallies.len();
            census.held +=
                shard.tallies.iter().map(|(_, (_, it))| u64::from(it.held())).sum::<u64>();
        }
        census
    }

    /// How many arrivals had no place.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    fn shard_of(&self, key: Key) -> (usize, MutexGuard<'_, Shard>) {
        // The index of a shard goes by the low bits.
        let number = (self.hasher.hash_one(key) >> 48) as usize % self.shards.len();
        (number, lock(&self.shards[number]))
    }

    fn slot(&self, shard: usize, at: usize) -> Slot {
        let number = at * self.shards.len() + shard + 1;
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        Slot(number.expect("a table is bounded by a number of 32 bits"))
    }

    fn at(&self, slot: Slot) -> (MutexGuard<'_, Shard>, usize) {
        let number = slot.0.get() as usize - 1;
        (lock(&self.shards[number % self.shards.len()]), number / self.shards.len())
    }
}

impl Shard {
    fn new(most: usize) -> Self {
        Self { tallies: Slab::new(), index: HashTable::new(), hand: 0, most }
    }

    fn find(&self, key: Key, hash: u64) -> Option<usize> {
        self.index.find(hash, |&at| self.tallies[at as usize].0 == key).map(|&at| at as usize)
    }

    /// Where the tally of `key` is, now if not before. `None` when there is no room for it.
    fn place(&mut self, key: Key, now: u64, hasher: &RandomState) -> Option<usize> {
        let hash = hasher.hash_one(key);
        if let Some(at) = self.find(key, hash) {
            return Some(at);
        }
        self.make_room(now, hasher);
        if self.tallies.len() >= self.most {
            return None;
        }
        let at = self.tallies.insert((key, Tally::default()));
        let tallies = &self.tallies;
        let rehash = |&at: &u32| hasher.hash_one(tallies[at as usize].0);
        self.index.insert_unique(hash, at as u32, rehash);
        Some(at)
    }

    /// Looks at a few tallies, always the next ones. Forgets those that are as nothing, and of a
    /// full table the one with the least debt, when there is no such.
    fn make_room(&mut self, now: u64, hasher: &RandomState) {
        let is_full = self.tallies.len() >= self.most;
        let mut least: Option<(Duration, usize)> = None;
        for _ in 0..if is_full { LOOKS_WHEN_FULL } else { LOOKS } {
            let at = self.hand;
            self.hand = if at + 1 < self.tallies.capacity().min(self.most) { at + 1 } else { 0 };
            let Some((_, tally)) = self.tallies.get(at).filter(|(_, tally)| !tally.is_in_use())
            else {
                continue;
            };
            let debt = tally.debt(now);
            if debt.is_zero() {
                self.forget(at, hasher);
                if is_full {
                    return;
                }
            } else if least.is_none_or(|(least, _)| debt < least) {
                least = Some((debt, at));
            }
        }
        if let Some((_, at)) = least.filter(|_| is_full) {
            self.forget(at, hasher);
        }
    }

    fn forget(&mut self, at: usize, hasher: &RandomState) {
        let (key, tally) = self.tallies.remove(at);
        debug_assert!(!tally.is_in_use(), "somebody is forgotten who has something open or waits");
        let found = self.index.find_entry(hasher.hash_one(key), |&it| it as usize == at);
        found.map(|entry| entry.remove()).expect("what has a tally is in the index");
    }
}

/// A panic under the lock, of which there is none, leaves at worst a count that is off by one.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Workers meet at one lock in so many cases at most.
const SHARDS: usize = 16;

/// How many are looked at for each newcomer, so that what is forgotten keeps pace with what comes.
const LOOKS: usize = 2;

/// A full table of which an eighth can be forgotten finds one nine times out of ten.
const LOOKS_WHEN_FULL: usize = 16;

#[cfg(test)]
mod tests;
