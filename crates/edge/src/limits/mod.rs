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
pub mod client;
pub mod compression;
pub mod frame;
pub mod profile;
pub mod quota;
pub mod table;
pub mod tally;
pub mod turned;
pub mod turns;
pub mod turnstile;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::{Period, Size};

use self::body::BodyLimits;
use self::compression::Compression;
use self::frame::{FrameLimits, FrameLimitsConfig, Sender};
use self::profile::Profile;
use self::quota::{Quota, QuotaConfig, Quotas, Whose, max_known, of_profile};

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
    /// Whether clients and servers may agree on compressed messages: `"allow"` or `"refuse"`.
    pub compression: Option<Compression>,
    /// How old a WebSocket may become. It is closed with 1001 then, or up to a tenth earlier, so
    /// that clients who came together do not come back together.
    pub lifetime: Option<Period>,
    /// How long a client or server may take nothing of what waits for it.
    pub stall: Option<Period>,
    /// What one address may have, an IPv6 one with all of its /64.
    pub per_address: QuotaConfig,
    /// What one identity may have, by its subject.
    pub per_identity: QuotaConfig,
    /// What all clients together may have.
    pub total: QuotaConfig,
    /// How many addresses, and how many identities, a route or listener remembers: those that have
    /// something open, and those who have come so often that it counts. Above it, whoever has the
    /// least to remember is forgotten; when all have something open, newcomers are not counted by
    /// themselves, but in `total` only. 100000 when it is not set.
    pub max_known: Option<u32>,
}

/// The limits of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body: BodyLimits,
    pub client: FrameLimits,
    pub server: FrameLimits,
    pub compression: Compression,
    /// `None` is for ever.
    pub lifetime: Option<Duration>,
    /// `None` is for ever.
    pub stall: Option<Duration>,
    pub quotas: Quotas,
}

impl Limits {
    /// What holds: `own` before `general` before the profile.
    pub fn resolve(own: &LimitsConfig, general: &LimitsConfig) -> Self {
        let profile = own.profile.or(general.profile).unwrap_or_default();
        let quota = |own: &QuotaConfig, general: &QuotaConfig, whose| {
            Quota::resolve(own, general, &of_profile(profile, whose))
        };
        Self {
            body: BodyLimits::resolve(own, general, profile),
            client: FrameLimits::resolve(&own.client, &general.client, profile, Sender::Client),
            server: FrameLimits::resolve(&own.server, &general.server, profile, Sender::Server),
            compression: own.compression.or(general.compression).unwrap_or(match profile {
                Profile::Default | Profile::Off => Compression::Allow,
                Profile::Strict => Compression::Refuse,
            }),
            lifetime: period(own.lifetime, general.lifetime, profile.lifetime()),
            stall: period(own.stall, general.stall, profile.stall()),
            quotas: Quotas {
                per_address: quota(&own.per_address, &general.per_address, Whose::Address),
                per_identity: quota(&own.per_identity, &general.per_identity, Whose::Identity),
                total: quota(&own.total, &general.total, Whose::Total),
                max_known: max_known(own.max_known.or(general.max_known)),
            },
        }
    }
}

fn period(own: Option<Period>, general: Option<Period>, usual: Period) -> Option<Duration> {
    Some(own.or(general).unwrap_or(usual).0).filter(|period| !period.is_zero())
}
