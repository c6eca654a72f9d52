//! The names of one certificate.

use std::fmt;

use sha2::{Digest, Sha256};

/// Names that one certificate is for: in lower case, sorted, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Names(Vec<String>);

impl Names {
    /// `None` without a name.
    pub fn new(names: &[String]) -> Option<Self> {
        let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        (!names.is_empty()).then_some(Self(names))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The name of their directory: the first one, for whoever looks there, and a hash of all.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.0[0], short_hash(&self.to_string()))
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Enough to tell apart what one operator has.
pub fn short_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        Names::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_same_names_share_a_directory_in_any_order() {
        let directory = names(&["a.test", "B.test"]).directory_name();
        assert!(directory.starts_with("a.test-"), "{directory}");
        assert_eq!(directory, names(&["b.test", "A.test", "b.test"]).directory_name());
        assert_ne!(directory, names(&["a.test"]).directory_name());
    }

    #[test]
    fn no_names_are_no_names() {
        assert_eq!(Names::new(&[]), None);
    }
}
