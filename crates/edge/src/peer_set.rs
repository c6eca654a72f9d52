//! Which peers are proxies whose word is taken: by network, or because they come by a Unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tidewire_runtime::conn::is_unix;

use crate::network::{Network, NetworkError};
use crate::network_set::NetworkSet;
use crate::written::written_as_text;

/// Peers that are alike, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRange {
    /// Whoever connects to a Unix socket: the rights to its file say who can.
    Unix,
    Network(Network),
}

/// Peers whose word is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSet {
    networks: NetworkSet,
    has_unix: bool,
}

impl PeerSet {
    /// Whether a connection's `peer` is one of them.
    pub fn has_peer(&self, peer: SocketAddr) -> bool {
        if is_unix(peer) { self.has_unix } else { self.networks.contains(peer.ip()) }
    }

    /// Whether one of them is at `address`.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }
}

impl FromIterator<PeerRange> for PeerSet {
    fn from_iter<I: IntoIterator<Item = PeerRange>>(ranges: I) -> Self {
        let mut has_unix = false;
        let networks = ranges.into_iter().filter_map(|range| match range {
            PeerRange::Network(network) => Some(network),
            PeerRange::Unix => {
                has_unix = true;
                None
            }
        });
        let networks = networks.collect();
        Self { networks, has_unix }
    }
}

impl FromStr for PeerRange {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == "unix" { Ok(Self::Unix) } else { text.parse().map(Self::Network) }
    }
}

impl fmt::Display for PeerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

written_as_text!(
    PeerRange,
    "An address or network, such as 10.0.0.0/8, or unix: whoever comes by a Unix socket."
);

#[cfg(test)]
mod tests {
    use tidewire_runtime::conn::UNIX;

    use super::*;

    #[test]
    fn a_unix_socket_is_in_no_network() {
        let set = |texts: &[&str]| -> PeerSet {
            texts.iter().map(|text| text.parse::<PeerRange>().unwrap()).collect()
        };
        let all = set(&["0.0.0.0/0", "::/0"]);
        assert!(!all.has_peer(UNIX));
        assert!(all.has_peer("[::ffff:192.0.2.1]:1".parse().unwrap()));
        let unix = set(&["unix"]);
        assert!(unix.has_peer(UNIX));
        assert!(!unix.has_address(UNIX.ip()));
        assert!(!unix.has_peer("192.0.2.1:1".parse().unwrap()));
    }
}
