//! Two are drawn, and the one with fewer clients for its weight is taken ("power of two choices").
//!
//! Nearly as even as [`super::leastconn`] seen by one edge, and better seen by many: edges that each
//! count only their own clients do not all run to the server that has just come.

use super::{Balance, Candidate};

pub struct Random {
    random: fastrand::Rng,
}

impl Random {
    pub fn new(random: fastrand::Rng) -> Self {
        Self { random }
    }

    /// Draws one, with the weights as chances; not `other`.
    fn draw(&mut self, candidates: &[Candidate], other: Option<usize>) -> Option<usize> {
        let among = || candidates.iter().enumerate().filter(|(index, _)| Some(*index) != other);
        let total: u64 = among().map(|(_, candidate)| u64::from(candidate.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.random.u64(0..total);
        for (index, candidate) in among() {
            match left.checked_sub(candidate.weight.into()) {
                Some(rest) => left = rest,
                None => return Some(index),
            }
        }
        None
    }
}

impl Balance for Random {
    fn choose(&mut self, candidates: &[Candidate], _key: Option<u64>) -> Option<usize> {
        let first = self.draw(candidates, None)?;
        let Some(second) = self.draw(candidates, Some(first)) else { return Some(first) };
        let is_second = candidates[second].is_lighter(&candidates[first]);
        Some(if is_second { second } else { first })
    }
}
