//! What is written about the servers of a backend that are to be found.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

use super::dns::{NameServer, ServiceName};
use crate::address::HostPort;

/// Where the servers of a backend are found, besides those that are listed. Exactly one of `dns`,
/// `srv` and `file` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// `name:port`: each address of the name (A and AAAA records) is a server.
    pub dns: Option<HostPort>,
    /// The name of a service (RFC 2782), such as `_ws._tcp.chat.internal`: each SRV record is a
    /// server, with its port and weight. Records whose priority is not the lowest are `backup`
    /// servers.
    pub srv: Option<ServiceName>,
    /// A file with `[[server]]` tables, each with the keys of `backend.server`. It is read again
    /// when it changes, and at SIGHUP; while something in it is wrong, what was read before holds.
    pub file: Option<PathBuf>,
    /// The name servers that are asked, each an address, with a port when that is not 53. Those of
    /// the system (`/etc/resolv.conf`) when it is empty.
    #[serde(default)]
    pub nameserver: Vec<NameServer>,
    /// The time that each question has to be answered. The start of the node waits as long for the
    /// first: twice as long for a service, whose hosts are asked for when its records are there.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// The shortest time between two lookups, however short the records live (TTL).
    #[serde(default = "min_interval")]
    pub min_interval: Period,
    /// The longest time between two lookups, however long the records live.
    #[serde(default = "max_interval")]
    pub max_interval: Period,
    /// How long the servers stay when the name has no records any more. While name servers do not
    /// answer, or say that they cannot, the servers stay anyway.
    #[serde(default = "hold")]
    pub hold: Period,
    /// The most servers that are taken; what is found beyond them is left out, with a warning.
    #[serde(default = "max")]
    pub max: u32,
    /// Their share of new clients, 0 to 256, when it is not an SRV record or a file that says it.
    #[serde(default = "one")]
    pub weight: u16,
    /// Whether they are probed, as the backend's `check` says. Servers of a file say it themselves.
    #[serde(default)]
    pub check: bool,
    /// Most clients of each at a time; 0 is no bound. Servers of a file say it themselves.
    #[serde(default)]
    pub maxconn: u32,
}

impl DiscoveryConfig {
    /// The name servers to ask, when they are not those of the system.
    pub fn nameservers(&self) -> impl Iterator<Item = SocketAddr> {
        self.nameserver.iter().map(|it| it.0)
    }
}

fn timeout() -> Period {
    Period::from_secs(2)
}

fn min_interval() -> Period {
    Period::from_secs(1)
}

fn max_interval() -> Period {
    Period::from_secs(60)
}

fn hold() -> Period {
    Period::from_secs(30)
}

fn max() -> u32 {
    1000
}

fn one() -> u16 {
    1
}
