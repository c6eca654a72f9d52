//! Sets of limits that go together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A set of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// What no honest client notices.
    #[default]
    Default,
    /// What one would run on the internet.
    Strict,
    /// No limits.
    Off,
}
