//! What a lookup makes of the servers of a backend. Pure.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidewire_auth::kept_file::LOOK_PERIOD;

use super::config::DiscoveryConfig;
use crate::server::ServerConfig;
use crate::server_state::Operator;

/// A server as it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub address: SocketAddr,
    /// What an SRV record says.
    pub record: Option<ServiceRecord>,
}

/// What an SRV record says of a server besides its port (RFC 2782). In the order in which they are
/// asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRecord {
    pub priority: u16,
    pub weight: u16,
    /// The host's name.
    pub target: String,
}

/// What a lookup has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Servers as they were found, and how long that is true.
    Found(Vec<Found>, Duration),
    /// Servers that say all about themselves.
    Listed(Vec<ServerConfig>),
    /// The name is not there, or has no records of the kind.
    Nothing,
}

/// The servers that were found last, and since when there are none.
#[derive(Debug)]
pub struct Roster {
    config: DiscoveryConfig,
    /// Those that the configuration lists.
    listed: Vec<ServerConfig>,
    servers: Vec<ServerConfig>,
    doubles: Vec<String>,
    empty_since: Option<Instant>,
}

/// How the servers have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// All that there are now.
    pub servers: Vec<ServerConfig>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// How many more were found than are taken.
    pub left_out: usize,
}

impl Roster {
    /// A roster that has found nothing yet.
    pub fn new(config: DiscoveryConfig, listed: Vec<ServerConfig>) -> Self {
        Self { config, servers: listed.clone(), listed, doubles: Vec::new(), empty_since: None }
    }

    /// Takes what was found at `now`. `None` when that changes nothing.
    pub fn take(&mut self, looked: Looked, now: Instant) -> Option<Change> {
        let is_nothing = looked == Looked::Nothing;
        let since = *self.empty_since.get_or_insert(now);
        if !is_nothing {
            self.empty_since = None;
        } else if now.duration_since(since) < self.config.hold.0 {
            return None;
        }
        let found = match looked {
            Looked::Nothing => Vec::new(),
            Looked::Listed(servers) => servers,
            Looked::Found(found, _) => self.named(found),
        };
        let mut servers = self.listed.clone();
        let left_out;
        (left_out, self.doubles) = extend(&mut servers, found, self.config.max as usize);
        let names = |servers: &[ServerConfig]| -> HashSet<String> {
            servers.iter().map(|it| it.name.clone()).collect()
        };
        let (before, after) = (names(&self.servers), names(&servers));
        if servers == self.servers {
            return None;
        }
        self.servers.clone_from(&servers);
        let sorted = |set: HashSet<String>| {
            let mut names: Vec<_> = set.into_iter().collect();
            names.sort_unstable();
            names
        };
        let added = sorted(after.difference(&before).cloned().collect());
        let removed = sorted(before.difference(&after).cloned().collect());
        Some(Change { servers, added, removed, left_out })
    }

    /// Those that were found last and are not taken, as another one has their name or address.
    pub fn doubles(&self) -> &[String] {
        &self.doubles
    }

    /// When to look again after an answer.
    pub fn next_look(&self, looked: &Looked) -> Duration {
        let (least, most) = (self.config.min_interval.0, self.config.max_interval.0);
        match looked {
            Looked::Found(_, life) => (*life).clamp(least, most.max(least)),
            Looked::Listed(_) => LOOK_PERIOD,
            // Soon: there may be something again.
            Looked::Nothing => least.max(MISSED_PAUSE).min(most.max(least)),
        }
    }

    /// When to look again after none.
    pub fn next_try(&self) -> Duration {
        self.config.min_interval.0.max(MISSED_PAUSE)
    }

    /// Servers with names and weights, in an order that does not depend on the name server's.
    fn named(&self, mut found: Vec<Found>) -> Vec<ServerConfig> {
        // Of several records for one address the best counts, whichever comes first: the others
        // are there already when they are put behind it.
        found.sort();
        let records = || found.iter().filter_map(|it| it.record.as_ref());
        let first = records().map(|it| it.priority).min();
        let heaviest = records().map(|it| it.weight).max().unwrap_or(0);
        let mut servers: Vec<ServerConfig> = Vec::with_capacity(found.len());
        for one in &found {
            let mut server = ServerConfig {
                name: one.address.to_string(),
                address: one.address.into(),
                weight: self.config.weight,
                server_name: None,
                found_by: self.config.dns.as_ref().map(|it| it.host().to_owned()),
                check: self.config.check,
                check_address: None,
                state: Operator::Ready,
                maxconn: self.config.maxconn,
                backup: false,
            };
            if let Some(record) = &one.record {
                server.weight = scaled(record.weight, heaviest);
                server.found_by = Some(record.target.clone());
                let name = format!("{}:{}", record.target, one.address.port());
                // A host with several addresses is as many servers.
                if !servers.iter().any(|it| it.name == name) && self.may_be(&server, &name, &found)
                {
                    server.name = name;
                }
                // The next best are asked when the best are all away.
                server.backup = Some(record.priority) != first;
            }
            servers.push(server);
        }
        servers
    }

    /// Whether `server`, which has its address for a name, may have `name`: not when it was found by
    /// its address before, nor when another one of those `found` has the name. A server that changes
    /// its name because another one comes or goes would be a stranger to its clients.
    fn may_be(&self, server: &ServerConfig, name: &str, found: &[Found]) -> bool {
        let is_found = |it: &ServerConfig| found.iter().any(|one| it.address == one.address.into());
        !self.servers.iter().any(|it| match it.address == server.address {
            true => it.name == server.name,
            false => it.name == name && is_found(it),
        })
    }
}

/// Puts `found` behind what is there, but for what is there by name or address already. How many
/// there was no room for, and who was there already.
fn extend(
    servers: &mut Vec<ServerConfig>,
    found: Vec<ServerConfig>,
    most: usize,
) -> (usize, Vec<String>) {
    let listed = servers.len();
    let mut left_out = 0;
    let mut doubles = Vec::new();
    for server in found {
        let is_there = |it: &ServerConfig| it.name == server.name || it.address == server.address;
        if servers.iter().any(is_there) {
            doubles.push(server.name);
            continue;
        }
        match servers.len() - listed < most {
            true => servers.push(server),
            false => left_out += 1,
        }
    }
    (left_out, doubles)
}

/// The weight of an SRV record, up to 65,535, as one of ours, up to 256. One of 0 may be chosen,
/// rarely: that is what RFC 2782 has it mean.
fn scaled(weight: u16, heaviest: u16) -> u16 {
    let weight = match heaviest {
        0..=256 => u32::from(weight),
        _ => (u32::from(weight) * 256 + u32::from(heaviest) / 2) / u32::from(heaviest),
    };
    weight.clamp(1, 256) as u16
}

/// How soon a look follows one that has found nothing, at the earliest.
const MISSED_PAUSE: Duration = Duration::from_secs(2);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.added.is_empty() {
            parts.push(format!("new: {}", some(&self.added)));
        }
        if !self.removed.is_empty() {
            parts.push(format!("gone: {}", some(&self.removed)));
        }
        if parts.is_empty() {
            parts.push("other weights or settings".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

/// A few of these names.
pub fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// How many names a line of the log has of each kind.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(edit: impl FnOnce(&mut DiscoveryConfig)) -> DiscoveryConfig {
        let mut config = serde_json::from_str(r#"{ "dns": "nodes.test:80" }"#).unwrap();
        edit(&mut config);
        config
    }

    fn address(text: &str) -> Found {
        Found { address: text.parse().unwrap(), record: None }
    }

    fn record(text: &str, target: &str, priority: u16, weight: u16) -> Found {
        let record = Some(ServiceRecord { target: target.into(), priority, weight });
        Found { record, ..address(text) }
    }

    fn found(all: &[Found]) -> Looked {
        Looked::Found(all.to_vec(), Duration::from_secs(5))
    }

    fn names(change: Option<Change>) -> String {
        change.map_or("-".into(), |it| it.to_string())
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_told_and_what_stays_is_not() {
        let mut roster = Roster::new(config(|_| {}), Vec::new());
        let now = Instant::now();
        let (a, b) = (address("10.0.0.1:80"), address("10.0.0.2:80"));
        assert_eq!(
            names(roster.take(found(&[b.clone(), a.clone()]), now)),
            "new: 10.0.0.1:80, 10.0.0.2:80"
        );
        assert_eq!(roster.take(found(&[a.clone(), b.clone(), b.clone()]), now), None);
        assert_eq!(names(roster.take(found(&[b]), now)), "gone: 10.0.0.1:80");
    }

    #[test]
    fn a_name_without_records_keeps_its_servers_for_a_while() {
        let mut roster = Roster::new(config(|it| it.hold = Period::from_secs(30)), Vec::new());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = found(&[address("10.0.0.1:80")]);
        roster.take(one.clone(), start);
        assert_eq!(roster.take(Looked::Nothing, at(10)), None);
        assert_eq!(roster.take(Looked::Nothing, at(39)), None);
        // An answer in between begins it anew.
        assert_eq!(roster.take(one, at(39)), None);
        assert_eq!(roster.take(Looked::Nothing, at(45)), None);
        assert_eq!(names(roster.take(Looked::Nothing, at(75))), "gone: 10.0.0.1:80");
    }

    #[test]
    fn srv_records_have_names_weights_and_priorities() {
        let mut roster = Roster::new(config(|_| {}), Vec::new());
        let all = [
            record("10.0.0.1:80", "a.test", 10, 60_000),
            record("10.0.0.2:81", "b.test", 10, 30_000),
            record("10.0.0.3:81", "b.test", 10, 0),
            record("10.0.0.4:80", "c.test", 20, 1),
        ];
        let change = roster.take(found(&all), Instant::now()).unwrap();
        let shown: Vec<_> =
            change.servers.iter().map(|it| (it.name.as_str(), it.weight, it.backup)).collect();
        let expected = [
            ("a.test:80", 256, false),
            ("b.test:81", 128, false),
            ("10.0.0.3:81", 1, false),
            ("c.test:80", 1, true),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn of_a_host_with_several_addresses_each_keeps_its_name_when_others_come_and_go() {
        let mut roster = Roster::new(config(|_| {}), Vec::new());
        let mut take = |last: &[u8]| {
            let one = |it: &u8| record(&format!("10.0.0.{it}:80"), "a.test", 10, 1);
            let found = found(&last.iter().map(one).collect::<Vec<_>>());
            let change = roster.take(found, Instant::now()).unwrap();
            let shown = |it: ServerConfig| format!("{}={}", it.name, it.address);
            change.servers.into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(take(&[2, 3]), ["a.test:80=10.0.0.2:80", "10.0.0.3:80=10.0.0.3:80"]);
        assert_eq!(take(&[3]), ["10.0.0.3:80=10.0.0.3:80"]);
        assert_eq!(take(&[3, 4]), ["10.0.0.3:80=10.0.0.3:80", "a.test:80=10.0.0.4:80"]);
        assert_eq!(take(&[1, 4]), ["10.0.0.1:80=10.0.0.1:80", "a.test:80=10.0.0.4:80"]);
    }

    #[test]
    fn an_address_that_is_named_twice_is_one_server_whatever_comes_first() {
        let twice = [
            record("10.0.0.1:80", "b.test", 10, 5),
            record("10.0.0.1:80", "a.test", 20, 9),
            record("10.0.0.1:80", "c.test", 10, 7),
            record("10.0.0.1:80", "d.test", 10, 7),
            record("10.0.0.2:80", "e.test", 20, 7),
        ];
        let now = Instant::now();
        let mut roster = Roster::new(config(|_| {}), Vec::new());
        let change = roster.take(found(&twice), now).unwrap();
        let shown: Vec<_> = change.servers.iter().map(|it| (it.name.as_str(), it.backup)).collect();
        assert_eq!(shown, [("b.test:80", false), ("e.test:80", true)]);
        for turn in 1..5 {
            let mut turned = twice.clone();
            turned.rotate_left(turn);
            assert_eq!(roster.take(found(&turned), now), None);
            turned.reverse();
            assert_eq!(roster.take(found(&turned), now), None);
        }
    }

    #[test]
    fn a_listed_server_keeps_its_name_and_its_address() {
        let listed: ServerConfig =
            serde_json::from_str(r#"{ "name": "own", "address": "10.0.0.1:80" }"#).unwrap();
        let mut roster = Roster::new(config(|_| {}), vec![listed]);
        let other = |name: &str, address: &str| -> ServerConfig {
            serde_json::from_value(serde_json::json!({ "name": name, "address": address })).unwrap()
        };
        let same = [other("own", "10.0.0.9:80"), other("another", "10.0.0.1:80")];
        assert_eq!(roster.take(Looked::Listed(same.to_vec()), Instant::now()), None);
        assert_eq!(roster.doubles(), ["own", "another"]);
        roster.take(Looked::Listed(vec![other("another", "10.0.0.2:80")]), Instant::now());
        assert!(roster.doubles().is_empty());
    }

    #[test]
    fn listed_servers_stay_and_there_is_a_bound_for_the_others() {
        let listed: ServerConfig =
            serde_json::from_str(r#"{ "name": "own", "address": "10.0.0.1:80" }"#).unwrap();
        let mut roster = Roster::new(config(|it| it.max = 1), vec![listed]);
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(address);
        let change = roster.take(found(&all), Instant::now()).unwrap();
        let shown: Vec<_> = change.servers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((shown.as_slice(), change.left_out), (&["own", "10.0.0.2:80"][..], 1));
    }

    #[test]
    fn lookups_follow_the_records_within_bounds() {
        let bounds = |it: &mut DiscoveryConfig| {
            it.min_interval = Period::from_secs(1);
            it.max_interval = Period::from_secs(60);
        };
        let roster = Roster::new(config(bounds), Vec::new());
        let next = |life: u64| {
            roster.next_look(&Looked::Found(Vec::new(), Duration::from_secs(life))).as_secs()
        };
        assert_eq!([next(0), next(5), next(3600)], [1, 5, 60]);
        assert_eq!(roster.next_look(&Looked::Nothing), MISSED_PAUSE);
    }

    use tidewire_runtime::units::Period;
}
