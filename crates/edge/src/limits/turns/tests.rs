//! Clients with more or less patience, in virtual time.

use futures_util::FutureExt;

use super::*;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// A client that connects until it is in.
#[derive(Debug)]
enum Client {
    Away { until: u64 },
    Waits { place: Place, timer: u64, gives_up: u64 },
    In { since: u64 },
}

struct Storm {
    random: fastrand::Rng,
    pace: Pace,
    wait: Duration,
    /// The least and the most that clients wait.
    patience: (u64, u64),
    turns: Turns,
    clients: Vec<Client>,
    now: u64,
    /// The front of the line only goes forward.
    order: Vec<usize>,
}

impl Storm {
    fn new(seed: u64, clients: usize, rate: u64, burst: u64, wait: u64, most: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let come = |_| Client::Away { until: SECOND + random.u64(..200 * MILLI) };
        Self {
            clients: (0..clients).map(come).collect(),
            random,
            pace: Pace::new(rate, Duration::from_secs(1), burst).unwrap(),
            wait: Duration::from_secs(wait),
            patience: (2 * SECOND, most * SECOND),
            turns: Turns::default(),
            now: SECOND,
            order: Vec::new(),
        }
    }

    /// Plays until the time is `end`, or all are in.
    fn play(&mut self, end: u64) {
        while self.now < end && self.inside() < self.clients.len() {
            let next = |client: &Client| match client {
                Client::Away { until } => *until,
                Client::Waits { timer, gives_up, .. } => *timer.min(gives_up),
                Client::In { .. } => u64::MAX,
            };
            self.now = self.now.max(self.clients.iter().map(next).min().unwrap());
            for index in 0..self.clients.len() {
                self.step(index);
            }
            // A bell may have rung for one that had its step already.
            while let Some(rung) = self.rung() {
                self.ask(rung);
            }
            self.check_line();
        }
    }

    fn step(&mut self, index: usize) {
        match &self.clients[index] {
            Client::Away { until } if *until <= self.now => self.come(index),
            Client::Waits { gives_up, .. } if *gives_up <= self.now => {
                let until = self.now + self.random.u64(200 * MILLI..SECOND);
                let left = std::mem::replace(&mut self.clients[index], Client::Away { until });
                let Client::Waits { place, .. } = left else { unreachable!() };
                self.order.retain(|&waits| waits != index);
                self.turns.leave(&self.pace, &place, self.now);
            }
            Client::Waits { timer, .. } if *timer <= self.now => self.ask(index),
            _ => {}
        }
    }

    fn come(&mut self, index: usize) {
        self.clients[index] = match self.turns.enter(&self.pace, self.wait, self.now) {
            Ok(None) => Client::In { since: self.now },
            Ok(Some(place)) => {
                self.order.push(index);
                let gives_up = self.now + self.random.u64(self.patience.0..=self.patience.1);
                let turn = self.turns.ask(&self.pace, &place, self.now).expect("it waits");
                Client::Waits { place, timer: after(self.now, turn), gives_up }
            }
            Err(retry) => Client::Away { until: after(self.now, retry) + SECOND },
        };
    }

    fn rung(&self) -> Option<usize> {
        self.clients.iter().position(|client| match client {
            Client::Waits { place, .. } => place.ring().now_or_never().is_some(),
            _ => false,
        })
    }

    fn ask(&mut self, index: usize) {
        let Client::Waits { place, timer, .. } = &mut self.clients[index] else { return };
        match self.turns.ask(&self.pace, place, self.now) {
            Some(turn) => *timer = after(self.now, turn),
            None => {
                let ahead = self.order.iter().take_while(|&&waits| waits != index);
                let waits = ahead.filter(|&&waits| match &self.clients[waits] {
                    Client::Waits { place, .. } => !place.has_turn(),
                    _ => false,
                });
                assert_eq!(waits.count(), 0, "somebody who came first still waits");
                self.order.retain(|&waits| waits != index);
                self.clients[index] = Client::In { since: self.now };
            }
        }
    }

    fn check_line(&self) {
        let length = self.turns.line.as_ref().map_or(0, |line| line.len());
        let waiting = self.clients.iter().filter(|it| matches!(it, Client::Waits { .. })).count();
        assert!(length <= waiting, "{length} places for {waiting}");
        let bound = self.wait.as_nanos() / self.interval() + 1;
        assert!(length as u128 <= bound, "{length} wait where {bound} may");
    }

    /// Between two of them, in nanoseconds.
    fn interval(&self) -> u128 {
        Meter::default().wait_behind(&self.pace, 1_000_000, 0).as_nanos().div_ceil(1_000_000)
    }

    fn inside(&self) -> usize {
        self.clients.iter().filter(|client| matches!(client, Client::In { .. })).count()
    }

    /// When each came in, in order.
    fn entries(&self) -> Vec<u64> {
        let since = |client: &Client| match client {
            Client::In { since } => Some(*since),
            _ => None,
        };
        let mut entries: Vec<u64> = self.clients.iter().filter_map(since).collect();
        entries.sort_unstable();
        entries
    }
}

/// A storm of clients of whom most give up before the line is through: no turn is lost all the
/// same, and no more come in than may.
fn storm(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (clients, rate) = (random.usize(100..250), random.u64(4..30));
    let (burst, wait, most) = (random.u64(1..10), random.u64(3..20), random.u64(2..12));
    let mut storm = Storm::new(seed, clients, rate, burst, wait, most);
    let least = SECOND * clients as u64 / rate;
    storm.play(SECOND + 2 * least + 10 * SECOND);
    let entries = storm.entries();
    let said = format!("seed {seed}: {clients} at {rate}/s, burst {burst}, {wait} s, {most} s");
    // Until the last few are there, somebody waits at any time, so no turn goes by.
    let most_of_them = clients * 3 / 4;
    let at = *entries.get(most_of_them - 1).unwrap_or(&u64::MAX);
    let due = SECOND + SECOND * most_of_them as u64 / rate + 2 * SECOND;
    assert!(at <= due, "{said}: {} in; {most_of_them} by {at}, due {due}", entries.len());
    assert_eq!(entries.len(), clients, "{said}: not all are in");
    for (index, &from) in entries.iter().enumerate() {
        let to = entries.partition_point(|&at| at <= from + SECOND);
        let came = (to - index) as u64;
        assert!(came <= rate + burst + 1, "{said}: {came} in a second from {from}");
    }
    assert!(!storm.turns.has_waiters(), "{said}");
}

#[test]
fn clients_that_give_up_before_their_turn_do_not_take_it_from_others() {
    let first = fastrand::u64(..);
    (0..40).for_each(|more| storm(first.wrapping_add(more)));
}

fn pace() -> Pace {
    Pace::new(1, Duration::from_secs(1), 1).unwrap()
}

#[test]
fn who_leaves_lets_all_behind_it_come_sooner_and_the_first_hears_it() {
    let (pace, wait) = (pace(), Duration::from_secs(10));
    let mut turns = Turns::default();
    assert!(turns.enter(&pace, wait, SECOND).unwrap().is_none());
    let mut enter = || turns.enter(&pace, wait, SECOND).unwrap().unwrap();
    let [first, second, third] = [enter(), enter(), enter()];
    turns.leave(&pace, &first, SECOND);
    assert!(second.ring().now_or_never().is_some());
    assert_eq!(turns.ask(&pace, &second, SECOND), Some(Duration::from_secs(1)));
    assert_eq!(turns.ask(&pace, &third, SECOND), Some(Duration::from_secs(2)));
    // Whoever asks has all served whose turn it is.
    assert!(turns.ask(&pace, &third, 2 * SECOND).is_some());
    assert!(second.ring().now_or_never().is_some());
    assert!(turns.ask(&pace, &second, 2 * SECOND).is_none());
}

#[test]
fn a_turn_that_nobody_took_is_for_the_next() {
    let (pace, wait) = (pace(), Duration::from_secs(10));
    let mut turns = Turns::default();
    assert!(turns.enter(&pace, wait, SECOND).unwrap().is_none());
    let mut enter = || turns.enter(&pace, wait, SECOND).unwrap().unwrap();
    let [first, second, third] = [enter(), enter(), enter()];
    assert!(turns.ask(&pace, &second, 2 * SECOND).is_some());
    // Its turn has come by now, and it leaves before it knows.
    turns.leave(&pace, &first, 2 * SECOND);
    assert!(turns.ask(&pace, &second, 2 * SECOND).is_none());
    assert_eq!(turns.ask(&pace, &third, 2 * SECOND), Some(Duration::from_secs(1)));
    turns.refund(&pace, 2 * SECOND);
    assert!(turns.ask(&pace, &third, 2 * SECOND).is_none());
    assert!(!turns.has_waiters());
}

#[test]
fn timers_that_are_late_cost_no_turns() {
    let (pace, wait) = (pace(), Duration::from_secs(10));
    let mut turns = Turns::default();
    assert!(turns.enter(&pace, wait, SECOND).unwrap().is_none());
    let places: Vec<Place> =
        (0..5).map(|_| turns.enter(&pace, wait, SECOND).unwrap().unwrap()).collect();
    let late = 4 * SECOND + SECOND / 2;
    let turn = |place| turns.ask(&pace, place, late).map(|turn| turn.as_millis());
    assert_eq!(
        places.iter().map(turn).collect::<Vec<_>>(),
        [None, None, None, Some(500), Some(1500)]
    );
}
