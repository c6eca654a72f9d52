//! Where operators and their tools ask the node how it is, and tell it what to do.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::secret::Secret;

use super::listen::BindAddress;

/// `/healthz`, `/readyz`, `/metrics`, `/revocations` and `/servers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// The address for operators: not one that clients can reach.
    pub bind: BindAddress,
    /// What `/revocations` and `/servers` ask for, as `Authorization: Bearer ...`: at least 16
    /// bytes. Without it, they are there on a loopback address only, for whoever is on the machine.
    pub token: Option<Secret>,
    /// A file with that token, in place of `token`; a line break at its end is not part of it.
    pub token_file: Option<PathBuf>,
    /// Who may see `/metrics`, which names routes, backends and servers.
    #[serde(default)]
    pub metrics: MetricsAccess,
}

/// Who may see `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Whoever reaches the listener.
    #[default]
    Open,
    /// Who shows the token.
    Token,
}
