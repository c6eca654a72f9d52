//! Addresses of this machine to connect from, as they are written: `10.0.0.5`,
//! `10.0.0.5-10.0.0.9`, `10.0.0.0/28`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::network::{Network, NetworkError, Range};
use crate::written::written_as_text;

/// All addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange(Range);

/// What is wrong with written addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("`{0}` is no range; write such as \"10.0.0.5-10.0.0.9\"")]
    NotRange(String),
    #[error("`{0}` ends before it begins; write \"{2}-{1}\"")]
    Backwards(String, IpAddr, IpAddr),
    #[error("`{0}` is nobody's address; write one of this machine's, such as \"10.0.0.5\"")]
    Unspecified(String),
}

impl SourceRange {
    pub fn is_ipv4(&self) -> bool {
        matches!(self.0, Range::V4(..))
    }

    /// How many addresses it has.
    pub fn count(&self) -> u128 {
        match self.0 {
            Range::V4(first, last) => u128::from(last - first) + 1,
            Range::V6(first, last) => (last - first).saturating_add(1),
        }
    }

    pub fn addresses(&self) -> Box<dyn Iterator<Item = IpAddr>> {
        match self.0 {
            Range::V4(first, last) => Box::new((first..=last).map(|bits| IpAddr::V4(bits.into()))),
            Range::V6(first, last) => Box::new((first..=last).map(|bits| IpAddr::V6(bits.into()))),
        }
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        match self.0 {
            Range::V4(first, last) => (IpAddr::V4(first.into()), IpAddr::V4(last.into())),
            Range::V6(first, last) => (IpAddr::V6(first.into()), IpAddr::V6(last.into())),
        }
    }
}

impl FromStr for SourceRange {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let range = match text.split_once('-') {
            None => text.parse::<Network>()?.range(),
            Some((first, last)) => {
                let address =
                    |text: &str| text.trim().parse::<IpAddr>().map(|it| it.to_canonical());
                let ends = (address(first), address(last));
                let (Ok(first), Ok(last)) = ends else {
                    return Err(SourceError::NotRange(text.to_owned()));
                };
                if last < first && first.is_ipv4() == last.is_ipv4() {
                    return Err(SourceError::Backwards(text.to_owned(), first, last));
                }
                match (first, last) {
                    (IpAddr::V4(first), IpAddr::V4(last)) => {
                        Range::V4(first.to_bits(), last.to_bits())
                    }
                    (IpAddr::V6(first), IpAddr::V6(last)) => {
                        Range::V6(first.to_bits(), last.to_bits())
                    }
                    _ => return Err(SourceError::NotRange(text.to_owned())),
                }
            }
        };
        let range = Self(range);
        // To bind to it is to leave the choice to the kernel.
        if range.ends().0.is_unspecified() {
            return Err(SourceError::Unspecified(text.to_owned()));
        }
        Ok(range)
    }
}

impl fmt::Display for SourceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends() {
            (first, last) if first == last => first.fmt(f),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

written_as_text!(
    SourceRange,
    pattern = "^[0-9a-fA-F.:]+(/[0-9]+| *- *[0-9a-fA-F.:]+)?$",
    "An address, such as 10.0.0.5, or several, such as 10.0.0.5-10.0.0.9 or 10.0.0.16/28."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let parsed = text.parse::<SourceRange>();
        let said = parsed
            .map_or_else(|error| error.to_string(), |range| format!("{range}: {}", range.count()));
        assert!(said.contains(expected), "{text}: {said}");
    }

    #[test]
    fn addresses_are_written_in_three_ways() {
        check("10.0.0.5", "10.0.0.5: 1");
        check("127.0.0.2-127.0.0.9", "127.0.0.2-127.0.0.9: 8");
        check("10.0.0.5 - 10.0.0.6", "10.0.0.5-10.0.0.6: 2");
        check("10.1.0.0/28", "10.1.0.0-10.1.0.15: 16");
        check("::ffff:10.0.0.5", "10.0.0.5: 1");
        check("2001:db8::5-2001:db8::6", "2001:db8::5-2001:db8::6: 2");
        check("2001:db8::/32", ": 79228162514264337593543950336");
        let range: SourceRange = "10.0.0.255-10.0.1.1".parse().unwrap();
        let shown: Vec<_> = range.addresses().map(|it| it.to_string()).collect();
        assert_eq!(shown, ["10.0.0.255", "10.0.1.0", "10.0.1.1"]);
    }

    #[test]
    fn what_is_none_is_told_apart() {
        check("10.0.0.9-10.0.0.5", "ends before it begins; write \"10.0.0.5-10.0.0.9\"");
        check("10.0.0.9-::1", "is no range");
        check("10.0.0.5-9", "is no range");
        check("0.0.0.0", "is nobody's address");
        check("::", "is nobody's address");
        check("10.0.0.5:80", "has a port");
        check("eth0", "is a name");
        check("", "is not an address");
    }
}
