//! The addresses of this machine that connections are made from, in turns.
//!
//! A connection is told from others by both of its ends, so there are as many between two addresses
//! as there are ports that the kernel gives out: 28,232 on Linux by default. An address more is as
//! many more.

use std::net::{IpAddr, SocketAddr};

/// Addresses that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePool {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl SourcePool {
    /// The addresses of the family of `to`, each once, beginning with the one whose turn it is.
    pub fn turn(&self, to: SocketAddr, turn: usize) -> impl ExactSizeIterator<Item = IpAddr> {
        let family = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        (0..family.len()).map(move |step| family[turn.wrapping_add(step) % family.len()])
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Each address once, in the order of its first mention.
impl FromIterator<IpAddr> for SourcePool {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut known = std::collections::HashSet::new();
        let mut pool = Self::default();
        for address in addresses.into_iter().map(|it| it.to_canonical()) {
            if known.insert(address) {
                let family = if address.is_ipv4() { &mut pool.v4 } else { &mut pool.v6 };
                family.push(address);
            }
        }
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_turn_among_those_of_its_family() {
        let all = ["10.0.0.1", "::1", "10.0.0.2", "10.0.0.1", "::ffff:10.0.0.2", "10.0.0.3"];
        let pool: SourcePool = all.iter().map(|it| it.parse::<IpAddr>().unwrap()).collect();
        let turn = |to: &str, turn: usize| -> Vec<String> {
            pool.turn(to.parse().unwrap(), turn).map(|it| it.to_string()).collect()
        };
        assert_eq!(turn("192.0.2.1:80", 0), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(turn("192.0.2.1:80", 1), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
        assert_eq!(turn("192.0.2.1:80", 3), turn("192.0.2.1:80", 0));
        assert_eq!(turn("192.0.2.1:80", usize::MAX).len(), 3);
        assert_eq!(turn("[2001:db8::1]:80", 7), ["::1"]);
        let none = SourcePool::default();
        assert_eq!(none.turn("192.0.2.1:80".parse().unwrap(), 3).len(), 0);
    }
}
