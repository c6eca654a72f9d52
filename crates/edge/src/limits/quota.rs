//! How many connections somebody may have, and how often they may come.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::rate::{Pace, Rate};
use tidewire_runtime::units::Period;

use super::profile::Profile;

/// How many WebSockets somebody may have on a route, and how often they may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// The most WebSockets at a time, those included whose handshake is not over yet.
    pub connections: Option<u32>,
    /// The most handshakes at a time that have begun and are not answered yet.
    pub handshakes: Option<u32>,
    /// How often a handshake may come.
    pub rate: Option<Rate>,
    /// How many handshakes may come at once before `rate` holds them back; as many as `rate` says
    /// when it is not set.
    pub burst: Option<u32>,
    /// How long a handshake above the rate may be kept waiting for its turn, in the order in which
    /// they come, before it is refused; `0s` refuses at once.
    pub wait: Option<Period>,
    /// How often a request may come that is no handshake; as many may come at once.
    pub requests: Option<Rate>,
}

/// How many connections somebody may have on a listener, and how often they may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArrivalQuotaConfig {
    /// The most connections at a time, of HTTP and WebSockets.
    pub connections: Option<u32>,
    /// The most connections at a time that have not got through TLS and their first request head.
    pub handshakes: Option<u32>,
    /// How often a connection may come.
    pub rate: Option<Rate>,
    /// How many connections may come at once before `rate` holds them back; as many as `rate` says
    /// when it is not set.
    pub burst: Option<u32>,
    /// How long a connection above the rate may be kept waiting for its turn, in the order in which
    /// they come, before it is closed; `0s` closes at once.
    pub wait: Option<Period>,
}

/// What connections who come from somewhere may do on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArrivalLimitsConfig {
    /// What holds where nothing is set; that of `[limits]` when it is not set.
    pub profile: Option<Profile>,
    /// What one address may have, an IPv6 one with all of its /64.
    pub per_address: ArrivalQuotaConfig,
    /// What all clients together may have.
    pub total: ArrivalQuotaConfig,
    /// How many addresses are remembered; that of `[limits]` when it is not set.
    pub max_known: Option<u32>,
}

/// What somebody may have. What is `None` is not counted, either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub connections: Option<u32>,
    pub handshakes: Option<u32>,
    /// Of handshakes, on a listener of connections.
    pub arrivals: Option<Pace>,
    /// How long an arrival above the pace may wait for its turn.
    pub wait: Duration,
    /// Of requests that are no handshakes.
    pub requests: Option<Pace>,
}

/// All that is counted at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub per_address: Quota,
    pub per_identity: Quota,
    pub total: Quota,
    /// The bound of each table of addresses or identities.
    pub max_known: usize,
}

/// Whom a quota is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Address,
    Identity,
    Total,
}

impl Quota {
    /// What holds: `own` before `general` before `profile`.
    pub fn resolve(own: &QuotaConfig, general: &QuotaConfig, profile: &QuotaConfig) -> Self {
        let most = |read: fn(&QuotaConfig) -> Option<u32>| {
            read(own).or(read(general)).or(read(profile)).filter(|&most| most > 0)
        };
        // A burst belongs to the rate beside it: another rate does not inherit it.
        let levels = [own, general, profile];
        let rated = levels.iter().position(|level| level.rate.is_some());
        let arrivals = rated.and_then(|at| {
            let rate = levels[at].rate?;
            let burst = levels[..=at].iter().find_map(|level| level.burst).unwrap_or(rate.count);
            Pace::new(rate.count.into(), rate.per, burst.into())
        });
        let requests = own.requests.or(general.requests).or(profile.requests);
        let requests =
            requests.and_then(|rate| Pace::new(rate.count.into(), rate.per, u64::from(rate.count)));
        Self {
            connections: most(|it| it.connections),
            handshakes: most(|it| it.handshakes),
            arrivals,
            wait: own.wait.or(general.wait).map_or(Duration::ZERO, |wait| wait.0),
            requests,
        }
    }

    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self { wait: self.wait, ..Self::default() }
    }
}

impl Quotas {
    /// Those of a listener. `general` is the profile of `[limits]` and its `max_known`.
    pub fn of_listener(own: &ArrivalLimitsConfig, general: (Option<Profile>, Option<u32>)) -> Self {
        let profile = own.profile.or(general.0).unwrap_or_default();
        let quota = |own: &ArrivalQuotaConfig, whose| {
            Quota::resolve(
                &QuotaConfig::from(own),
                &QuotaConfig::default(),
                &of_connections(profile, whose),
            )
        };
        Self {
            per_address: quota(&own.per_address, Whose::Address),
            per_identity: Quota::default(),
            total: quota(&own.total, Whose::Total),
            max_known: max_known(own.max_known.or(general.1)),
        }
    }
}

impl From<&ArrivalQuotaConfig> for QuotaConfig {
    fn from(it: &ArrivalQuotaConfig) -> Self {
        Self {
            connections: it.connections,
            handshakes: it.handshakes,
            rate: it.rate,
            burst: it.burst,
            wait: it.wait,
            requests: None,
        }
    }
}

/// The bound of a table for which `max_known` is written, or is not.
pub fn max_known(written: Option<u32>) -> usize {
    written.map_or(MAX_KNOWN, |most| most.max(1) as usize)
}

/// What a profile has for routes.
///
/// `default` is for whoever has not thought about limits yet: thousands of users may share the one
/// address of their carrier, or of the proxy before us, so it bounds only what nobody needs in
/// such numbers: handshakes of one address that hang.
pub fn of_profile(profile: Profile, whose: Whose) -> QuotaConfig {
    match (profile, whose) {
        (Profile::Off, _) | (Profile::Default | Profile::Strict, Whose::Total) => {
            QuotaConfig::default()
        }
        (Profile::Default, Whose::Address) => {
            QuotaConfig { handshakes: Some(HANGING), ..QuotaConfig::default() }
        }
        (Profile::Default, Whose::Identity) => QuotaConfig::default(),
        (Profile::Strict, Whose::Address) => QuotaConfig {
            connections: Some(100),
            handshakes: Some(50),
            rate: per_second(10),
            burst: Some(100),
            requests: per_second(100),
            wait: None,
        },
        (Profile::Strict, Whose::Identity) => QuotaConfig {
            connections: Some(20),
            handshakes: Some(10),
            rate: per_second(2),
            burst: Some(20),
            requests: per_second(50),
            wait: None,
        },
    }
}

/// What a profile has for listeners, where pages are loaded, too, each over several connections.
fn of_connections(profile: Profile, whose: Whose) -> QuotaConfig {
    match (profile, whose) {
        (Profile::Default, Whose::Address) => {
            QuotaConfig { handshakes: Some(HANGING), ..QuotaConfig::default() }
        }
        (Profile::Strict, Whose::Address) => QuotaConfig {
            connections: Some(200),
            handshakes: Some(100),
            rate: per_second(50),
            burst: Some(200),
            ..QuotaConfig::default()
        },
        _ => QuotaConfig::default(),
    }
}

fn per_second(count: u32) -> Option<Rate> {
    Some(Rate { count, per: Duration::from_secs(1) })
}

/// More handshakes that hang than any proxy before us has, even in a reconnect storm.
const HANGING: u32 = 4096;

/// Some 7 MB when they are all in use.
const MAX_KNOWN: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(own: &str, general: &str, profile: Profile) -> Quota {
        let read = |text: &str| serde_json::from_str::<QuotaConfig>(text).unwrap();
        Quota::resolve(&read(own), &read(general), &of_profile(profile, Whose::Address))
    }

    fn pace(count: u64, seconds: u64, burst: u64) -> Option<Pace> {
        Pace::new(count, Duration::from_secs(seconds), burst)
    }

    #[test]
    fn the_route_is_asked_before_the_limits_of_all_and_those_before_the_profile() {
        let quota = resolve(r#"{"connections":5}"#, r#"{"connections":9,"handshakes":0}"#, {
            Profile::Strict
        });
        assert_eq!((quota.connections, quota.handshakes), (Some(5), None));
        assert_eq!(quota.arrivals, pace(10, 1, 100));
        assert!(resolve("{}", "{}", Profile::Off).is_empty());
        assert!(resolve(r#"{"rate":"0/s"}"#, "{}", Profile::Off).is_empty());
    }

    #[test]
    fn a_burst_belongs_to_the_rate_beside_it() {
        let general = r#"{"rate":"100/s","burst":1000}"#;
        assert_eq!(resolve("{}", general, Profile::Off).arrivals, pace(100, 1, 1000));
        assert_eq!(resolve(r#"{"rate":"5/m"}"#, general, Profile::Off).arrivals, pace(5, 60, 5));
        assert_eq!(resolve(r#"{"burst":7}"#, general, Profile::Off).arrivals, pace(100, 1, 7));
    }
}
