//! The seeds of fuzz bodies, and a bounded, repeatable run of mutations of them: what `cargo test`
//! knows of fuzzing. The tests of each crate that has bodies include this file.

use std::path::Path;
use std::{fs, thread};

/// Panics if the input breaks its promise.
type Body = fn(&[u8]);

/// Runs each body with each of its seeds.
pub fn run_seeds(targets: &[(&'static str, Body)], run: impl Fn(Body, &[u8])) {
    for &(name, body) in targets {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| run_shown(name, body, seed, &run));
    }
}

/// Runs each body with mutations of its seeds, as many as `rounds` says. `piece` is something that
/// stands for something in an input.
pub fn run_mutations(
    targets: &[(&'static str, Body)],
    rounds: impl Fn(&str) -> u64,
    piece: impl Fn(&mut Random) -> Vec<u8>,
    run: impl Fn(Body, &[u8]),
) {
    for &(name, body) in targets {
        let seeds = seeds(name);
        for round in 0..rounds(name) {
            let mut random = Random(round);
            let mut input = random.one_of(&seeds).clone();
            for _ in 0..=random.below(6) {
                let other = random.one_of(&seeds);
                mutate(&mut input, other, &piece, &mut random);
            }
            run_shown(name, body, &input, &run);
        }
    }
}

/// The seeds of a target, in the order of their names.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutate(
    input: &mut Vec<u8>,
    other: &[u8],
    piece: impl Fn(&mut Random) -> Vec<u8>,
    random: &mut Random,
) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.below(256) as u8,
        2 if at < input.len() => drop(input.remove(at)),
        3 | 4 => drop(input.splice(at..at, piece(random))),
        5 => input.truncate(at),
        _ => {
            let from = random.below(other.len() + 1);
            input.splice(at..at, other[from..].iter().take(40).copied());
        }
    }
}

fn run_shown(name: &'static str, body: Body, input: &[u8], run: impl Fn(Body, &[u8])) {
    let _shown = Shown(name, input);
    run(body, input);
}

/// Prints the input of a body that panics.
struct Shown<'i>(&'static str, &'i [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("fuzz body {} broke on \"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

/// A generator for tests (splitmix64): repeatable, and no dependency.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ word >> 31) as usize % bound
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
