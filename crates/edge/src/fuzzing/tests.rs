//! The seeds, and mutations of them.

use std::cell::Cell;
use std::path::Path;
use std::sync::Once;
use std::{fs, panic, thread};

use super::*;

/// Prints the input of a body that panics.
struct Shown<'i>(&'static str, &'i [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("fuzz body {} broke on \"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

/// Fails also when a task of the body panics, which its runtime would forgive.
fn run_seen(name: &'static str, body: Body, input: &[u8]) {
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
    let _shown = Shown(name, input);
    body(input);
    assert_eq!(PANICS.get(), 0, "a task panicked");
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let at = random.usize(0..=input.len());
    match random.u8(0..7) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 if at < input.len() => drop(input.remove(at)),
        3 => input.insert(at, TELLING[random.usize(0..TELLING.len())]),
        4 => drop(input.splice(at..at, [ORDER, ORDERS[random.usize(0..ORDERS.len())]])),
        5 => input.truncate(at),
        _ => {
            let from = random.usize(0..=other.len());
            input.splice(at..at, other[from..].iter().take(40).copied());
        }
    }
}

#[test]
fn every_seed_keeps_the_promises() {
    for (name, body) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| run_seen(name, body, seed));
    }
}

/// Seeds that end early for a reason that nobody thought of would be green and of no use.
#[test]
fn the_seeds_reach_the_ends_that_there_are() {
    let mut reached = Vec::new();
    for seed in seeds("edge") {
        reached.extend(run(seed[0], &seed[1..]));
    }
    for seed in seeds("tunnel") {
        reached.extend(run(seed[0], &in_tunnel(&seed[1..])));
    }
    reached.extend(run(3, &unread_download()));
    let reached = |reason: &Reason| reached.iter().any(|(_, there)| there == reason);
    let is_missed = |reason: &&Reason| !reached(reason) && !ELSEWHERE.contains(reason);
    let missed: Vec<_> = Reason::ALL.iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// More than hyper takes of an answer before a client has taken it; too long for a seed.
fn unread_download() -> Vec<u8> {
    let begin = b"\xFFa\xFFpGET / HTTP/1.1\r\nHost: a.test\r\n\r\n\xFFA\
        HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    [&begin[..], &[b'y'; 100_000], b"\xFFT\xFFT\xFFT"].concat()
}

#[test]
fn mutated_seeds_keep_the_promises() {
    for (name, body) in TARGETS {
        let seeds = seeds(name);
        let runs = if ["edge", "tunnel"].contains(&name) { RUNS } else { 10 * RUNS };
        for round in 0..runs {
            let mut random = fastrand::Rng::with_seed(round);
            let mut input = seeds[random.usize(0..seeds.len())].clone();
            for _ in 0..random.usize(0..6) {
                mutate(&mut input, &seeds[random.usize(0..seeds.len())], &mut random);
            }
            run_seen(name, body, &input);
        }
    }
}

/// Of a body that plays a script; the others take a hundredth of its time.
const RUNS: u64 = 400;
/// Bytes that stand for something in a head or a frame.
const TELLING: [u8; 16] = *b"\r\n: \t/#%,;0\x00\x81\x88\x7E\x80";
/// What scripts order.
const ORDERS: [u8; 16] = *b"abAB.wfxrpqtTz.A";
/// Ends of what this edge has not: TLS, a hub, operators, doors that turn connections away. And a
/// fault of ours.
const ELSEWHERE: [Reason; 9] = [
    Reason::Limited,
    Reason::Denied,
    Reason::ProxyHeader,
    Reason::TlsHandshake,
    Reason::ClientHsTimeout,
    Reason::PingTimeout,
    Reason::Revoked,
    Reason::BrokerAway,
    Reason::Internal,
];
