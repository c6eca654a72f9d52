//! What every algorithm promises, for seeds that are printed.

use std::collections::HashMap;

use super::algorithm::Algorithm;
use super::key::hash;
use super::{Balance, Candidate};
use crate::weight::SCALE;

/// Servers `a`, `b`, ... of these weights, idle.
pub fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let candidate = |(seat, weight): (usize, &u32)| Candidate {
        seat,
        seed: hash(&[b'a' + seat as u8]),
        weight: weight * SCALE,
        load: 0,
    };
    weights.iter().enumerate().map(candidate).collect()
}

/// The servers that clients get of whom each leaves before the next comes.
pub fn order(balance: &mut dyn Balance, candidates: &[Candidate], picks: usize) -> String {
    let letter = |index: usize| char::from(b'a' + candidates[index].seat as u8);
    (0..picks).map(|_| balance.choose(candidates, None).map_or('-', letter)).collect()
}

/// The servers that clients get who stay.
pub fn order_of_stayers(balance: &mut dyn Balance, weights: &[u32], picks: usize) -> String {
    let mut candidates = candidates(weights);
    (0..picks)
        .map(|_| {
            let index = balance.choose(&candidates, None).unwrap();
            candidates[index].load += 1;
            char::from(b'a' + index as u8)
        })
        .collect()
}

const ALL: [&str; 9] = [
    "roundrobin",
    "leastconn",
    "random",
    "first",
    "source",
    "uri",
    "header:X-Room",
    "query:room",
    "cookie:user",
];

const SEED: u64 = 0x71de;

fn build(name: &str, servers: usize, factor: Option<u16>) -> Box<dyn Balance> {
    let algorithm: Algorithm = name.parse().unwrap();
    algorithm.build(servers, factor, fastrand::Rng::with_seed(SEED))
}

fn is_hash(name: &str) -> bool {
    matches!(name.parse(), Ok(Algorithm::Hash(_)))
}

/// The clients that each server has after so many have come, each with a key of its own, and
/// stayed.
fn shares(name: &str, weights: &[u32], clients: u64) -> Vec<u64> {
    let mut balance = build(name, weights.len(), None);
    let mut candidates = candidates(weights);
    for client in 0..clients {
        let index = balance.choose(&candidates, Some(hash(&client.to_be_bytes()))).unwrap();
        candidates[index].load += 1;
    }
    candidates.iter().map(|candidate| candidate.load).collect()
}

#[test]
fn shares_are_as_the_weights() {
    for name in ALL.into_iter().filter(|name| *name != "first") {
        for weights in [&[1, 1][..], &[1, 1, 1], &[3, 2, 1], &[10, 1], &[256, 128, 64, 64]] {
            let clients = 40_000;
            let total: u32 = weights.iter().sum();
            for (load, weight) in shares(name, weights, clients).into_iter().zip(weights) {
                let expected = clients as f64 * f64::from(*weight) / f64::from(total);
                let off = (load as f64 - expected).abs() / clients as f64;
                assert!(off <= 0.01, "{name} {weights:?}: {load} for {expected}");
            }
        }
    }
}

#[test]
fn the_first_is_the_first_in_the_list() {
    assert_eq!(shares("first", &[1, 9, 1], 100), [100, 0, 0]);
}

#[test]
fn one_of_those_asked_is_chosen_and_nobody_when_there_is_none() {
    for name in ALL {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut balance = build(name, 8, Some(125));
        let all = candidates(&[1, 2, 3, 4, 5, 6, 7, 8]);
        for _ in 0..2000 {
            let mut some = all.clone();
            some.retain(|_| random.bool());
            some.iter_mut().for_each(|one| one.load = random.u64(0..50));
            random.shuffle(&mut some);
            let key = random.bool().then(|| random.u64(..));
            let chosen = balance.choose(&some, key);
            assert_eq!(chosen.is_none(), some.is_empty(), "{name}");
            assert!(chosen.is_none_or(|index| index < some.len()), "{name}");
        }
    }
}

#[test]
fn the_order_of_the_list_does_not_matter_to_a_hash() {
    for name in ALL.into_iter().filter(|name| is_hash(name)) {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut balance = build(name, 5, None);
        let mut shuffled = candidates(&[1, 2, 3, 1, 1]);
        let sorted = shuffled.clone();
        for _ in 0..1000 {
            random.shuffle(&mut shuffled);
            shuffled.iter_mut().enumerate().for_each(|(seat, one)| one.seat = seat);
            let key = Some(random.u64(..));
            let chosen = shuffled[balance.choose(&shuffled, key).unwrap()].seed;
            assert_eq!(chosen, sorted[balance.choose(&sorted, key).unwrap()].seed, "{name}");
        }
    }
}

/// The seats that 20,000 keys have.
fn homes(balance: &mut dyn Balance, candidates: &[Candidate]) -> HashMap<u64, usize> {
    let mut home = |key: u64| candidates[balance.choose(candidates, Some(key)).unwrap()].seat;
    (0..20_000_u64).map(|n| hash(&n.to_be_bytes())).map(|key| (key, home(key))).collect()
}

#[test]
fn a_server_that_comes_takes_its_share_and_nothing_else_moves() {
    for name in ALL.into_iter().filter(|name| is_hash(name)) {
        for weights in [&[1, 1, 1, 1][..], &[2, 1, 3, 2]] {
            let mut balance = build(name, weights.len(), None);
            let all = candidates(weights);
            let (before, after) = (homes(&mut *balance, &all[..3]), homes(&mut *balance, &all));
            let moved: Vec<_> = before.iter().filter(|(key, home)| after[key] != **home).collect();
            assert!(moved.iter().all(|(key, _)| after[key] == 3), "{name}: only to the new one");
            let share = f64::from(weights[3]) / f64::from(weights.iter().sum::<u32>());
            let part = moved.len() as f64 / before.len() as f64;
            assert!((part - share).abs() < 0.01, "{name} {weights:?}: {part} of {share}");
        }
    }
}

#[test]
fn a_server_that_goes_moves_its_own_keys_and_to_all_the_others() {
    for name in ALL.into_iter().filter(|name| is_hash(name)) {
        let mut balance = build(name, 4, None);
        let all = candidates(&[1, 1, 1, 1]);
        let (before, after) = (homes(&mut *balance, &all), homes(&mut *balance, &all[1..]));
        assert!(before.iter().all(|(key, home)| *home == 0 || after[key] == *home), "{name}");
        for seat in 1..4 {
            let of = before.iter().filter(|(key, home)| **home == 0 && after[key] == seat).count();
            assert!((1450..1900).contains(&of), "{name}: {of} of 5000 go to each");
        }
    }
}

#[test]
fn a_weight_that_grows_takes_keys_and_moves_no_others() {
    let mut balance = build("source", 3, None);
    let (light, heavy) = (candidates(&[1, 1, 1]), candidates(&[1, 1, 2]));
    let (before, after) = (homes(&mut *balance, &light), homes(&mut *balance, &heavy));
    assert!(before.iter().all(|(key, home)| after[key] == *home || after[key] == 2));
}

#[test]
fn no_server_has_more_than_the_factor_allows() {
    for (factor, weights) in [(101, &[1, 1, 1][..]), (125, &[3, 2, 1]), (200, &[1, 1, 1, 1, 1])] {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut balance = build("query:room", weights.len(), Some(factor));
        let mut all = candidates(weights);
        let total: u32 = weights.iter().sum();
        for client in 1..=5000_u64 {
            // Half of all come for one key.
            let key = if random.bool() { 1 } else { random.u64(..) };
            let index = balance.choose(&all, Some(hash(&key.to_be_bytes()))).unwrap();
            all[index].load += 1;
            let share = client as f64 * f64::from(weights[index]) / f64::from(total);
            let most = (share * f64::from(factor) / 100.0).ceil() as u64;
            assert!(all[index].load <= most, "{factor}: {} of {most}", all[index].load);
        }
    }
}

#[test]
fn a_bound_that_is_not_reached_moves_no_key() {
    let (mut free, mut bound) = (build("uri", 4, None), build("uri", 4, Some(150)));
    let mut all = candidates(&[1, 1, 1, 1]);
    all.iter_mut().for_each(|one| one.load = 100);
    assert_eq!(homes(&mut *free, &all), homes(&mut *bound, &all));
}

#[test]
fn who_has_no_key_goes_to_the_least_loaded() {
    let mut balance = build("cookie:user", 3, None);
    let mut all = candidates(&[1, 1, 1]);
    (all[0].load, all[2].load) = (5, 4);
    assert_eq!(balance.choose(&all, None), Some(1));
}

#[test]
fn the_same_seed_draws_the_same() {
    let draws = || order_of_stayers(&mut *build("random", 3, None), &[1, 2, 3], 100);
    assert_eq!(draws(), draws());
}
