//! A table in stripes, each with a lock of its own, so that two topics seldom wait for each other.

use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::topic::Topic;

/// A map from topics to `V`, locked by stripes.
///
/// The lock of a topic's stripe is what puts its publications into one order: whoever delivers
/// holds it until every receiver has the publication.
#[derive(Debug)]
pub(crate) struct Striped<V> {
    hasher: foldhash::fast::RandomState,
    stripes: Box<[Mutex<Table<V>>]>,
}

pub(crate) type Table<V> = HashMap<Topic, V, foldhash::fast::RandomState>;

impl<V> Striped<V> {
    pub(crate) fn new() -> Self {
        let hasher = foldhash::fast::RandomState::default();
        let table = || Mutex::new(Table::with_hasher(hasher.clone()));
        Self { stripes: (0..STRIPES).map(|_| table()).collect(), hasher }
    }

    /// The part of the table that has `topic`, or would have it.
    pub(crate) fn lock(&self, topic: &str) -> MutexGuard<'_, Table<V>> {
        // The tables use the low and the highest bits of the same hash, so take others here.
        let stripe = (self.hasher.hash_one(topic) >> 32) as usize % STRIPES;
        lock(&self.stripes[stripe])
    }

    /// Every part in turn.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = MutexGuard<'_, Table<V>>> {
        self.stripes.iter().map(lock)
    }
}

/// Locks `mutex`, also after a panic of another holder: the tables are whole between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const STRIPES: usize = 64;
