//! Which server gets the next client. To add an algorithm: a file here, a variant of
//! [`Algorithm`], and its lines in [`Algorithm::build`] and in [`algorithm`]'s list of words.
//!
//! ```text
//!   Backend ── who may get this client now ──> [Candidate] ── Balance::choose ──> one of them
//! ```
//!
//! What decides here is pure: candidates, and the hash of the request's key, go in, a candidate
//! comes out. Who is a candidate (up, with room, no backup while others are there) is settled
//! before, so no algorithm can get that wrong.

pub mod algorithm;
pub mod first;
pub mod key;
pub mod leastconn;
pub mod random;
pub mod rendezvous;
pub mod roundrobin;
#[cfg(test)]
mod tests;

use self::algorithm::Algorithm;

/// Chooses among the servers of one backend. One instance serves all workers, behind a lock that is
/// taken once for each new client: two clients that arrive on different workers still take turns.
pub trait Balance: Send {
    /// The index of the candidate that gets the client. `key` is the hash of what the backend
    /// balances by; `None` when it balances by nothing, or this request does not have it.
    fn choose(&mut self, candidates: &[Candidate], key: Option<u64>) -> Option<usize>;

    /// The servers have changed: for the seat of each that there is now, the seat that it had
    /// before. What is remembered of those that stay goes with them.
    fn reseat(&mut self, before: &[Option<usize>]) {
        let _ = before;
    }
}

/// A server that may get the next client.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its place among all servers of the backend, until they change.
    pub seat: usize,
    /// The hash of its name: the same in every process, wherever the server is listed.
    pub seed: u64,
    /// Its share, over 0, in parts of [`crate::weight::SCALE`].
    pub weight: u32,
    /// Clients that it carries now.
    pub load: u64,
}

impl Algorithm {
    /// An instance for as many servers, none of which has had a client. Who balances by chance
    /// draws from `random`; `factor` is the `hash_balance_factor`.
    pub fn build(
        &self,
        servers: usize,
        factor: Option<u16>,
        random: fastrand::Rng,
    ) -> Box<dyn Balance> {
        match self {
            Self::Roundrobin => Box::new(roundrobin::Roundrobin::new(servers)),
            Self::Leastconn => Box::new(leastconn::Leastconn::new(servers)),
            Self::Random => Box::new(random::Random::new(random)),
            Self::First => Box::new(first::First),
            Self::Hash(_) => Box::new(rendezvous::Rendezvous::new(servers, factor)),
        }
    }
}

impl Candidate {
    /// Whether it would be less loaded than `other`, by weight, with one more client each.
    fn is_lighter(&self, other: &Self) -> bool {
        self.parts() * u128::from(other.weight) < other.parts() * u128::from(self.weight)
    }

    /// Whether both would be loaded alike with one more client each.
    fn is_as_light(&self, other: &Self) -> bool {
        self.parts() * u128::from(other.weight) == other.parts() * u128::from(self.weight)
    }

    fn parts(&self) -> u128 {
        u128::from(self.load) + 1
    }
}

/// `values` in the order of the new seats; whoever is new begins with `fresh`.
fn reseated<T: Clone>(values: &[T], before: &[Option<usize>], fresh: &T) -> Vec<T> {
    before.iter().map(|seat| seat.map_or(fresh, |seat| &values[seat]).clone()).collect()
}
