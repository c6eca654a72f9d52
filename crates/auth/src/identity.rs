//! Who a client is, once its credentials have been checked.

use serde_json::{Map, Value};

/// Who a client is: at least one credential vouches for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    first: Credential,
    others: Vec<Credential>,
    claims: Map<String, Value>,
}

/// A credential that was right, without what is secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name of the `[[auth]]` that it was checked by.
    pub auth: Box<str>,
    /// Whom it speaks of (`sub`).
    pub subject: Option<Box<str>>,
    /// Its own name, by which it can be revoked (`jti`).
    pub token_id: Option<Box<str>>,
    /// When it was made, in seconds since 1970.
    pub issued: Option<u64>,
    /// When it ends, in seconds since 1970, the leeway included.
    pub expires: Option<u64>,
}

impl Identity {
    pub fn new(credential: Credential, claims: Map<String, Value>) -> Self {
        Self { first: credential, others: Vec::new(), claims }
    }

    /// This client, for whom `other` vouches, too. Claims of this one come before those of
    /// `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.others.push(other.first);
        self.others.extend(other.others);
        for (name, value) in other.claims {
            self.claims.entry(name).or_insert(value);
        }
        self
    }

    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Whom the client's first credential that names somebody speaks of.
    pub fn subject(&self) -> Option<&str> {
        self.credentials().find_map(|credential| credential.subject.as_deref())
    }

    /// When the first of its credentials ends, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.credentials().filter_map(|credential| credential.expires).min()
    }

    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The claim of this name; of `a.b` that there is not, `b` in the object `a`.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        find(&self.claims, name)
    }
}

/// Names of claims may have dots in them (they are often URLs): the longest name wins.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let dots = name.char_indices().rev().filter(|&(_, c)| c == '.');
    dots.map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find_map(|(outer, inner)| find(claims.get(outer)?.as_object()?, inner))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(subject: Option<&str>, expires: Option<u64>, claims: Value) -> Identity {
        let credential = Credential {
            auth: "users".into(),
            subject: subject.map(Into::into),
            token_id: None,
            issued: None,
            expires,
        };
        Identity::new(credential, claims.as_object().unwrap().clone())
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_its_way() {
        let claims = json!({ "a": { "b": 1, "c.d": 2 }, "a.b": 3, "x.y": { "z": 4 } });
        let one = identity(None, None, claims);
        let check = |name, expected: Option<u64>| {
            assert_eq!(one.claim(name).and_then(Value::as_u64), expected, "{name}");
        };
        check("a.b", Some(3));
        check("a.c.d", Some(2));
        check("x.y.z", Some(4));
        check("x.y.z.q", None);
        check("", None);
    }

    #[test]
    fn two_credentials_make_one_identity_that_ends_with_the_first() {
        let both = identity(None, Some(20), json!({ "role": "a" })).and(identity(
            Some("ann"),
            Some(10),
            json!({ "role": "b", "team": "c" }),
        ));
        assert_eq!((both.subject(), both.expires()), (Some("ann"), Some(10)));
        assert_eq!(
            (both.claim("role"), both.claim("team")),
            (Some(&json!("a")), Some(&json!("c")))
        );
    }
}
