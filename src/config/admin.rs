//! Where operators and their tools ask the node how it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listen::BindAddress;

/// `/healthz`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// The address for operators: not one that clients can reach.
    pub bind: BindAddress,
}
