//! Smooth weighted round robin: with weights 5, 1, 1 the order is a a b a c a a, not a a a a a b c.
//!
//! Each choice adds every usable server's weight to its credit, takes the richest, and charges it
//! the sum. A server that comes back up starts with the credit it had, which is within one round.

use super::Balance;

pub struct Roundrobin {
    servers: Vec<Server>,
}

struct Server {
    weight: i64,
    credit: i64,
}

impl Roundrobin {
    pub fn new(weights: Vec<u32>) -> Self {
        let server = |weight| Server { weight: i64::from(weight), credit: 0 };
        Self { servers: weights.into_iter().map(server).collect() }
    }
}

impl Balance for Roundrobin {
    fn choose(&mut self, is_usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for index in 0..self.servers.len() {
            let weight = self.servers[index].weight;
            if weight == 0 || !is_usable(index) {
                continue;
            }
            total += weight;
            self.servers[index].credit += weight;
            if best.is_none_or(|best| self.servers[index].credit > self.servers[best].credit) {
                best = Some(index);
            }
        }
        let chosen = best?;
        self.servers[chosen].credit -= total;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32], usable: &[bool], picks: usize) -> String {
        let mut balance = Roundrobin::new(weights.to_vec());
        (0..picks)
            .map(|_| balance.choose(&|index| usable[index]))
            .map(|choice| choice.map_or('-', |index| char::from(b'a' + index as u8)))
            .collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(order(&[1, 1, 1], &[true; 3], 7), "abcabca");
    }

    #[test]
    fn weights_are_spread_evenly_over_the_round() {
        assert_eq!(order(&[5, 1, 1], &[true; 3], 7), "aabacaa");
    }

    #[test]
    fn the_unusable_and_the_weightless_are_passed_over() {
        assert_eq!(order(&[1, 1, 1], &[true, false, true], 4), "acac");
        assert_eq!(order(&[1, 0], &[true; 2], 3), "aaa");
        assert_eq!(order(&[1, 1], &[false; 2], 1), "-");
    }
}
