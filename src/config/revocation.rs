//! What is kept of revocations.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::revocation::REVOCATIONS_MAX;
use tidewire_runtime::units::Period;

/// Credentials that are right and not accepted any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationConfig {
    /// A file that keeps them over a restart. Without it, a node that starts learns of them from
    /// the other nodes, if there are any.
    pub file: Option<PathBuf>,
    /// The most that are remembered. A full table refuses new ones, as forgetting an old one would
    /// let somebody in.
    pub max: u32,
    /// For how long one is remembered when whoever revokes does not say: at least as long as the
    /// tokens live.
    pub default_for: Period,
}

impl Default for RevocationConfig {
    fn default() -> Self {
        Self { file: None, max: REVOCATIONS_MAX as u32, default_for: Period::from_secs(24 * 3600) }
    }
}
