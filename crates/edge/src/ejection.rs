//! Servers that fail clients get none for a while, whatever their probes say.
//!
//! Clients must not be able to bring that about: only what a server does on its own counts. That it
//! cannot be connected to is one such thing. A handshake that gets no proper answer may be the
//! client's doing, so each client counts once in a row, as limits know clients: all of a /64 are one;
//! and whoever is refused or leaves counts not at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::percent::{Percent, Share};
use tidewire_runtime::units::Period;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::limits::table::Key;
use crate::server::{Server, ServerId};

/// Has servers that fail clients get none for a while. Not done by default: after an outage of the
/// network, the servers that stay would get everybody, and WebSockets stay where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectConfig {
    /// Connections in a row that cannot be established; 0 does not count them.
    pub connect_errors: u32,
    /// WebSocket handshakes in a row, each of another client (an IPv4 address, or the /64 of an IPv6
    /// one), that get no answer, none that is HTTP, or a wrong 101; 0 does not count them.
    pub handshake_errors: u32,
    /// Whether a 5xx is such an answer.
    pub server_errors: bool,
    /// How long a server is ejected the first time; twice as long each further time.
    pub base: Period,
    /// How long at most; after as much time without another one, an ejection is forgotten.
    pub max: Period,
    /// How many of the servers that take new clients stay in any case; one does at least.
    pub keep: Share,
}

impl Default for EjectConfig {
    fn default() -> Self {
        Self {
            connect_errors: 5,
            handshake_errors: 0,
            server_errors: false,
            base: Period::from_secs(10),
            max: Period::from_secs(300),
            keep: Share::Part(Percent::whole(50)),
        }
    }
}

/// What a server did for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Connected,
    NotConnected,
    Switched,
    /// A handshake of this client got no proper answer.
    NotSwitched(Key),
}

/// What is remembered of one server. Pure.
#[derive(Debug, Default)]
struct Record {
    connect_errors: u32,
    handshake_errors: Vec<Key>,
    /// How often it was ejected, less what is forgotten, and when the last of them is over.
    level: u32,
    over: Option<Instant>,
}

impl Record {
    /// Takes note; true when the server has failed often enough.
    fn note(&mut self, config: &EjectConfig, deed: Deed) -> bool {
        match deed {
            Deed::Connected => self.connect_errors = 0,
            Deed::NotConnected => self.connect_errors += 1,
            Deed::Switched => self.handshake_errors.clear(),
            Deed::NotSwitched(client) => {
                let is_full = self.handshake_errors.len() >= config.handshake_errors as usize;
                if !is_full && !self.handshake_errors.contains(&client) {
                    self.handshake_errors.push(client);
                }
            }
        }
        let is_many = |count: u32, most: u32| most > 0 && count >= most;
        is_many(self.connect_errors, config.connect_errors)
            || is_many(self.handshake_errors.len() as u32, config.handshake_errors)
    }

    /// Ejects it: for how long.
    fn eject(&mut self, config: &EjectConfig, now: Instant) -> Duration {
        let (base, max) = (config.base.0, config.max.0.max(config.base.0));
        if let Some(over) = self.over {
            let good = now.saturating_duration_since(over).as_nanos() / max.as_nanos().max(1);
            self.level = self.level.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX));
        }
        let time = base.saturating_mul(1 << self.level.min(20)).min(max);
        self.level = (self.level + 1).min(30);
        self.over = Some(now + time);
        self.connect_errors = 0;
        self.handshake_errors.clear();
        time
    }

    fn is_clean(&self) -> bool {
        self.connect_errors == 0 && self.handshake_errors.is_empty()
    }
}

/// The ejections of a backend, for all workers.
#[derive(Debug)]
pub struct Ejection {
    pub config: EjectConfig,
    /// Of servers that have ever failed somebody.
    records: Mutex<HashMap<ServerId, Record>>,
    /// Those that have failed somebody last: while there is none, a success costs a load.
    unclean: AtomicU32,
}

impl Ejection {
    pub fn new(config: EjectConfig) -> Self {
        Self { config, records: Mutex::default(), unclean: AtomicU32::new(0) }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<ServerId, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    /// Takes note of what `server` did for a client; to be called on a worker.
    pub fn note(self: &Arc<Self>, server: &Arc<Server>, deed: Deed) {
        let Some(ejection) = &self.ejection else { return };
        let is_good = matches!(deed, Deed::Connected | Deed::Switched);
        if is_good && ejection.unclean.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut records = ejection.records();
        if !records.contains_key(&server.id) {
            if is_good {
                return;
            }
            // Only here does it grow, so only here are those left out that are not listed any more.
            let listed = self.servers();
            records.retain(|id, _| listed.iter().any(|server| server.id == *id));
        }
        let record = records.entry(server.id).or_default();
        let is_too_much = record.note(&ejection.config, deed);
        // Under the lock, so that two workers do not eject one server too many.
        if is_too_much && server.is_up() && self.can_spare(server, &ejection.config) {
            let now = Instant::now();
            let time = record.eject(&ejection.config, now);
            let why = format!("it failed clients, for {}", Period(time));
            server.counts.ejections.fetch_add(1, Ordering::Relaxed);
            self.learn(server, |facts| facts.ejected = Some(why));
            let taken_back = take_back(Arc::clone(self), Arc::clone(server), now + time);
            tokio::task::spawn_local(taken_back);
        }
        let unclean = records.values().filter(|record| !record.is_clean()).count();
        ejection.unclean.store(u32::try_from(unclean).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether enough servers stay when `server` is ejected. One of weight 0 takes nobody, so it is
    /// none of those that stay.
    fn can_spare(&self, server: &Server, config: &EjectConfig) -> bool {
        let servers = self.servers();
        let others = || servers.iter().filter(|it| it.id != server.id && !it.weight.is_zero());
        let stay = others().filter(|it| it.is_up()).count();
        let ejected = others().filter(|it| it.status.facts().ejected.is_some()).count();
        let all = stay + ejected + usize::from(!server.weight.is_zero());
        stay >= config.keep.of(all).max(1)
    }

    /// Ends all ejections when no server takes clients any more: one that has failed some may be
    /// better than none. To be called when a server has ceased to take them.
    ///
    /// Of two servers that cease at the same time, one is seen by who looks for the other: both are
    /// written before the lock is taken that `has_up` takes.
    pub(crate) fn end_needless_ejections(self: &Arc<Self>) {
        if self.ejection.is_none() || self.has_up() {
            return;
        }
        for server in self.servers().iter() {
            self.learn(server, |facts| facts.ejected = None);
        }
    }
}

async fn take_back(backend: Arc<Backend>, server: Arc<Server>, over: Instant) {
    tokio::time::sleep_until(over).await;
    let Some(ejection) = &backend.ejection else { return };
    // This one may have been ended before its time, and another one may have begun.
    let is_last = ejection.records().get(&server.id).is_none_or(|it| it.over == Some(over));
    if is_last {
        backend.learn(&server, |facts| facts.ejected = None);
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Key {
        Key::of_address([10, 0, 0, last].into())
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let config = EjectConfig { connect_errors: 3, ..EjectConfig::default() };
        let mut record = Record::default();
        let mut note = |deed| record.note(&config, deed);
        assert!(!note(Deed::NotConnected) && !note(Deed::NotConnected) && !note(Deed::Connected));
        assert!(!note(Deed::NotConnected) && !note(Deed::NotConnected) && note(Deed::NotConnected));
    }

    #[test]
    fn one_client_ejects_nobody_by_its_handshakes() {
        let config = EjectConfig { handshake_errors: 3, ..EjectConfig::default() };
        let mut record = Record::default();
        let mut note = |deed| record.note(&config, deed);
        assert!((0..1000).all(|_| !note(Deed::NotSwitched(client(1)))));
        assert!(!note(Deed::NotSwitched(client(2))));
        assert!(note(Deed::NotSwitched(client(3))));
        assert!(!note(Deed::Switched));
        let off = EjectConfig::default();
        let mut record = Record::default();
        assert!((0..200).all(|it| !record.note(&off, Deed::NotSwitched(client(it)))));
    }

    #[test]
    fn ejections_grow_to_their_bound_and_are_forgotten() {
        let config = EjectConfig::default();
        let mut record = Record::default();
        let mut now = Instant::now();
        let mut eject = |pause| {
            now += Duration::from_secs(pause);
            let time = record.eject(&config, now);
            now += time;
            time.as_secs()
        };
        assert_eq!([0; 7].map(&mut eject), [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(eject(4 * 300), 80, "four of seven are forgotten");
        assert_eq!(eject(100 * 300), 10);
    }
}
