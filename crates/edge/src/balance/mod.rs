//! Which server gets the next client. To add an algorithm: a file here, a variant of
//! [`Algorithm`], and its line in [`Algorithm::build`].

pub mod roundrobin;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a backend chooses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Each in turn, in proportion to the weights, as evenly spread as the weights allow.
    #[default]
    Roundrobin,
}

/// Chooses among the servers of one backend. One instance serves all workers, behind a lock that is
/// taken once for each new client: two clients that arrive on different workers still take turns.
pub trait Balance: Send {
    /// The index of the server that is next among those for which `is_usable` holds.
    fn choose(&mut self, is_usable: &dyn Fn(usize) -> bool) -> Option<usize>;
}

impl Algorithm {
    /// An instance for servers of these weights.
    pub fn build(self, weights: Vec<u32>) -> Box<dyn Balance> {
        match self {
            Self::Roundrobin => Box::new(roundrobin::Roundrobin::new(weights)),
        }
    }
}
