//! JSON objects, read strictly: what two readers could understand in two ways is refused.
//!
//! serde_json takes the last of two members with one name; others take the first. A token with
//! `"sub"` twice would be one user here and another at the server behind.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The object that `text` is, all of it. `None` when it is none, has a member twice, a number that
/// nothing can hold, or more than [`DEPTH_MAX`] levels.
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Claims are a few levels deep; who sends more wants to see what happens.
const DEPTH_MAX: usize = 16;

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth < DEPTH_MAX {
            true => Ok(Self { depth: self.depth + 1 }),
            false => Err(E::custom("too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let value = object.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_right: bool) {
        assert_eq!(object(text.as_bytes()).is_some(), is_right, "{text}");
    }

    #[test]
    fn an_object_is_read_as_it_is() {
        let text = r#"{"b":[1,-2,0.5,null,true],"a":{"c":"é\u0000"}}"#;
        let read = object(text.as_bytes()).map(Value::Object);
        assert_eq!(read, serde_json::from_str(text).ok());
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        check("{}", true);
        check(r#" {"a":1} "#, true);
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"a":1,"\u0061":2}"#, false);
        check(r#"{"a":{"b":1,"b":2}}"#, false);
        check(r#"{"a":[{"b":1,"b":2}]}"#, false);
        check(r#"{"a":1}{"a":1}"#, false);
        check(r#"{"a":1}x"#, false);
        check(r#"{"a":1e999}"#, false);
        check(r#"{"a":NaN}"#, false);
        check(r#"{"a":01}"#, false);
        check(r#"{"a":1,}"#, false);
        check(r#"{"a":"\ud800"}"#, false);
        check("{\"a\":\"\n\"}", false);
        check("[]", false);
        check("\"a\"", false);
        check("", false);
        check("\u{feff}{}", false);
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            object(format!("{{\"a\":{open}{close}}}").as_bytes()).is_some()
        };
        assert!(nested(DEPTH_MAX - 1));
        assert!(!nested(DEPTH_MAX));
        assert!(!nested(100_000));
    }
}
