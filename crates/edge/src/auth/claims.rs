//! Conditions on claims: `claims = { role = ["admin", "staff"], plan = "pro" }`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tidewire_auth::identity::Identity;

/// A claim that a client must have, with one of these values.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimCondition {
    pub name: String,
    pub any_of: ClaimValues,
}

/// Values, one of which a claim must have, or have among its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimValues(pub Vec<Value>);

impl ClaimCondition {
    pub fn holds(&self, identity: &Identity) -> bool {
        match (identity.claim(&self.name), &*self.name) {
            // RFC 8693, section 4.2: scopes are separated by spaces.
            (Some(Value::String(scopes)), "scope") => {
                scopes.split(' ').any(|scope| self.any_of.has(|wanted| wanted == scope))
            }
            (Some(Value::Array(elements)), _) => {
                elements.iter().any(|element| self.any_of.has(|wanted| wanted == element))
            }
            (Some(value), _) => self.any_of.has(|wanted| wanted == value),
            (None, "sub") => identity
                .subject()
                .is_some_and(|subject| self.any_of.has(|wanted| wanted == subject)),
            (None, _) => false,
        }
    }
}

impl ClaimValues {
    fn has(&self, is_wanted: impl Fn(&Value) -> bool) -> bool {
        self.0.iter().any(is_wanted)
    }
}

impl<'de> Deserialize<'de> for ClaimValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClaimValuesVisitor)
    }
}

struct ClaimValuesVisitor;

impl<'de> Visitor<'de> for ClaimValuesVisitor {
    type Value = ClaimValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer, true or false, or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![text.into()]))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![integer.into()]))
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![integer.into()]))
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<ClaimValues, E> {
        Ok(ClaimValues(vec![boolean.into()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ClaimValues, A::Error> {
        let mut all = Vec::new();
        while let Some(ClaimValues(values)) = list.next_element()? {
            all.extend(values);
        }
        Ok(ClaimValues(all))
    }
}

impl Serialize for ClaimValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for ClaimValues {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({ "type": ["string", "integer", "boolean"] });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewire_auth::identity::Credential;

    use super::*;

    fn check(name: &str, any_of: Value, expected: bool) {
        let claims = json!({
            "role": "staff", "groups": ["a", "b"], "level": 3, "is_admin": true,
            "scope": "read write", "realm": { "roles": ["x"] }, "none": [], "note": "a b",
        });
        let credential = Credential {
            auth: "users".into(),
            subject: Some("ann".into()),
            token_id: None,
            issued: None,
            expires: None,
        };
        let identity = Identity::new(credential, claims.as_object().unwrap().clone());
        let any_of: ClaimValues = serde_json::from_value(any_of).unwrap();
        let condition = ClaimCondition { name: name.to_owned(), any_of };
        assert_eq!(condition.holds(&identity), expected, "{condition:?}");
    }

    #[test]
    fn a_claim_has_one_of_the_values_or_contains_it() {
        check("role", json!("staff"), true);
        check("role", json!(["admin", "staff"]), true);
        check("role", json!("admin"), false);
        check("role", json!("Staff"), false);
        check("role", json!("staf"), false);
        check("groups", json!("b"), true);
        check("groups", json!(["c", "a"]), true);
        check("groups", json!("c"), false);
        check("none", json!("a"), false);
        check("level", json!(3), true);
        check("level", json!("3"), false);
        check("is_admin", json!(true), true);
        check("is_admin", json!(false), false);
        check("realm.roles", json!("x"), true);
        check("sub", json!("ann"), true);
        check("sub", json!("bob"), false);
        check("missing", json!("x"), false);
        check("role", json!([]), false);
    }

    #[test]
    fn scopes_are_a_list_and_other_texts_are_not() {
        check("scope", json!("write"), true);
        check("scope", json!("read write"), false);
        check("scope", json!("wri"), false);
        check("note", json!("a"), false);
    }
}
