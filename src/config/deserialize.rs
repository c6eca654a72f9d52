//! The serde deserializer over the tree. Its errors say which value is wrong by the way to it, and
//! what is wrong as a value of [`Fault`], not as a sentence.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

use super::tree::{Entry, Node, State, Step, Value};

/// The first value that a type refuses.
#[derive(Debug)]
pub struct Refusal {
    pub fault: Fault,
    /// The way to it, from the innermost step outwards while it is on its way.
    path: Vec<Step>,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The key at the end of the path is not one of its table.
    UnknownKey,
    /// The table at the end of the path lacks a key that it must have.
    MissingKey(&'static str),
    /// The key is there twice, under two of its names.
    TwiceKey(&'static str),
    /// Another kind of value is needed; what serde calls the kind.
    WrongKind { expected: String },
    /// The kind is right, the value is out of its bounds.
    OutOfBounds { expected: String },
    /// The string is none of those that may be here.
    UnknownValue { value: String },
    /// What the type itself says.
    Other(String),
}

impl Refusal {
    /// The way from the root to the value.
    pub fn path(&self) -> Vec<Step> {
        self.path.iter().rev().cloned().collect()
    }

    fn new(fault: Fault) -> Self {
        Self { fault, path: Vec::new() }
    }

    fn under(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

/// Reads a value of the tree as a `T`, passing over what has been refused.
pub fn deserialize<'de, T: Deserialize<'de>>(tree: &'de Node) -> Result<T, Refusal> {
    T::deserialize(tree)
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(integer) => match (i64::try_from(*integer), u64::try_from(*integer)) {
                (Ok(integer), _) => visitor.visit_i64(integer),
                (_, Ok(integer)) => visitor.visit_u64(integer),
                _ => visitor.visit_i128(*integer),
            },
            Value::Huge => Err(de::Error::invalid_value(Unexpected::Other("integer"), &visitor)),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Datetime => Err(de::Error::invalid_type(Unexpected::Other("date"), &visitor)),
            Value::List(elements) => {
                visitor.visit_seq(Elements { left: elements.iter(), index: 0 })
            }
            Value::Table(entries) => {
                visitor.visit_map(Entries { left: entries.iter(), value: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.value {
            Value::String(text) => {
                let variant: StrDeserializer<'_, Refusal> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            // There are no values with parts that are chosen among: a table would be one.
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.value {
            // serde would take it for the fields in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Elements<'de> {
    left: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        for element in self.left.by_ref() {
            let step = Step::Index(self.index);
            self.index += 1;
            if element.state != State::Refused {
                return seed.deserialize(element).map(Some).map_err(|refusal| refusal.under(step));
            }
        }
        Ok(None)
    }
}

struct Entries<'de> {
    left: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        self.value = self.left.find(|entry| entry.node.state != State::Refused);
        let Some(entry) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Refusal> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|refusal| refusal.under(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let entry = self.value.take().expect("serde asks for a value after its key");
        let step = || Step::Key(entry.key.clone());
        seed.deserialize(&entry.node).map_err(|refusal| refusal.under(step()))
    }
}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Fault::WrongKind { expected: expected.to_string() })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Fault::OutOfBounds { expected: expected.to_string() })
    }

    fn unknown_variant(variant: &str, _: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownValue { value: variant.to_owned() })
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownKey)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Fault::MissingKey(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Fault::TwiceKey(field))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl std::error::Error for Refusal {}
