//! Smooth weighted round robin: with weights 5, 1, 1 the order is a a b a c a a, not a a a a a b c.
//!
//! Each choice adds every candidate's weight to its credit, takes the richest, and charges it the
//! sum. A server that comes back up starts with the credit it had, which is within one round.

use super::{Balance, Candidate, reseated};

pub struct Roundrobin {
    /// By seat.
    credits: Vec<i64>,
}

impl Roundrobin {
    pub fn new(servers: usize) -> Self {
        Self { credits: vec![0; servers] }
    }
}

impl Balance for Roundrobin {
    fn choose(&mut self, candidates: &[Candidate], _key: Option<u64>) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let weight = i64::from(candidate.weight);
            total += weight;
            self.credits[candidate.seat] += weight;
            let credit = |index: usize| self.credits[candidates[index].seat];
            if best.is_none_or(|best| credit(index) > credit(best)) {
                best = Some(index);
            }
        }
        let best = best?;
        self.credits[candidates[best].seat] -= total;
        Some(best)
    }

    fn reseat(&mut self, before: &[Option<usize>]) {
        self.credits = reseated(&self.credits, before, &0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{candidates, order};

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(order(&mut Roundrobin::new(3), &candidates(&[1, 1, 1]), 7), "abcabca");
    }

    #[test]
    fn weights_are_spread_evenly_over_the_round() {
        assert_eq!(order(&mut Roundrobin::new(3), &candidates(&[5, 1, 1]), 7), "aabacaa");
    }

    #[test]
    fn who_is_no_candidate_is_passed_over() {
        let mut balance = Roundrobin::new(3);
        let mut some = candidates(&[1, 1, 1]);
        some.remove(1);
        assert_eq!(order(&mut balance, &some, 4), "acac");
        assert_eq!(order(&mut balance, &[], 1), "-");
    }

    #[test]
    fn turns_go_on_when_servers_come_and_go() {
        let mut balance = Roundrobin::new(3);
        assert_eq!(order(&mut balance, &candidates(&[1, 1, 1]), 1), "a");
        // `a` goes; `b` and `c` stay, in other seats; another one comes.
        balance.reseat(&[Some(2), None, Some(1)]);
        assert_eq!(order(&mut balance, &candidates(&[1, 1, 1]), 3), "acb");
    }
}
