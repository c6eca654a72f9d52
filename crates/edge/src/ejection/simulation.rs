//! Ejection played through over several servers: clients come, servers fail some of them, probes
//! and operators say what they say, servers come and go, and the clock is the test's.
//!
//! Beside the real backend, a book is kept in another way: every deed since the last good one, and
//! every ejection with its beginning and its end.

use std::collections::{BTreeSet, HashMap};
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::backend::Lease;
use crate::caller::Caller;
use crate::choice::takes_newcomers;
use crate::server::ServerConfig;
use crate::server_state::{Facts, Health, Operator, State};
use crate::timeout::Timeouts;

/// What is known of a server without asking it.
#[derive(Debug, Default)]
struct Page {
    not_connected: u32,
    not_switched: BTreeSet<u8>,
    /// How long each ejection was to last, and when it was to be over.
    ejections: Vec<(Duration, Instant)>,
    level: u32,
    /// Until when it is ejected, unless somebody ends that.
    until: Option<Instant>,
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    config: EjectConfig,
    backend: Arc<Backend>,
    /// How often a server fails a client, from 0 to 1.
    faults: HashMap<ServerId, f32>,
    pages: HashMap<ServerId, Page>,
    names: u32,
    /// Ejections that there were, those that ended in their time, those that would have been one too
    /// many, and those that were ended as nobody else was left.
    seen: [u32; 4],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let base = random.u64(1..20);
        let keep = ["0%", "34%", "50%", "75%", "0", "1", "2"];
        let config = EjectConfig {
            connect_errors: random.u32(0..4),
            handshake_errors: random.u32(0..4),
            server_errors: false,
            base: Period::from_secs(base),
            max: Period::from_secs(base * random.u64(1..12)),
            keep: random.choice(keep).unwrap().parse().unwrap(),
        };
        let mut backend: crate::backend::BackendConfig =
            serde_json::from_value(json!({ "name": "nodes" })).unwrap();
        backend.eject = Some(config.clone());
        let backend = Arc::new(Backend::new(0, &backend, &Timeouts::default()));
        let (faults, pages) = (HashMap::new(), HashMap::new());
        let mut world =
            Self { seed, random, config, backend, faults, pages, names: 0, seen: [0; 4] };
        for _ in 0..world.random.u32(2..7) {
            world.servers_change(true);
        }
        world
    }

    fn server(&mut self) -> Option<Arc<Server>> {
        self.random.choice(&*self.backend.servers()).map(Arc::clone)
    }

    /// One server comes, goes or has another weight.
    fn servers_change(&mut self, comes: bool) {
        let mut configs: Vec<ServerConfig> =
            self.backend.servers().iter().map(|it| config(&it.name, it.weight.full())).collect();
        if comes {
            self.names += 1;
            configs.push(config(&format!("s{}", self.names), self.random.u32(0..3)));
        } else if !configs.is_empty() {
            let index = self.random.usize(..configs.len());
            match self.random.bool() {
                true => drop(configs.remove(index)),
                false => configs[index].weight = self.random.u16(0..3),
            }
        }
        self.backend.set_servers(&configs);
        let servers = self.backend.servers();
        self.pages.retain(|id, _| servers.iter().any(|it| it.id == *id));
        for server in servers.iter() {
            self.pages.entry(server.id).or_default();
            let fault = *self.random.choice([0.0, 0.0, 0.3, 1.0]).as_ref().unwrap();
            self.faults.entry(server.id).or_insert(fault);
        }
    }

    /// A client gets a server, which does something for it or not.
    fn client(&mut self) {
        let Some(lease) = lease(&self.backend) else {
            assert!(!self.backend.has_up(), "seed {}: a client has got no server", self.seed);
            return;
        };
        let server = Arc::clone(lease.server());
        assert!(takes_newcomers(&server), "seed {}: {} is given", self.seed, server.name);
        let is_well = |world: &mut Self| world.random.f32() >= world.faults[&server.id];
        if !is_well(self) {
            return self.deed(&server, Deed::NotConnected);
        }
        self.deed(&server, Deed::Connected);
        if self.random.bool() {
            let client = self.random.u8(0..4);
            match is_well(self) {
                true => self.deed(&server, Deed::Switched),
                false => self.fails(&server, client),
            }
        }
    }

    /// A handshake of a client fails: of any address that it has.
    fn fails(&mut self, server: &Arc<Server>, client: u8) {
        let page = self.pages.get_mut(&server.id).expect("who is listed has a page");
        page.not_switched.insert(client);
        let address: IpAddr = match client % 2 {
            0 => [10, 0, 0, client].into(),
            _ => [0x2001, 0xdb8, 0, client.into(), 0, 0, 0, self.random.u16(..)].into(),
        };
        self.deed(server, Deed::NotSwitched(Key::of_address(address)));
    }

    fn deed(&mut self, server: &Arc<Server>, deed: Deed) {
        let page = self.pages.get_mut(&server.id).expect("who is listed has a page");
        match deed {
            Deed::Connected => page.not_connected = 0,
            Deed::NotConnected => page.not_connected += 1,
            Deed::Switched => page.not_switched.clear(),
            Deed::NotSwitched(_) => {}
        }
        let is_many = |count: usize, most: u32| most != 0 && count >= most as usize;
        let is_failing = is_many(page.not_connected as usize, self.config.connect_errors)
            || is_many(page.not_switched.len(), self.config.handshake_errors);
        let was_up = server.is_up();
        let can_go = self.leaves_enough(server);
        let before = server.counts.ejections.load(Ordering::Relaxed);
        self.backend.note(server, deed);
        let is_ejected = server.counts.ejections.load(Ordering::Relaxed) > before;
        let is_right = is_ejected == (is_failing && was_up && can_go);
        assert!(is_right, "seed {}: {} by {deed:?}: {is_ejected}", self.seed, server.name);
        self.seen[2] += u32::from(is_failing && was_up && !can_go);
        if is_ejected {
            self.seen[0] += 1;
            self.begin(server);
        }
    }

    /// Whether those that `keep` says would be left without `server`.
    fn leaves_enough(&self, server: &Server) -> bool {
        let (mut taking, mut away) = (0, 0);
        for it in self.backend.servers().iter().filter(|it| it.weight.full() > 0) {
            match it.status.facts() {
                Facts { ejected: Some(_), .. } => away += 1,
                facts if facts.state().takes_new() => taking += 1,
                _ => {}
            }
        }
        let left = if server.weight.full() > 0 { taking - 1 } else { taking };
        let part = |percent: usize| ((taking + away) * percent).div_ceil(100);
        let least = match self.config.keep.to_string().strip_suffix('%') {
            Some(percent) => part(percent.parse().unwrap()),
            None => (taking + away).min(self.config.keep.to_string().parse().unwrap()),
        };
        left >= least && left >= 1
    }

    /// Puts an ejection down, with how long it has to be.
    fn begin(&mut self, server: &Server) {
        let (now, page) = (Instant::now(), self.pages.get_mut(&server.id).unwrap());
        let (base, max) = (self.config.base.0, self.config.max.0);
        if let Some((_, over)) = page.ejections.last() {
            let mut forgiven = *over + max;
            while forgiven <= now && page.level > 0 {
                page.level -= 1;
                forgiven += max;
            }
        }
        let time = (0..page.level).fold(base, |time, _| (time * 2).min(max)).min(max);
        page.level += 1;
        page.ejections.push((time, now + time));
        (page.not_connected, page.until) = (0, Some(now + time));
        page.not_switched.clear();
        let said = server.status.facts().ejected.unwrap_or_default();
        let expected = format!("it failed clients, for {}", Period(time));
        assert_eq!(said, expected, "seed {}: {}", self.seed, server.name);
    }

    /// What an operator or a probe says.
    fn learn(&mut self) {
        let Some(server) = self.server() else { return };
        let well = || Health::Up;
        match self.random.u8(0..6) {
            0 => {
                let states = [Operator::Ready, Operator::Drain, Operator::Maintenance];
                let operator = *self.random.choice(&states).unwrap();
                self.backend.set_operator(&server, operator);
                if operator != Operator::Drain {
                    self.pages.get_mut(&server.id).unwrap().until = None;
                }
            }
            1 => self.backend.set_weight(&server, self.random.u16(0..3)),
            2 => drop(self.backend.learn(&server, |it| it.health = Health::Down("so".into()))),
            3 => drop(self.backend.learn(&server, |it| it.health = Health::Drain("so".into()))),
            _ => drop(self.backend.learn(&server, |it| it.health = well())),
        }
    }

    async fn step(&mut self) {
        match self.random.u8(..) {
            0..5 => {
                let comes = self.random.bool();
                self.servers_change(comes);
            }
            5..20 => self.learn(),
            20..28 => {
                if let Some(server) = self.server() {
                    let fault = *self.random.choice([0.0, 0.0, 0.3, 1.0]).as_ref().unwrap();
                    self.faults.insert(server.id, fault);
                }
            }
            28..60 => {
                let most = self.config.max.0.as_millis() as u64;
                let time = match self.random.u8(..) {
                    0..8 => self.random.u64(..8 * most),
                    _ => self.random.u64(..2_000),
                };
                tokio::time::sleep(Duration::from_millis(time)).await;
            }
            _ => self.client(),
        }
        // Those whose time is over are taken back by tasks of theirs.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.check();
    }

    fn check(&mut self) {
        let (now, servers) = (Instant::now(), self.backend.servers());
        let mut freed = Vec::new();
        for server in servers.iter() {
            let page = self.pages.get_mut(&server.id).unwrap();
            let is_ejected = server.status.facts().ejected.is_some();
            // A timer may be a tick late.
            if page.until.is_some_and(|until| until <= now && !(is_ejected && until + TICK > now)) {
                page.until = None;
                self.seen[1] += 1;
            }
            match (page.until, is_ejected) {
                (Some(_), true) | (None, false) => {}
                (None, true) => panic!("seed {}: {} stays out: {page:?}", self.seed, server.name),
                (Some(_), false) => {
                    page.until = None;
                    freed.push(server.id);
                }
            }
        }
        // Nobody is told that there is no server while one is only ejected, and nobody is let back
        // before its time for less.
        let takes = |it: &&Arc<Server>| takes_newcomers(it) && !freed.contains(&it.id);
        let has_ejected = servers.iter().any(|it| it.status.state() == State::Ejected);
        let has_taker = servers.iter().any(|it| takes(&it));
        assert!(has_taker || !has_ejected, "seed {}: {servers:?}", self.seed);
        assert!(freed.is_empty() || !has_taker, "seed {}: {freed:?}, {servers:?}", self.seed);
        self.seen[3] += freed.len() as u32;
    }
}

const TICK: Duration = Duration::from_millis(2);

fn config(name: &str, weight: u32) -> ServerConfig {
    let port: u16 = name[1..].parse().unwrap();
    let config = json!({ "name": name, "address": format!("10.0.0.1:{port}"), "weight": weight });
    serde_json::from_value(config).unwrap()
}

fn lease(backend: &Arc<Backend>) -> Option<Lease> {
    let caller = Caller::edge();
    match pin!(backend.lease(&caller, &[])).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lease) => lease.ok(),
        Poll::Pending => panic!("no server has a bound"),
    }
}

/// Runs `play` on a thread whose clock stands still while there is something to do.
fn on_a_worker<T>(play: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("there is nothing that it needs of the system");
    runtime.block_on(play)
}

#[test]
fn enough_servers_stay_and_who_is_well_comes_back_whatever_happens() {
    let mut seen = [0; 4];
    for seed in 0..300 {
        on_a_worker(async {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step().await;
            }
            for (sum, of_this) in seen.iter_mut().zip(world.seen) {
                *sum += of_this;
            }
            // In the end all are well, and nobody stays out.
            tokio::time::sleep(world.config.max.0 + TICK).await;
            world.check();
            let is_out = |it: &Arc<Server>| it.status.facts().ejected.is_some();
            assert!(!world.backend.servers().iter().any(is_out), "seed {seed}");
        });
    }
    assert!(seen.iter().all(|&count| count > 100), "it plays through too little: {seen:?}");
}

#[test]
fn a_success_of_one_that_has_failed_nobody_is_not_put_down() {
    on_a_worker(async {
        let mut world = World::new(0);
        world.backend.set_servers(&[config("s1", 1), config("s2", 1)]);
        let servers = world.backend.servers();
        let [first, second] = [&servers[0], &servers[1]];
        let known = |world: &World| {
            let ejection = world.backend.ejection.as_ref().unwrap();
            (ejection.records().len(), ejection.unclean.load(Ordering::Relaxed))
        };
        world.backend.note(second, Deed::Connected);
        assert_eq!(known(&world), (0, 0));
        world.backend.note(first, Deed::NotConnected);
        world.backend.note(second, Deed::Connected);
        assert_eq!(known(&world), (1, 1));
        world.backend.note(first, Deed::Connected);
        assert_eq!(known(&world), (1, 0));
        // Nothing is kept of those that are gone.
        world.names = 9;
        world.backend.set_servers(&[config("s3", 1)]);
        world.backend.note(&world.backend.servers()[0], Deed::NotConnected);
        assert_eq!(known(&world), (1, 1));
    });
}
