//! Many networks, and whether an address is in one of them.

use std::net::IpAddr;

use crate::network::{Network, NetworkError, Range};

/// Networks as ranges that neither touch nor overlap, in their order: an address is found in as
/// many steps as their number has bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// A line of a file that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    pub line: usize,
    pub error: NetworkError,
}

impl NetworkSet {
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_in(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_in(&self.v6, address.to_bits()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<Network> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut set = Self::default();
        for network in networks {
            match network.range() {
                Range::V4(first, last) => set.v4.push((first, last)),
                Range::V6(first, last) => set.v6.push((first, last)),
            }
        }
        join(&mut set.v4, |last, first| last.checked_add(1).is_none_or(|next| first <= next));
        join(&mut set.v6, |last, first| last.checked_add(1).is_none_or(|next| first <= next));
        set
    }
}

/// The networks of a file: one a line, `#` begins a comment. What is wrong with the first few lines
/// that are.
pub fn read(text: &str) -> Result<Vec<Network>, Vec<LineError>> {
    let mut networks = Vec::new();
    let mut errors = Vec::new();
    // An editor of Windows marks the beginning.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        match entry.parse() {
            _ if entry.is_empty() => {}
            Ok(network) => networks.push(network),
            Err(error) => {
                errors.push(LineError { line: index + 1, error });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
    }
    if errors.is_empty() { Ok(networks) } else { Err(errors) }
}

fn is_in<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

fn join<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, touches: impl Fn(T, T) -> bool) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = touches(kept.1, next.0);
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
    ranges.shrink_to_fit();
}

/// A file of something else is wrong in every line.
const ERRORS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> NetworkSet {
        networks.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn check(set: &NetworkSet, address: &str, expected: bool) {
        assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn an_address_is_in_one_of_them_or_is_not() {
        let some = set(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "255.255.255.255"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.1.1"] {
            check(&some, inside, true);
        }
        for inside in ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "255.255.255.255"] {
            check(&some, inside, true);
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::"] {
            check(&some, outside, false);
        }
    }

    #[test]
    fn all_of_one_kind_is_nothing_of_the_other() {
        check(&set(&["::/0"]), "192.0.2.1", false);
        check(&set(&["::/0"]), "::1", true);
        check(&set(&["0.0.0.0/0"]), "::1", false);
        check(&set(&["0.0.0.0/0"]), "255.255.255.255", true);
        check(&set(&[]), "192.0.2.1", false);
    }

    #[test]
    fn networks_that_touch_or_overlap_are_one() {
        let joined = set(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7", "10.0.2.0/23"]);
        assert_eq!(joined.v4, [(0x0a00_0000, 0x0a00_03ff)]);
        assert_eq!(set(&["0.0.0.0/0", "10.0.0.1"]), set(&["0.0.0.0/0"]));
        let joined =
            set(&["2001:db8:0:1::/64", "2001:db8::/64", "2001:db8::7", "2001:db8:0:3::/64"]);
        let start = 0x2001_0db8 << 96;
        let found = [(start, start + (2 << 64) - 1), (start + (3 << 64), start + (4 << 64) - 1)];
        assert_eq!(joined.v6, found);
        assert_eq!(set(&["::/0", "ffff::1"]), set(&["::/0"]));
    }

    #[test]
    fn a_set_says_the_same_as_each_network_for_itself() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let networks: Vec<Network> = (0..random.usize(0..20))
                .map(|_| {
                    let bits = random.u32(20..=32);
                    let address = u64::from(random.u32(..1 << 16)) << (32 - bits);
                    let address = std::net::Ipv4Addr::from_bits(address as u32);
                    format!("{address}/{bits}").parse().unwrap()
                })
                .collect();
            let set: NetworkSet = networks.iter().copied().collect();
            for _ in 0..200 {
                let address = random.u32(..1 << 20);
                let expected = networks.iter().any(|network| match network.range() {
                    Range::V4(first, last) => (first..=last).contains(&address),
                    Range::V6(..) => false,
                });
                let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(address));
                assert_eq!(set.contains(address), expected, "{address}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_file_has_one_a_line_and_each_wrong_line_is_named() {
        let read = |text: &str| {
            let said = |errors: Vec<LineError>| {
                errors.iter().map(|error| error.line.to_string()).collect::<Vec<_>>().join(" ")
            };
            read(text).map(|networks| networks.len()).map_err(said)
        };
        assert_eq!(read("\u{feff}# all\r\n10.0.0.0/8 # ours\r\n\r\n  ::1\n"), Ok(2));
        assert_eq!(read("10.0.0.1/8\n::1\nfoo\n"), Err("1 3".to_owned()));
        assert_eq!(read(""), Ok(0));
    }
}
