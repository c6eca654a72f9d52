//! The table against a naive model, and at its bound.

use std::collections::HashMap;
use std::time::Duration;

use tidewire_runtime::rate::Pace;

use super::super::quota::Quota;
use super::super::tally::{Stage, Tally};
use super::super::turns::Place;
use super::{Key, Slot, Table};

const SECOND: u64 = 1_000_000_000;

fn quota(random: &mut fastrand::Rng) -> Quota {
    let mut some = |most: u32| random.bool().then(|| random.u32(1..=most));
    Quota {
        connections: some(5),
        handshakes: some(3),
        arrivals: some(20).and_then(|rate| Pace::new(rate.into(), Duration::from_secs(1), 3)),
        wait: Duration::from_millis(100),
        requests: None,
    }
}

/// What happens to a table that is never full is what happens to a tally for each key.
fn simulate(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let quota = quota(&mut random);
    let table = Table::new(1000);
    let mut model: HashMap<u64, Tally> = HashMap::new();
    let mut open: Vec<(u64, Slot, Stage)> = Vec::new();
    let mut line: Vec<(u64, Place, Place)> = Vec::new();
    let mut now = 0;
    for step in 0..2000 {
        now += random.u64(..SECOND / 10);
        match random.u32(..5) {
            0 | 1 => {
                let key = random.u64(..30);
                let expected = model.entry(key).or_default().enter(&quota, now);
                let found = table.enter(Key([key, 0]), &quota, now);
                let waits = |place: &Option<Place>| place.is_some();
                assert_eq!(
                    found.as_ref().map(|(_, place)| waits(place)),
                    expected.as_ref().map(waits),
                    "seed {seed}, step {step}"
                );
                let Ok((slot, place)) = found else { continue };
                open.extend(slot.map(|slot| (key, slot, Stage::Handshake)));
                let of_model = expected.ok().flatten();
                line.extend(place.zip(of_model).map(|(place, of_model)| (key, place, of_model)));
            }
            4 if !line.is_empty() => {
                let at = random.usize(..line.len());
                let (key, place, of_model) = &line[at];
                let tally = model.get_mut(key).unwrap();
                let expected = tally.ask(&quota, of_model, now);
                let found = table.ask(Key([*key, 0]), &quota, place, now);
                assert_eq!(found, expected, "seed {seed}, step {step}");
                if found.is_none() {
                    line.swap_remove(at);
                } else if random.bool() {
                    tally.leave_line(&quota, of_model, now);
                    table.leave_line(Key([*key, 0]), &quota, place, now);
                    line.swap_remove(at);
                }
            }
            2 if !open.is_empty() => {
                let at = random.usize(..open.len());
                let (key, slot, Stage::Handshake) = open[at] else { continue };
                model.get_mut(&key).unwrap().open(&quota);
                match table.open(slot, &quota, now) {
                    Some(slot) => open[at] = (key, slot, Stage::Open),
                    None => {
                        // Of what is not counted any more, the model keeps nothing, either.
                        assert!(quota.connections.is_none(), "seed {seed}, step {step}");
                        open.swap_remove(at);
                    }
                }
            }
            3 if !open.is_empty() => {
                let (key, slot, stage) = open.swap_remove(random.usize(..open.len()));
                model.get_mut(&key).unwrap().leave(&quota, stage);
                table.leave(slot, &quota, stage, now);
            }
            _ => {}
        }
        let held: u64 = model.values().map(|it| u64::from(it.held())).sum();
        assert_eq!(table.census().held, held, "seed {seed}, step {step}");
    }
    for (_, slot, stage) in open {
        table.leave(slot, &quota, stage, now);
    }
    assert_eq!(table.census().held, 0, "seed {seed}");
    assert_eq!(table.uncounted(), 0, "seed {seed}");
}

#[test]
fn a_table_says_what_a_tally_for_each_key_says() {
    let first = fastrand::u64(..);
    (0..60).for_each(|more| simulate(first.wrapping_add(more)));
}

/// Whatever comes: never more keys than the bound, nobody forgotten who has something open.
fn flood(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let arrivals = Pace::new(1, Duration::from_secs(60), 2);
    let quota = Quota { connections: Some(2), arrivals, ..Quota::default() };
    let most = random.usize(1..200);
    let table = Table::new(most);
    let mut open: Vec<Slot> = Vec::new();
    let mut now = 0;
    for step in 0..5000 {
        now += random.u64(..SECOND / 100);
        let key = Key([random.u64(..), 0]);
        if let Ok((Some(slot), _)) = table.enter(key, &quota, now) {
            open.push(slot);
        }
        if !open.is_empty() && random.u32(..100) < 95 {
            table.leave(
                open.swap_remove(random.usize(..open.len())),
                &quota,
                Stage::Handshake,
                now,
            );
        }
        let census = table.census();
        assert!(census.known <= most.max(16), "{} of {most}: seed {seed}, {step}", census.known);
        assert_eq!(census.held, open.len() as u64, "seed {seed}, step {step}");
    }
    open.into_iter().for_each(|slot| table.leave(slot, &quota, Stage::Handshake, now));
    assert_eq!(table.census().held, 0, "seed {seed}");
}

#[test]
fn a_flood_of_addresses_neither_grows_the_table_nor_forgets_who_is_there() {
    let first = fastrand::u64(..);
    (0..20).for_each(|more| flood(first.wrapping_add(more)));
}

#[test]
fn a_full_table_forgets_the_one_with_the_least_debt_and_nobody_who_is_there() {
    let arrivals = Pace::new(1, Duration::from_secs(10), 5);
    let quota = Quota { connections: Some(9), arrivals, ..Quota::default() };
    let table = Table::new(1);
    let (frequent, rare, newcomer) = (Key([1, 0]), Key([2, 0]), Key([3, 0]));
    let come_and_go = |key| {
        let (slot, _) = table.enter(key, &quota, SECOND).unwrap();
        slot.map(|slot| table.leave(slot, &quota, Stage::Handshake, SECOND)).is_some()
    };
    assert!(come_and_go(frequent) && come_and_go(rare));
    assert_eq!(table.census().known, 1);
    let (slot, _) = table.enter(newcomer, &quota, SECOND).unwrap();
    assert!(slot.is_some());
    // Now the only place is taken.
    assert!(matches!(table.enter(rare, &quota, SECOND), Ok((None, None))));
    assert_eq!((table.census().held, table.uncounted()), (1, 1));
    assert!(table.enter(newcomer, &quota, SECOND).unwrap().0.is_some());
}

#[test]
fn nobody_is_forgotten_in_whose_line_somebody_waits() {
    let arrivals = Pace::new(1, Duration::from_secs(1), 1);
    let wait = Duration::from_secs(10);
    let quota = Quota { arrivals, wait, ..Quota::default() };
    let table = Table::new(1);
    let (first, newcomer) = (Key([1, 0]), Key([2, 0]));
    let enter = |key| table.enter(key, &quota, SECOND).unwrap().1;
    assert!(enter(first).is_none());
    let place = enter(first).expect("it waits");
    assert!(enter(newcomer).is_none());
    assert_eq!(table.uncounted(), 1);
    assert_eq!(table.ask(first, &quota, &place, SECOND), Some(Duration::from_secs(1)));
    // Its turn has come, and all is paid for by the time at which it asks.
    assert!(table.ask(first, &quota, &place, 2 * SECOND).is_none());
    assert!(table.enter(newcomer, &quota, 9 * SECOND).unwrap().1.is_none());
    assert_eq!((table.uncounted(), table.census().known), (1, 1));
    table.leave_line(first, &quota, &place, 9 * SECOND);
}

#[test]
fn who_leaves_and_owes_nothing_is_forgotten_at_once() {
    let quota = Quota { connections: Some(2), ..Quota::default() };
    let table = Table::new(1000);
    let come = |number| table.enter(Key([number, 0]), &quota, SECOND).unwrap().0.unwrap();
    let slots: Vec<Slot> = (0..500).map(come).collect();
    let other = table.open(come(0), &quota, SECOND).unwrap();
    slots.into_iter().for_each(|slot| table.leave(slot, &quota, Stage::Handshake, SECOND));
    assert_eq!((table.census().known, table.census().held), (1, 1));
    table.leave(other, &quota, Stage::Open, SECOND);
    assert_eq!((table.census().known, table.census().held), (0, 0));
}

#[test]
fn those_who_have_paid_are_forgotten_as_others_come() {
    let arrivals = Pace::new(10, Duration::from_secs(1), 5);
    let quota = Quota { arrivals, ..Quota::default() };
    let table = Table::new(100_000);
    for number in 0..20_000 {
        table.enter(Key([number, 0]), &quota, number * SECOND / 1000).unwrap();
    }
    // A debt of a tenth of a second is a hundred newcomers old; some wait to be looked at.
    assert!(table.census().known < 1000, "{:?}", table.census());
}
