//! The servers of a backend as they are now, and which of them a client gets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::BackendConfig;
use crate::balance::key::hash;
use crate::balance::{Balance, Candidate};
use crate::caller::Preference;
use crate::former::Former;
use crate::queue::Queue;
use crate::server::{Server, ServerConfig, ServerId, TakenOver};
use crate::stick::Stick;
use crate::stick::token::Token;

/// The servers that there are now, how one of them is chosen, and who waits for one. It is behind
/// its backend's lock.
pub struct Choice {
    servers: Arc<[Arc<Server>]>,
    /// What does not change of each, in the same order.
    seats: Vec<Seat>,
    former: Former,
    balance: Box<dyn Balance>,
    pub queue: Queue,
    /// Room for the candidates of a choice.
    candidates: Vec<Candidate>,
}

struct Seat {
    seed: u64,
    token: Token,
}

/// When servers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// With the edge: they are taken for well and warm, as nobody else could take clients.
    Start,
    Later,
}

/// What a change of the servers was.
#[derive(Debug, Default)]
pub struct Changed {
    pub added: Vec<Arc<Server>>,
    /// Those that were there or have been, with what else is to be done about each.
    pub kept: Vec<(Arc<Server>, TakenOver)>,
    /// They get no new clients; those that they have stay.
    pub removed: Vec<Arc<Server>>,
}

impl Choice {
    pub fn new(config: &BackendConfig, slowstart: Duration, stick: &Stick) -> Self {
        let servers: Arc<[_]> =
            config.server.iter().map(|server| Arc::new(Server::new(server, slowstart))).collect();
        let random = fastrand::Rng::new();
        Self {
            seats: servers.iter().map(|server| Seat::new(server, stick)).collect(),
            balance: config.balance.build(servers.len(), config.hash_balance_factor, random),
            former: Former::default(),
            queue: Queue::new(config.queue),
            candidates: Vec::new(),
            servers,
        }
    }

    pub fn servers(&self) -> &Arc<[Arc<Server>]> {
        &self.servers
    }

    /// Has these servers from now on. One that is there stays the same, and one that has come back
    /// too; see [`Former`].
    pub fn set_servers(
        &mut self,
        configs: &[ServerConfig],
        arrival: Arrival,
        slowstart: Duration,
        stick: &Stick,
    ) -> Changed {
        let known = Arc::clone(&self.servers);
        let seats: HashMap<&str, usize> =
            known.iter().enumerate().map(|(seat, server)| (server.name.as_str(), seat)).collect();
        let now = Instant::now();
        let mut changed = Changed::default();
        let mut before = Vec::with_capacity(configs.len());
        let servers = configs.iter().map(|config| {
            let seat = seats.get(config.name.as_str()).copied();
            let seat = seat.filter(|seat| known[*seat].is_of(config));
            before.push(seat);
            let there = seat.map(|seat| Arc::clone(&known[seat]));
            let is_new = there.is_none();
            let former = there.or_else(|| self.former.take_back(config, now));
            let server = match former {
                Some(server) => {
                    changed.kept.push((Arc::clone(&server), server.take_over(config)));
                    server
                }
                None => Arc::new(Server::new(config, slowstart)),
            };
            if is_new {
                changed.added.push(Arc::clone(&server));
            }
            server
        });
        self.servers = servers.collect();
        let is_new = |it: &Arc<Server>| changed.added.iter().any(|new| new.id == it.id);
        let has_others = self.servers.iter().any(|it| takes_newcomers(it) && !is_new(it));
        // Where nobody else could take clients, nobody is waited for.
        let arrival = if has_others { arrival } else { Arrival::Start };
        changed.added.iter().for_each(|it| begin(it, arrival, now));
        self.seats = self.servers.iter().map(|it| Seat::new(it, stick)).collect();
        self.balance.reseat(&before);
        let is_gone = |(seat, _): &(usize, &Arc<Server>)| !before.contains(&Some(*seat));
        let gone = known.iter().enumerate().filter(is_gone);
        changed.removed = gone.map(|(_, server)| Arc::clone(server)).collect();
        changed.removed.iter().for_each(|it| self.former.keep(Arc::clone(it), now));
        self.former.forget(now);
        changed
    }

    /// The server whose token this is.
    pub fn server_of(&self, token: &[u8]) -> Option<ServerId> {
        let seat = self.seats.iter().position(|seat| seat.token.is(token))?;
        Some(self.servers[seat].id)
    }

    /// Takes a server for a client; still under the lock, as two clients must not take the last
    /// room of a server.
    pub fn take(&mut self, preference: &Preference, tried: &[ServerId]) -> Option<Arc<Server>> {
        let server = match self.stuck(preference, tried) {
            Some(stuck) => stuck.has_room().then(|| Arc::clone(stuck))?,
            None => self.choose(preference.key, tried)?,
        };
        server.take();
        Some(server)
    }

    /// The server that the client sticks to, if it takes such clients. When it is full, the client
    /// waits for it: what it has there, no other server has.
    fn stuck(&self, preference: &Preference, tried: &[ServerId]) -> Option<&Arc<Server>> {
        let stuck = preference.stuck.filter(|stuck| !tried.contains(stuck))?;
        self.servers.iter().find(|server| server.id == stuck && server.takes_stuck())
    }

    /// Whether there is a server that the client could get, with room or not.
    pub fn can_serve(&self, preference: &Preference) -> bool {
        self.stuck(preference, &[]).is_some()
            || self.servers.iter().any(|server| takes_newcomers(server))
    }

    /// The server that is next for a client without one.
    fn choose(&mut self, key: Option<u64>, tried: &[ServerId]) -> Option<Arc<Server>> {
        let is_new = |server: &Server| !tried.contains(&server.id);
        let groups: [&dyn Fn(&Server) -> bool; 4] = [
            &|server| !server.is_backup() && is_new(server),
            &|server| server.is_backup() && is_new(server),
            &|server| !server.is_backup(),
            &|server| server.is_backup(),
        ];
        let mut is_full = false;
        for (number, group) in groups.into_iter().enumerate() {
            // Those that are full are waited for, not passed over for a backup; but what has been
            // tried without success is tried again before.
            if is_full && (number == 1 || number == 3) {
                continue;
            }
            let servers = &self.servers;
            let mut members =
                servers.iter().filter(|it| takes_newcomers(it) && group(it)).peekable();
            if members.peek().is_none() {
                continue;
            }
            drop(members);
            self.gather(group);
            match self.balance.choose(&self.candidates, key) {
                Some(index) => return Some(Arc::clone(&self.servers[self.candidates[index].seat])),
                None if tried.is_empty() => return None,
                None => is_full = true,
            }
        }
        None
    }

    /// Makes those of `group` the candidates who have room.
    fn gather(&mut self, group: &dyn Fn(&Server) -> bool) {
        let mut now = None;
        let mut now = || *now.get_or_insert_with(Instant::now);
        self.candidates.clear();
        for (seat, server) in self.servers.iter().enumerate() {
            if !server.is_up() || !group(server) || !server.has_room() {
                continue;
            }
            let weight = server.weight.effective(&mut now);
            if weight > 0 {
                let load = server.current();
                let seed = self.seats[seat].seed;
                self.candidates.push(Candidate { seat, seed, weight, load });
            }
        }
    }
}

/// A server comes, which may have been there before. One that has clients is not new to anybody.
fn begin(server: &Server, arrival: Arrival, now: Instant) {
    if arrival == Arrival::Start || server.current() > 0 {
        return;
    }
    server.weight.start_slowly(now);
    if server.is_checked() {
        server.status.doubt();
    }
}

/// Whether a server is one for clients that do not stick to it.
pub fn takes_newcomers(server: &Server) -> bool {
    server.is_up() && !server.weight.is_zero()
}

impl Seat {
    fn new(server: &Server, stick: &Stick) -> Self {
        Self { seed: hash(server.name.as_bytes()), token: stick.token(&server.name) }
    }
}
