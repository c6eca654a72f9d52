//! What clients and servers may do on a route, and how much of it.
//!
//! ```text
//!   a handshake ─> quota (how many, how often: by address, identity, route) ─> tunnel
//!   a frame ─────> frame limits (size, kind, rate: from clients, from servers) ─> the other side
//! ```
//!
//! A limit is that of the route; where it says nothing, that of `[limits]`; where that says
//! nothing, that of the profile. To add one: an optional field, its value in each profile, and its
//! line in `resolve`.

pub mod body;
pub mod frame;
pub mod profile;
pub mod quota;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Size;

use self::body::BodyLimits;
use self::frame::{FrameLimits, FrameLimitsConfig};
use self::profile::Profile;
use self::quota::{Quota, QuotaConfig};

/// What a key does not say is as the profile has it; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// What holds where nothing is set: `"default"`, which no honest client notices; `"strict"`,
    /// which is for clients from anywhere; `"off"`, which is no limit at all.
    pub profile: Option<Profile>,
    /// The largest body of a plain request, in bytes; a larger one is answered 413. No limit by
    /// default, 1MiB when strict.
    pub max_body: Option<Size>,
    /// The bytes in a second that the body of a plain request comes with at least, on average, once
    /// it was waited for as long as `timeout.client`; a slower one is answered 408. 240B by default
    /// and when strict.
    pub min_body_rate: Option<Size>,
    /// Frames from clients.
    pub client: FrameLimitsConfig,
    /// Frames from servers.
    pub server: FrameLimitsConfig,
    /// What one address may have, an IPv6 one with all of its /64.
    pub per_address: QuotaConfig,
    /// What one identity may have, by its subject.
    pub per_identity: QuotaConfig,
    /// What all clients together may have.
    pub total: QuotaConfig,
}

/// The limits of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body: BodyLimits,
    pub client: FrameLimits,
    pub server: FrameLimits,
    pub per_address: Quota,
    pub per_identity: Quota,
    pub total: Quota,
}

impl Limits {
    /// What holds: `own` before `general` before the profile.
    pub fn resolve(own: &LimitsConfig, general: &LimitsConfig) -> Self {
        let profile = own.profile.or(general.profile).unwrap_or_default();
        Self {
            body: BodyLimits::resolve(own, general, profile),
            client: FrameLimits::resolve(&own.client, &general.client, profile),
            server: FrameLimits::resolve(&own.server, &general.server, profile),
            per_address: Quota::resolve(&own.per_address, &general.per_address),
            per_identity: Quota::resolve(&own.per_identity, &general.per_identity),
            total: Quota::resolve(&own.total, &general.total),
        }
    }
}
