//! How the node ends when it is told to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

/// After SIGTERM or SIGINT nothing more is accepted, and WebSocket clients get Close 1001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// The time for open connections to end; what is left then is cut.
    pub deadline: Period,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { deadline: Period::from_secs(30) }
    }
}
