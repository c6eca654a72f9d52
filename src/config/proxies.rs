//! Proxies before a listener whose word about clients is taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_edge::peer_set::PeerRange;
use tidewire_edge::proxy_header::Others;
use tidewire_edge::trusted_proxies::{AddressHeader, Onward};

use super::one_or_many::OneOrMany;

/// Who says in front of everything else whose a connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocolConfig {
    /// The balancers, by address or network, and `unix` for whoever comes by a Unix socket. Each of
    /// their connections has to begin with a header of version 1 or 2, before TLS, within the
    /// timeout `client_hs`; the client is then where it says: for lists of addresses, limits, logs
    /// and servers.
    pub from: OneOrMany<PeerRange>,
    /// What becomes of the connections of all others: `close`, or `serve` as those of clients
    /// themselves. What they send is never read as a header.
    #[serde(default)]
    pub others: Others,
}

/// Who says in a header of each request where its client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedProxiesConfig {
    /// The proxies, by address or network, and `unix` for whoever comes by a Unix socket. What all
    /// others say of clients is dropped.
    pub from: OneOrMany<PeerRange>,
    /// The one header that is believed: `x-forwarded-for` or `forwarded`, to which each proxy adds,
    /// and of which the last address is taken that is none of `from`; or another one that a proxy
    /// sets to a single address, such as `cf-connecting-ip`.
    #[serde(default = "forwarded_for")]
    pub header: AddressHeader,
    /// Whether they say, too, by which scheme a client has asked: with `X-Forwarded-Proto`, or
    /// `proto` of `Forwarded`. So `https_redirect` and `origin` know TLS that ends before.
    #[serde(default = "yes")]
    pub scheme: bool,
    /// Whether they say, too, for which host, which then takes the place of `Host`: with
    /// `X-Forwarded-Host`, or `host` of `Forwarded`. Only for proxies that always set it, as a
    /// client could choose its route otherwise.
    #[serde(default)]
    pub host: bool,
    /// What servers hear of the way: the client's address and behind it the proxies', `chain`, or
    /// the `client`'s alone.
    #[serde(default = "chain")]
    pub onward: Onward,
}

fn forwarded_for() -> AddressHeader {
    AddressHeader::ForwardedFor
}

fn yes() -> bool {
    true
}

fn chain() -> Onward {
    Onward::Chain
}
