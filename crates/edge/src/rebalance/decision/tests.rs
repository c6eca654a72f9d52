//! Fleets that are played through: who is told to go comes back somewhere, after a while.

use super::*;

const TICK: Duration = Duration::from_millis(100);

fn terms(band: f64, delay: u64, rate: u32) -> Terms {
    let rate = Rate { count: rate, per: Duration::from_secs(1) };
    Terms { band: Some(band), delay: Duration::from_secs(delay), rate, tick: TICK }
}

/// Where clients go who come.
#[derive(Clone, Copy, Debug)]
enum Balance {
    Leastconn,
    Roundrobin,
    /// Back to where they were.
    Sticky,
}

struct Fleet {
    standings: Vec<Standing>,
    /// When somebody comes who was at which server.
    coming: Vec<(Duration, usize)>,
    now: Duration,
    decision: Decision,
    told: Vec<(Duration, Quota)>,
    /// How many each server has given up, and got of those.
    given_up: Vec<u64>,
    got: Vec<u64>,
    news: Vec<News>,
    random: fastrand::Rng,
    balance: Balance,
    /// Longest time that somebody takes to come back, in milliseconds.
    back_ms: u64,
    turn: usize,
}

impl Fleet {
    fn new(seed: u64, terms: Terms, servers: &[(u32, u32)], balance: Balance) -> Self {
        let standings = servers.iter().enumerate().map(|(id, &(members, weight))| Standing {
            id: id as u32,
            role: Role::Takes { weight, full: weight, room: u32::MAX },
            members,
        });
        Self {
            standings: standings.collect(),
            coming: Vec::new(),
            now: Duration::ZERO,
            decision: Decision::new(terms),
            told: Vec::new(),
            given_up: vec![0; servers.len()],
            got: vec![0; servers.len()],
            news: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            balance,
            back_ms: 2_000,
            turn: 0,
        }
    }

    fn total(&self) -> u64 {
        self.standings.iter().map(|it| u64::from(it.members)).sum::<u64>()
            + self.coming.len() as u64
    }

    fn choose(&mut self, was: usize) -> usize {
        let weight = |it: &Standing| it.role.weight().unwrap_or(0);
        let takers: Vec<usize> =
            (0..self.standings.len()).filter(|&it| weight(&self.standings[it]) > 0).collect();
        match self.balance {
            Balance::Sticky if takers.contains(&was) => was,
            Balance::Roundrobin => {
                self.turn += 1;
                takers[self.turn % takers.len()]
            }
            Balance::Leastconn | Balance::Sticky => {
                let load = |&it: &usize| {
                    let standing = &self.standings[it];
                    (u64::from(standing.members) << 20) / u64::from(weight(standing))
                };
                takers.into_iter().min_by_key(load).unwrap()
            }
        }
    }

    /// Whether all are within the band, and nobody is on the way.
    fn rests(&self, band: f64) -> bool {
        let takers = || self.standings.iter().filter_map(|it| Some((it, it.role.weight()?)));
        let each = || takers().map(|(it, weight)| f64::from(it.members) / f64::from(weight));
        let (least, most) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
        let is_empty = self.standings.iter().all(|it| it.role != Role::Empties || it.members == 0);
        self.coming.is_empty() && is_empty && most <= least * (1.0 + band)
    }

    fn tick(&mut self) {
        self.now += TICK;
        let (back, coming) = self.coming.iter().partition(|(at, _)| *at <= self.now);
        self.coming = coming;
        let back: Vec<(Duration, usize)> = back;
        for (_, was) in back {
            let server = self.choose(was);
            self.standings[server].members += 1;
            self.got[server] += 1;
        }
        let (quotas, news) = self.decision.decide(self.now, &self.standings);
        self.news.extend(news);
        let band = self.decision.terms.band.unwrap_or_default();
        assert!(quotas.is_empty() || !self.rests(band), "{quotas:?} of {:?}", self.standings);
        for quota in quotas {
            self.told.push((self.now, quota));
            let standing = &mut self.standings[quota.index];
            assert!(quota.most <= standing.members, "more are told than there are");
            self.given_up[quota.index] += u64::from(quota.most);
            standing.members -= quota.most;
            for _ in 0..quota.most {
                let wait = Duration::from_millis(self.random.u64(0..=self.back_ms));
                self.coming.push((self.now + wait, quota.index));
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.tick();
        }
    }

    fn moved(&self) -> u64 {
        self.told.iter().map(|(_, quota)| u64::from(quota.most)).sum()
    }

    /// The most that were told within any second.
    fn fastest(&self) -> u64 {
        let within = |start: Duration| {
            let later = self.told.iter().filter(move |(at, _)| *at >= start);
            let second = later.take_while(move |(at, _)| *at < start + Duration::from_secs(1));
            second.map(|(_, quota)| u64::from(quota.most)).sum()
        };
        self.told.iter().map(|(at, _)| within(*at)).max().unwrap_or_default()
    }

    fn members(&self) -> Vec<u32> {
        self.standings.iter().map(|it| it.members).collect()
    }

    #[track_caller]
    fn expect_within(&self, band: f64, seed: u64) {
        let each = || {
            let each = self.standings.iter().filter_map(|it| Some((it.members, it.role.weight()?)));
            each.map(|(members, weight)| f64::from(members) / f64::from(weight))
        };
        let (least, most) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
        // One client more or less is as near as it gets.
        let slack = self.standings.len() as f64;
        assert!(most <= least * (1.0 + band) + slack, "{:?}, seed {seed}", self.members());
    }
}

#[test]
fn a_new_server_gets_its_share_and_no_more_move_than_must() {
    let servers = [(1500, 1), (1500, 1), (0, 1)];
    let mut fleet = Fleet::new(1, terms(0.02, 5, 200), &servers, Balance::Leastconn);
    fleet.run(4);
    assert_eq!(fleet.moved(), 0, "nobody moves before the delay has passed");
    fleet.run(16);
    fleet.expect_within(0.02, 1);
    assert_eq!(fleet.total(), 3000);
    // Exactly those that the new server lacks, at most.
    assert!((960..=1000).contains(&fleet.moved()), "{}", fleet.moved());
    assert!(fleet.fastest() <= 200 + 20, "{}", fleet.fastest());
    assert_eq!(fleet.news[0], News::Begun);
    assert_eq!(fleet.news[1..], [News::Over(fleet.moved())]);
}

#[test]
fn fleets_of_all_kinds_come_to_rest_within_the_band() {
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let servers: Vec<(u32, u32)> =
            (0..random.usize(2..8)).map(|_| (random.u32(0..2000), random.u32(1..5))).collect();
        let band = f64::from(random.u32(1..10)) / 100.0;
        let rate = random.u32(20..400);
        let balance = if random.bool() { Balance::Leastconn } else { Balance::Roundrobin };
        // Taken in turn, clients are shared by count, not by weight.
        let is_weighted = matches!(balance, Balance::Leastconn);
        let is_in_turn = !is_weighted;
        let servers: Vec<_> = servers
            .iter()
            .map(|&(it, weight)| (it, if is_weighted { weight } else { 1 }))
            .collect();
        let mut fleet = Fleet::new(seed, terms(band, 1, rate), &servers, balance);
        fleet.back_ms = random.u64(0..20_000);
        let before = fleet.total();
        fleet.run(1800);
        fleet.expect_within(band, seed);
        assert_eq!(fleet.total(), before);
        let burst = u64::from(rate.div_ceil(10));
        assert!(fleet.fastest() <= u64::from(rate) + burst, "seed {seed}: {}", fleet.fastest());
        assert!(!fleet.news.iter().any(|it| matches!(it, News::Futile(_))), "seed {seed}");
        assert!(!fleet.decision.is_busy(), "seed {seed}");
        // Who is moved goes where there are too few: nobody is moved on from there.
        for (given_up, got) in fleet.given_up.iter().zip(&fleet.got) {
            let is_one_way = *given_up == 0 || *got <= fleet.standings.len() as u64;
            assert!(is_one_way || is_in_turn, "seed {seed}: {given_up} and {got}");
        }
        let moved = fleet.moved();
        fleet.run(120);
        assert_eq!(fleet.moved(), moved, "seed {seed}: it does not rest");
    }
}

#[test]
fn who_has_not_come_back_yet_does_not_make_others_move() {
    // Faster than they come back: without the peak, everybody would be told in the end.
    let servers = [(1500, 1), (1500, 1), (0, 1)];
    let mut fleet = Fleet::new(1, terms(0.02, 0, 3000), &servers, Balance::Leastconn);
    fleet.back_ms = 20_000;
    fleet.run(120);
    assert!(fleet.moved() <= 1010, "{}", fleet.moved());
    fleet.expect_within(0.02, 1);
}

#[test]
fn whenever_it_begins_no_more_move_than_must() {
    for begin in (0..100).step_by(7) {
        let servers = [(1500, 1), (1500, 1), (0, 1)];
        let mut fleet = Fleet::new(begin, terms(0.02, 0, 3000), &servers, Balance::Leastconn);
        fleet.back_ms = 20_000;
        let role = std::mem::replace(&mut fleet.standings[2].role, Role::Keeps);
        fleet.run(begin);
        assert_eq!(fleet.moved(), 0);
        fleet.standings[2].role = role;
        fleet.run(120);
        assert!(fleet.moved() <= 1010, "begun at {begin}: {}", fleet.moved());
        fleet.expect_within(0.02, begin);
    }
}

#[test]
fn nobody_moves_for_a_place_that_is_meant_for_who_is_on_the_way() {
    let mut decision = Decision::new(terms(0.02, 0, 1000));
    let takes = |id, members, room| Standing {
        id,
        role: Role::Takes { weight: 1, full: 1, room },
        members,
    };
    let mut told = 0;
    for tick in 1..100 {
        let standings = [takes(0, 1000 - told, u32::MAX), takes(1, 0, 100)];
        let (quotas, _) = decision.decide(TICK * tick, &standings);
        told += quotas.iter().map(|it| it.most).sum::<u32>();
    }
    assert_eq!(told, 100);
}

#[test]
fn within_the_band_nobody_moves() {
    let moved = |most| {
        let servers = [(most, 1), (1000, 1), (2000, 2)];
        let mut fleet = Fleet::new(1, terms(0.05, 0, 100), &servers, Balance::Leastconn);
        fleet.run(60);
        fleet.moved()
    };
    assert_eq!(moved(1050), 0);
    assert!(moved(1051) > 0);
}

#[test]
fn each_change_of_servers_and_each_rest_begins_the_delay_anew() {
    let mut fleet = Fleet::new(1, terms(0.02, 30, 100), &[(500, 1), (0, 1)], Balance::Leastconn);
    fleet.run(25);
    // Another one in its place: they are apart all the time.
    fleet.standings[1].id = 9;
    fleet.run(25);
    assert_eq!(fleet.moved(), 0);
    fleet.run(60);
    fleet.expect_within(0.02, 1);
    // Clients leave one of them; that has been so for no time.
    let moved = fleet.moved();
    fleet.run(100);
    fleet.standings[1].members -= 100;
    // Those who have left are waited for, too.
    fleet.run(25);
    assert_eq!(fleet.moved(), moved);
    fleet.run(150);
    fleet.expect_within(0.02, 1);
}

#[test]
fn a_server_that_drains_is_emptied_at_the_rate_and_the_others_share_its_clients() {
    let servers = [(900, 1), (900, 2), (900, 1)];
    let mut fleet = Fleet::new(1, terms(0.05, 1, 50), &servers, Balance::Leastconn);
    fleet.standings[0].role = Role::Empties;
    fleet.run(300);
    assert_eq!(fleet.standings[0].members, 0);
    assert_eq!(fleet.total(), 2700);
    fleet.expect_within(0.05, 1);
    assert!(fleet.fastest() <= 55);
}

#[test]
fn where_there_is_no_room_nobody_is_sent() {
    let check = |roles: [Role; 2], expected| {
        let mut fleet =
            Fleet::new(1, terms(0.05, 0, 100), &[(500, 1), (100, 1)], Balance::Leastconn);
        fleet.standings[0].role = roles[0];
        fleet.standings[1].role = roles[1];
        fleet.run(20);
        assert_eq!(fleet.moved(), expected, "{roles:?}");
    };
    let takes = |room| Role::Takes { weight: 1, full: 1, room };
    check([Role::Empties, Role::Empties], 0);
    check([Role::Empties, Role::Keeps], 0);
    check([takes(9), takes(0)], 0);
    check([Role::Keeps, takes(9)], 0);
    // Of a server that is down they go, wherever.
    let mut decision = Decision::new(terms(0.05, 0, 100));
    let down = Standing { id: 0, role: Role::IsDown, members: 500 };
    let (quotas, news) = decision.decide(Duration::from_secs(1), &[down]);
    assert_eq!(quotas, [Quota { index: 0, why: Why::ServerDown, most: 10 }]);
    assert_eq!(news, None);
}

#[test]
fn a_server_that_starts_slowly_gets_its_share_as_it_grows() {
    for seed in 0..20 {
        let servers = [(150, 256), (150, 256), (0, 256)];
        let mut fleet = Fleet::new(seed, terms(0.05, 1, 200), &servers, Balance::Leastconn);
        let seconds = fleet.random.u64(5..120);
        for second in 0..=seconds {
            let weight = (256 * second / seconds).max(1) as u32;
            fleet.standings[2].role = Role::Takes { weight, full: 256, room: u32::MAX };
            fleet.run(1);
        }
        fleet.run(60);
        assert!(!fleet.news.iter().any(|it| matches!(it, News::Futile(_))), "seed {seed}");
        fleet.expect_within(0.05, seed);
        assert!(fleet.moved() <= 105, "seed {seed}: {} are moved for 100", fleet.moved());
    }
}

#[test]
fn a_blip_moves_nobody() {
    let servers = [(1000, 1), (1000, 1), (0, 1)];
    let mut fleet = Fleet::new(1, terms(0.02, 30, 100), &servers, Balance::Leastconn);
    for _ in 0..10 {
        fleet.standings[2].role = Role::Takes { weight: 1, full: 1, room: u32::MAX };
        fleet.run(25);
        fleet.standings[2].role = Role::Keeps;
        fleet.run(25);
    }
    assert_eq!(fleet.moved(), 0);
}

#[test]
fn clients_that_come_back_to_where_they_were_are_given_up_on() {
    let servers = [(150, 1), (150, 1), (0, 1)];
    let mut fleet = Fleet::new(1, terms(0.02, 1, 100), &servers, Balance::Sticky);
    fleet.run(600);
    assert!(matches!(fleet.news[..], [News::Begun, News::Futile(_)]), "{:?}", fleet.news);
    assert!(fleet.moved() < 5 * 300, "{}", fleet.moved());
    // Another server is another chance.
    let moved = fleet.moved();
    fleet.balance = Balance::Leastconn;
    fleet.standings.push(Standing { id: 9, role: fleet.standings[2].role, members: 0 });
    fleet.given_up.push(0);
    fleet.got.push(0);
    fleet.run(60);
    assert!(fleet.moved() > moved);
    fleet.expect_within(0.02, 1);
}

#[test]
fn small_numbers_come_to_rest() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let servers: Vec<(u32, u32)> =
            (0..random.usize(1..5)).map(|_| (random.u32(0..4), random.u32(1..4))).collect();
        let mut fleet = Fleet::new(seed, terms(0.02, 0, 10), &servers, Balance::Leastconn);
        fleet.run(300);
        let moved = fleet.moved();
        fleet.run(300);
        assert_eq!(fleet.moved(), moved, "seed {seed}: {servers:?} does not rest");
    }
}

#[test]
fn a_rate_of_nothing_moves_nobody() {
    let mut fleet = Fleet::new(1, terms(0.02, 0, 0), &[(10, 1), (0, 1)], Balance::Leastconn);
    fleet.run(10);
    assert_eq!(fleet.moved(), 0);
}
