//! Limits on the bodies of requests.

use tidewire_runtime::units::Size;

use super::LimitsConfig;
use super::profile::Profile;

/// Limits on the bodies of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes; `None` is no limit.
    pub max: Option<u64>,
    /// Bytes in a second; `None` is no limit.
    pub min_rate: Option<u64>,
}

impl BodyLimits {
    /// What holds: `own` before `general` before the profile.
    pub fn resolve(own: &LimitsConfig, general: &LimitsConfig, profile: Profile) -> Self {
        let choose = |own: Option<Size>, general: Option<Size>, of_profile: u64| {
            let bytes = own.or(general).map_or(of_profile, |size| size.0);
            Some(bytes).filter(|&bytes| bytes > 0)
        };
        let (max, min_rate) = match profile {
            Profile::Default => (0, MIN_RATE),
            Profile::Strict => (1 << 20, MIN_RATE),
            Profile::Off => (0, 0),
        };
        Self {
            max: choose(own.max_body, general.max_body, max),
            min_rate: choose(own.min_body_rate, general.min_body_rate, min_rate),
        }
    }
}

/// Slower than any network that people use: a modem of 1990 was as fast.
const MIN_RATE: u64 = 240;
