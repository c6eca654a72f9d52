//! The same server for the same key: weighted rendezvous hashing, with bounded load on request.
//!
//! Every server has a score for a key, and the highest one gets it: `-weight / ln(u)`, where `u` is
//! the hash of the key and the server's name as a number between 0 and 1. So shares are as the
//! weights, a server that comes takes 1/n of the keys and from each of the others alike, and one
//! that goes, or is down, moves its own keys only. A ring has the same in the mean, with hundreds of
//! points for each server, and moves more when a weight changes; here it costs a look at each
//! server, once for a client.
//!
//! With a factor, a server that has more than its share of the clients, times the factor, gives its
//! keys to the next in their order (Mirrokni, Thorup, Zadimoghaddam: "Consistent hashing with
//! bounded loads", 2016).

use super::key::mix;
use super::leastconn::Leastconn;
use super::{Balance, Candidate};

pub struct Rendezvous {
    /// Percent of its share that a server may have; `None` is any.
    factor: Option<u16>,
    /// For requests that do not have the key.
    keyless: Leastconn,
}

impl Rendezvous {
    pub fn new(servers: usize, factor: Option<u16>) -> Self {
        Self { factor, keyless: Leastconn::new(servers) }
    }
}

impl Balance for Rendezvous {
    fn choose(&mut self, candidates: &[Candidate], key: Option<u64>) -> Option<usize> {
        let Some(key) = key else { return self.keyless.choose(candidates, None) };
        let bound = Bound::new(candidates, self.factor);
        let mut best: Option<(f64, usize)> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let score = score(key, candidate);
            if best.is_none_or(|(highest, _)| score > highest) && bound.has_room(candidate) {
                best = Some((score, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn reseat(&mut self, before: &[Option<usize>]) {
        self.keyless.reseat(before);
    }
}

/// What no server may have more of. There is always one with room: all together may have more
/// clients than there are.
struct Bound {
    factor: Option<u128>,
    /// Clients of all candidates, with the one that comes.
    load: u128,
    weight: u128,
}

impl Bound {
    fn new(candidates: &[Candidate], factor: Option<u16>) -> Self {
        let load = candidates.iter().map(|one| u128::from(one.load)).sum::<u128>() + 1;
        let weight = candidates.iter().map(|one| u128::from(one.weight)).sum();
        Self { factor: factor.map(u128::from), load, weight }
    }

    fn has_room(&self, candidate: &Candidate) -> bool {
        let Some(factor) = self.factor else { return true };
        let share = factor * self.load * u128::from(candidate.weight);
        u128::from(candidate.load) < share.div_ceil(100 * self.weight)
    }
}

fn score(key: u64, candidate: &Candidate) -> f64 {
    // The middle of one of 2^53 steps between 0 and 1: neither end is one.
    let hash = mix(key ^ candidate.seed.rotate_left(17)) >> 11;
    let number = (hash as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0);
    f64::from(candidate.weight) / -ln(number)
}

/// The natural logarithm, of sums and products only: those are the same on every machine, and
/// `f64::ln` need not be. Exact to 12 digits.
fn ln(number: f64) -> f64 {
    let bits = number.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // Between 1/sqrt(2) and sqrt(2), where the series is short.
    let (mantissa, exponent) = if mantissa > std::f64::consts::SQRT_2 {
        (mantissa / 2.0, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..8).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    2.0 * ratio * series + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::key::hash;
    use crate::balance::tests::candidates;

    #[test]
    fn logarithms_are_right() {
        let mut random = fastrand::Rng::with_seed(7);
        for number in (0..10_000).map(|_| random.f64()).chain([1e-16, 0.5, 1.0 - 1e-16]) {
            let (found, expected) = (ln(number), number.ln());
            assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "{number}");
        }
    }

    #[test]
    fn keys_have_the_servers_of_all_releases() {
        // Another order moves the clients of everybody who updates.
        let mut balance = Rendezvous::new(3, None);
        let candidates = candidates(&[1, 2, 1]);
        let chosen: String = (0..24)
            .map(|n| balance.choose(&candidates, Some(hash(format!("key-{n}").as_bytes()))))
            .map(|index| char::from(b'a' + index.unwrap() as u8))
            .collect();
        assert_eq!(chosen, CHOSEN);
    }

    const CHOSEN: &str = "bbcaccaccccabcbbbcbbcacb";
}
