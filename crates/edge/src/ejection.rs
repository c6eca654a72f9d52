//! Servers that fail clients get none for a while, whatever their probes say.
//!
//! Clients must not be able to bring that about: only what a server does on its own counts. That it
//! cannot be connected to is one such thing. A handshake that gets no proper answer may be the
//! client's doing, so each address counts once in a row; and whoever is refused or leaves counts
//! not at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::percent::{Percent, Share};
use tidewire_runtime::units::Period;

use crate::backend::Backend;
use crate::server::{Server, ServerId};

/// Has servers that fail clients get none for a while. Not done by default: after an outage of the
/// network, the servers that stay would get everybody, and WebSockets stay where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectConfig {
    /// Connections in a row that cannot be established; 0 does not count them.
    pub connect_errors: u32,
    /// WebSocket handshakes in a row, each of another address, that get no answer, none that is
    /// HTTP, or a wrong 101; 0 does not count them.
    pub handshake_errors: u32,
    /// Whether a 5xx is such an answer.
    pub server_errors: bool,
    /// How long a server is ejected the first time; twice as long each further time.
    pub base: Period,
    /// How long at most; after as much time without another one, an ejection is forgotten.
    pub max: Period,
    /// How many of the servers that take clients stay in any case.
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
    /// A handshake of this address got no proper answer.
    NotSwitched(IpAddr),
}

/// What is remembered of one server. Pure.
#[derive(Debug, Default)]
struct Record {
    connect_errors: u32,
    handshake_errors: Vec<IpAddr>,
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
    records: Mutex<HashMap<ServerId, Record>>,
    /// Servers that have failed somebody last: while there is none, a success costs a load.
    unclean: AtomicU32,
}

impl Ejection {
    pub fn new(config: EjectConfig) -> Self {
        Self { config, records: Mutex::default(), unclean: AtomicU32::new(0) }
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
        let mut records = ejection.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(server.id).or_default();
        let is_too_much = record.note(&ejection.config, deed);
        // Under the lock, so that two workers do not eject one server too many.
        if is_too_much && server.is_up() && self.can_spare(&ejection.config) {
            let time = record.eject(&ejection.config, Instant::now());
            let why = format!("it failed clients, for {}", Period(time));
            server.counts.ejections.fetch_add(1, Ordering::Relaxed);
            self.learn(server, |facts| facts.ejected = Some(why));
            tokio::task::spawn_local(take_back(Arc::clone(self), Arc::clone(server), time));
        }
        let listed = self.servers();
        records.retain(|id, _| listed.iter().any(|server| server.id == *id));
        let unclean = records.values().filter(|record| !record.is_clean()).count();
        ejection.unclean.store(u32::try_from(unclean).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether enough servers stay when one more is ejected.
    fn can_spare(&self, config: &EjectConfig) -> bool {
        let servers = self.servers();
        let state = |server: &&Arc<Server>| server.status.facts();
        let up = servers.iter().filter(|server| server.is_up()).count();
        let ejected = servers.iter().filter(|it| state(it).ejected.is_some()).count();
        up > config.keep.of(up + ejected).max(1)
    }
}

async fn take_back(backend: Arc<Backend>, server: Arc<Server>, time: Duration) {
    tokio::time::sleep(time).await;
    let Some(ejection) = &backend.ejection else { return };
    let is_over = {
        let records = ejection.records.lock().unwrap_or_else(PoisonError::into_inner);
        let over = records.get(&server.id).and_then(|record| record.over);
        // The operator may have ended that one, and another one may have begun.
        over.is_none_or(|over| over <= Instant::now() + SLACK)
    };
    if is_over {
        backend.learn(&server, |facts| facts.ejected = None);
    }
}

const SLACK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
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
