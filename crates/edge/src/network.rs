//! Addresses and networks as rules have them: `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.

use crate::written::written_as_text;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address, or all that begin with the same bits. No bit behind those is set, and an IPv4
/// network is one, also when it was written as the IPv6 one that it is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is wrong with a written network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("`{0}` has bits set behind its /{1}; write \"{2}\" for the network, or \"{3}\" alone")]
    HostBits(String, u8, Network, IpAddr),
    #[error("`{0}` has more bits than an address; write a length of at most /{1}")]
    TooLong(String, u8),
    #[error("`{0}` is a name; write an address or a network, such as \"10.0.0.0/8\"")]
    Name(String),
    #[error("`{0}` has a port; write the address alone")]
    Port(String),
    #[error(
        "`{0}` is not an address or a network; write such as \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\""
    )]
    NotNetwork(String),
}

impl Network {
    /// The first and the last of its addresses, as numbers.
    pub(crate) fn range(&self) -> Range {
        match self.address {
            IpAddr::V4(address) => {
                let first = address.to_bits();
                Range::V4(first, first | u32::MAX.checked_shr(self.bits.into()).unwrap_or(0))
            }
            IpAddr::V6(address) => {
                let first = address.to_bits();
                Range::V6(first, first | u128::MAX.checked_shr(self.bits.into()).unwrap_or(0))
            }
        }
    }

    /// The network of so many bits in which an address is.
    fn around(address: IpAddr, bits: u8) -> Self {
        let host = |width: u32| width - u32::from(bits);
        let address = match address {
            IpAddr::V4(it) => {
                let mask = u32::MAX.checked_shl(host(32)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(it.to_bits() & mask))
            }
            IpAddr::V6(it) => {
                let mask = u128::MAX.checked_shl(host(128)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & mask))
            }
        };
        Self { address, bits }
    }

    /// As IPv4, when it is that.
    fn canonical(self) -> Self {
        match self.address.to_canonical() {
            address @ IpAddr::V4(_) if self.address.is_ipv6() && self.bits >= MAPPED_BITS => {
                Self { address, bits: self.bits - MAPPED_BITS }
            }
            _ => self,
        }
    }
}

/// All addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let own = || text.to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(if text.parse::<std::net::SocketAddr>().is_ok() {
                NetworkError::Port(own())
            } else if is_name(address) {
                NetworkError::Name(own())
            } else {
                NetworkError::NotNetwork(own())
            });
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|it| it.is_ascii_digit()) && !bits.is_empty() => {
                let bits = bits.parse().ok().filter(|&bits| bits <= width);
                bits.ok_or_else(|| NetworkError::TooLong(own(), width))?
            }
            Some(_) => return Err(NetworkError::NotNetwork(own())),
        };
        let network = Self::around(address, bits);
        if network.address != address {
            return Err(NetworkError::HostBits(own(), bits, network, address));
        }
        Ok(network.canonical())
    }
}

fn is_name(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit())
        && !text.contains(':')
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == width {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

written_as_text!(
    Network,
    pattern = "^[0-9a-fA-F.:]+(/[0-9]+)?$",
    "An address or a network, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32."
);

/// The bits before an IPv4 address that is mapped to IPv6.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let parsed = text.parse::<Network>();
        let said = parsed.map_or_else(|error| error.to_string(), |network| network.to_string());
        assert!(said.contains(expected), "{text}: {said}");
    }

    #[test]
    fn networks_are_read_and_printed_as_people_write_them() {
        for text in ["192.0.2.1", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        check("192.0.2.1/32", "192.0.2.1");
        check("::ffff:10.0.0.0/104", "10.0.0.0/8");
        check("::ffff:10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn what_is_not_a_network_is_told_apart() {
        check("10.1.2.3/8", "write \"10.0.0.0/8\" for the network, or \"10.1.2.3\" alone");
        check("2001:db8::1/32", "write \"2001:db8::/32\"");
        check("10.0.0.0/33", "at most /32");
        check("::/129", "at most /128");
        check("10.0.0.0/999", "at most /32");
        check("example.com", "is a name");
        check("192.0.2.1:80", "has a port");
        check("[::1]:80", "has a port");
        for text in ["", "/", "/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "010.0.0.1", "1/8"] {
            check(text, "is not an address or a network");
        }
    }
}
