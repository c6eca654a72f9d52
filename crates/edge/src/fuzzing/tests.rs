//! The seeds, and mutations of them.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic;
use std::sync::Once;
use std::time::Duration;

use self::replay::Random;
use super::*;
use crate::end::{Party, Reason};

#[path = "../../../../fuzz/replay.rs"]
mod replay;

/// Fails also when a task of the body panics, which its runtime would forgive.
fn run_seen(body: Body, input: &[u8]) {
    static HOOK: Once = Once::new();
    thread_local! {
        static PANICS: Cell<u32> = const { Cell::new(0) };
    }
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    body(input);
    assert_eq!(PANICS.get(), 0, "a task panicked");
}

#[test]
fn every_seed_keeps_the_promises() {
    replay::run_seeds(&TARGETS, run_seen);
}

/// Seeds that end early for a reason that nobody thought of would be green and of no use.
#[test]
fn the_seeds_reach_the_ends_that_there_are() {
    let mut reached = Vec::new();
    for seed in replay::seeds("edge") {
        reached.extend(run(seed[0], &seed[1..]).ends);
    }
    for seed in replay::seeds("tunnel") {
        reached.extend(run(seed[0], &in_tunnel(&seed[1..])).ends);
    }
    reached.extend(run(3, &unread_download()).ends);
    let reached = |reason: &Reason| reached.iter().any(|(_, there)| there == reason);
    let is_missed = |reason: &&Reason| !reached(reason) && !ELSEWHERE.contains(reason);
    let missed: Vec<_> = Reason::ALL.iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_server_is_asked_for_a_client_that_left_with_its_request() {
    let mut rig = Rig::new(4096, Limited::Default, Pinging::No);
    let mut client = rig.connect();
    client.try_write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    client.shutdown_write().unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(rig.dialled().is_empty());
    assert_eq!(rig.ends().collect::<Vec<_>>(), [(Party::Client, Reason::Eof)]);
}

#[test]
fn the_seeds_meet_every_rule() {
    let seeds = replay::seeds("edge").into_iter();
    let met: HashSet<usize> = seeds.flat_map(|seed| run(seed[0], &seed[1..]).rules).collect();
    let rules = rules::rules().0;
    let unmet = rules.iter().enumerate().filter(|(index, _)| !met.contains(index));
    let unmet: Vec<_> = unmet.map(|(_, rule)| &rule.name).collect();
    assert!(unmet.is_empty(), "{unmet:?}");
}

/// More than hyper takes of an answer before a client has taken it; too long for a seed.
fn unread_download() -> Vec<u8> {
    let begin = b"\xFFa\xFFpGET / HTTP/1.1\r\nHost: a.test\r\n\r\n\xFFA\
        HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    [&begin[..], &[b'y'; 100_000], b"\xFFT\xFFT\xFFT"].concat()
}

#[test]
fn mutated_seeds_keep_the_promises() {
    let rounds = |name: &str| if ["edge", "tunnel"].contains(&name) { RUNS } else { 10 * RUNS };
    let piece = |random: &mut Random| match random.below(2) {
        0 => vec![*random.one_of(&TELLING)],
        _ => vec![ORDER, *random.one_of(&ORDERS)],
    };
    replay::run_mutations(&TARGETS, rounds, piece, run_seen);
}

/// Of a body that plays a script; the others take a hundredth of its time.
const RUNS: u64 = 400;
/// Bytes that stand for something in a head or a frame.
const TELLING: [u8; 16] = *b"\r\n: \t/#%,;0\x00\x81\x88\x7E\x80";
/// What scripts order.
const ORDERS: [u8; 17] = *b"abAB.wfxrpqtTz.Ao";
/// Ends of what this edge has not: TLS, a hub, operators, doors that turn connections away, servers
/// whose state changes. And a fault of ours.
const ELSEWHERE: [Reason; 10] = [
    Reason::Limited,
    Reason::Denied,
    Reason::ProxyHeader,
    Reason::TlsHandshake,
    Reason::ClientHsTimeout,
    Reason::Revoked,
    Reason::Rebalance,
    Reason::ServerDown,
    Reason::BrokerAway,
    Reason::Internal,
];
