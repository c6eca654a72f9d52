//! How many WebSockets somebody may have, and how often they may ask for one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many WebSockets somebody may have, and how often they may ask for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// The most connections at a time.
    pub connections: Option<u32>,
}

/// How many WebSockets somebody may have, and how often they may ask for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// `None` is no limit.
    pub connections: Option<u32>,
}

impl Quota {
    /// What holds: `own` before `general`.
    pub fn resolve(own: &QuotaConfig, general: &QuotaConfig) -> Self {
        Self { connections: own.connections.or(general.connections).filter(|&most| most > 0) }
    }
}
