//! Limits on the frames of one direction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Size;

use super::profile::Profile;

/// Limits on the frames of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FrameLimitsConfig {
    /// The biggest message; whoever sends more is closed with 1009 before it is passed on.
    pub max_message: Option<Size>,
}

/// Limits on the frames of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes; `None` is no limit.
    pub max_message: Option<u64>,
}

impl FrameLimits {
    /// What holds: `own` before `general` before the profile.
    pub fn resolve(own: &FrameLimitsConfig, general: &FrameLimitsConfig, profile: Profile) -> Self {
        let max_message = own.max_message.or(general.max_message);
        let max_message = max_message.map_or_else(
            || match profile {
                Profile::Default | Profile::Off => 0,
                Profile::Strict => 1 << 20,
            },
            |size| size.0,
        );
        Self { max_message: Some(max_message).filter(|&bytes| bytes > 0) }
    }
}
