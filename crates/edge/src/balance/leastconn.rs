//! The server with the fewest clients, for its weight; of several, the one that has waited longest.
//!
//! Clients are requests and tunnels that are there now: a WebSocket counts until it ends. Each
//! candidate is seen with one more, so that of two idle servers the heavier one is asked first.

use super::{Balance, Candidate, reseated};

pub struct Leastconn {
    /// When each was chosen last, by seat; `turn` is the present.
    chosen: Vec<u64>,
    turn: u64,
}

impl Leastconn {
    pub fn new(servers: usize) -> Self {
        Self { chosen: vec![0; servers], turn: 0 }
    }
}

impl Balance for Leastconn {
    fn choose(&mut self, candidates: &[Candidate], _key: Option<u64>) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let is_better = best.is_none_or(|best| {
                let best = &candidates[best];
                candidate.is_lighter(best)
                    || candidate.is_as_light(best)
                        && self.chosen[candidate.seat] < self.chosen[best.seat]
            });
            if is_better {
                best = Some(index);
            }
        }
        let best = best?;
        self.turn += 1;
        self.chosen[candidates[best].seat] = self.turn;
        Some(best)
    }

    fn reseat(&mut self, before: &[Option<usize>]) {
        self.chosen = reseated(&self.chosen, before, &0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{candidates, order, order_of_stayers};

    #[test]
    fn clients_that_stay_are_counted_by_weight() {
        let stayers =
            |weights: &[u32], picks| order_of_stayers(&mut Leastconn::new(3), weights, picks);
        assert_eq!(stayers(&[1, 1, 1], 7), "abcabca");
        assert_eq!(stayers(&[2, 1, 1], 8), "abcaabca");
        assert_eq!(stayers(&[4, 1], 6), "aaabaa");
    }

    #[test]
    fn among_the_idle_turns_are_taken() {
        assert_eq!(order(&mut Leastconn::new(3), &candidates(&[1, 1, 1]), 7), "abcabca");
    }

    #[test]
    fn a_newcomer_gets_clients_until_it_has_as_many() {
        let mut some = candidates(&[1, 1, 1]);
        (some[0].load, some[1].load) = (3, 3);
        let mut balance = Leastconn::new(3);
        let mut chosen = String::new();
        for _ in 0..5 {
            let index = balance.choose(&some, None).unwrap();
            some[index].load += 1;
            chosen.push(char::from(b'a' + index as u8));
        }
        assert_eq!(chosen, "cccab");
    }
}
