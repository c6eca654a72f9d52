//! Headers that say to servers who the client is. Clients do not get to say it themselves.

use http::header::{HeaderMap, HeaderName};

use super::authority::Authority;

/// The names of all identity headers of a node, in each spelling that is a header of its own.
///
/// Those with other characters than letters, digits and `-` have been removed already, whatever
/// they stand for ([`tidewire_wire::http::hop::is_aliased`]); but when the configuration itself
/// says `X_User`, then `X-User` is the alias.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeaders(Vec<HeaderName>);

impl IdentityHeaders {
    pub fn of(authorities: &[Authority]) -> Self {
        let mut names: Vec<HeaderName> = Vec::new();
        for name in authorities.iter().flat_map(Authority::identity_headers) {
            let plain = name.as_str().replace(['_', '.'], "-");
            let plain = HeaderName::from_bytes(plain.as_bytes()).unwrap_or_else(|_| name.clone());
            for name in [name.clone(), plain] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Self(names)
    }

    /// Removes what the client says under these names. Aliases with other characters are gone.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        for name in &self.0 {
            headers.remove(name);
        }
    }
}

/// Adds what a further authority says of a client; what has been said before stays.
pub fn merge(granted: &mut HeaderMap, more: &HeaderMap) {
    for name in more.keys() {
        if !granted.contains_key(name) {
            granted.extend(more.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let mut headers = HeaderMap::new();
        headers.extend(pairs.iter().map(pair));
        headers
    }

    #[test]
    fn what_was_said_first_stays_whole() {
        let mut granted = headers(&[("x-user", "a")]);
        merge(&mut granted, &headers(&[("x-user", "b"), ("x-group", "c"), ("x-group", "d")]));
        assert_eq!(granted, headers(&[("x-user", "a"), ("x-group", "c"), ("x-group", "d")]));
    }
}
