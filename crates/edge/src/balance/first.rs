//! The first server in the list that has room: the others can sleep until they are needed.

use super::{Balance, Candidate};

pub struct First;

impl Balance for First {
    fn choose(&mut self, candidates: &[Candidate], _key: Option<u64>) -> Option<usize> {
        // Those without room are no candidates.
        (0..candidates.len()).min_by_key(|&index| candidates[index].seat)
    }
}
