//! Where a client is, and who has said so.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidewire_runtime::conn::is_unix;

/// A client's address, and the proxy that it is known from. Each WebSocket keeps one, so it is
/// smaller than a socket address and a half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// IPv4 as it is mapped; the zeros of IPv4 for whoever has no address.
    address: [u8; 16],
    /// 0 when no one has said it.
    port: u16,
    /// As `address`; the zeros of IPv6 when the client itself has connected.
    via: [u8; 16],
}

impl ClientAddress {
    /// Of who has connected.
    pub fn direct(peer: SocketAddr) -> Self {
        Self { address: pack(peer.ip()), port: peer.port(), via: NOBODY }
    }

    /// Of whom the proxy `via` has spoken.
    pub fn said_by(via: IpAddr, client: SocketAddr) -> Self {
        Self { via: pack(via), ..Self::direct(client) }
    }

    /// Of `client`, as `via` says, if somebody does.
    pub fn new(client: SocketAddr, via: Option<IpAddr>) -> Self {
        via.map_or(Self::direct(client), |via| Self::said_by(via, client))
    }

    /// The address, an IPv4 one as that. 0.0.0.0 for whoever has none.
    pub fn ip(&self) -> IpAddr {
        unpack(self.address)
    }

    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    /// The proxy that it is known from.
    pub fn via(&self) -> Option<IpAddr> {
        (self.via != NOBODY).then(|| unpack(self.via))
    }

    /// [`ClientAddress::via`] for the log.
    pub fn shown_via(&self) -> Option<impl fmt::Display> {
        self.via().map(|via| Self::direct(SocketAddr::new(via, 0)))
    }
}

/// With its port, if that is known.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_address() {
            address if is_unix(address) => f.write_str("unix"),
            address if address.port() == 0 => address.ip().fmt(f),
            address => address.fmt(f),
        }
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.shown_via().map_or(Ok(()), |via| write!(f, " via {via}"))
    }
}

fn pack(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .octets()
}

fn unpack(address: [u8; 16]) -> IpAddr {
    IpAddr::V6(address.into()).to_canonical()
}

const NOBODY: [u8; 16] = [0; 16];

#[cfg(test)]
mod tests {
    use tidewire_runtime::conn::UNIX;

    use super::*;

    #[test]
    fn it_is_written_with_what_is_known_of_it() {
        let check = |client: &str, expected: &str| {
            let client = ClientAddress::direct(client.parse().unwrap());
            assert_eq!(format!("{client}"), expected);
            assert_eq!(client.via(), None);
        };
        check("192.0.2.1:80", "192.0.2.1:80");
        check("192.0.2.1:0", "192.0.2.1");
        check("[::ffff:192.0.2.1]:80", "192.0.2.1:80");
        check("[2001:db8::1]:80", "[2001:db8::1]:80");
        check("[2001:db8::1]:0", "2001:db8::1");
        assert_eq!(ClientAddress::direct(UNIX).to_string(), "unix");
    }

    #[test]
    fn the_proxy_that_has_said_it_is_kept() {
        let check = |via: &str, expected: &str| {
            let client = "192.0.2.1:80".parse().unwrap();
            let client = ClientAddress::said_by(via.parse().unwrap(), client);
            assert_eq!(format!("{client:?}"), format!("192.0.2.1:80 via {expected}"));
        };
        check("10.0.0.1", "10.0.0.1");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("::1", "::1");
        check(&UNIX.ip().to_string(), "unix");
    }

    #[test]
    fn it_is_kept_in_few_bytes() {
        assert_eq!(size_of::<ClientAddress>(), 34);
    }
}
