//! Whom a route takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::identity::Identity;

use super::claims::ClaimCondition;

/// What a route asks of a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// The indexes of the `[[auth]]`s, in the order in which they are asked. None of them is
    /// everybody, also whom an earlier route has refused.
    pub auths: Vec<usize>,
    pub satisfy: Satisfy,
    /// All of them must hold.
    pub claims: Vec<ClaimCondition>,
}

/// How many of a route's `auth` must vouch for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Satisfy {
    /// Each of them.
    #[default]
    All,
    /// The first that does.
    Any,
}

impl Access {
    pub fn takes(&self, identity: &Identity) -> bool {
        self.claims.iter().all(|condition| condition.holds(identity))
    }
}
