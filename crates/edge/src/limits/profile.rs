//! Sets of limits that go together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

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

impl Profile {
    /// How old a WebSocket may become.
    pub(super) fn lifetime(self) -> Period {
        match self {
            Self::Strict => Period::from_secs(24 * 3600),
            Self::Default | Self::Off => Period::from_secs(0),
        }
    }

    /// How long a peer may take nothing of what waits for it.
    pub(super) fn stall(self) -> Period {
        match self {
            Self::Default => Period::from_secs(300),
            Self::Strict => Period::from_secs(30),
            Self::Off => Period::from_secs(0),
        }
    }
}
