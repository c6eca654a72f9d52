//! Text with names in braces that are filled in later: `"chat:{room}"`, `"Received: {message}"`.
//!
//! `{{` and `}}` are the braces themselves.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A template, parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` opens a brace that nothing closes; write {{{{ for a brace itself")]
    NotClosed(String),
    #[error("`{0}` closes a brace that nothing opened; write }}}} for a brace itself")]
    NotOpened(String),
    #[error("`{{{0}}}` is not a name; use letters, digits and _")]
    NotName(String),
    #[error("`{{{name}}}` is not known here; known are {known}")]
    Unknown { name: String, known: &'static str },
}

impl Template {
    /// The names in it, in order, with repetitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Appends the text with each name replaced by `value(name)`.
    ///
    /// # Errors
    /// The first name that has no value.
    pub fn expand<'a, 'v>(
        &'a self,
        mut value: impl FnMut(&'a str) -> Option<&'v [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'a str> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Name(name) => out.extend_from_slice(value(name).ok_or(name.as_str())?),
            }
        }
        Ok(())
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push_str(&rest[..1]);
                rest = &rest[2..];
                continue;
            }
            if rest.starts_with('}') {
                return Err(TemplateError::NotOpened(text.to_owned()));
            }
            let end = rest.find('}').ok_or_else(|| TemplateError::NotClosed(text.to_owned()))?;
            let name = &rest[1..end];
            if !is_name(name) {
                return Err(TemplateError::NotName(name.to_owned()));
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Name(name.to_owned()));
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Text with names in braces." })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let template: Template = text.parse().unwrap();
        let mut out = Vec::new();
        let value = |name| match name {
            "message" => Some(&b"hi"[..]),
            "node" => Some(&b"server1"[..]),
            _ => None,
        };
        template.expand(value, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?}");
    }

    fn check_wrong(text: &str, expected: TemplateError) {
        assert_eq!(text.parse::<Template>(), Err(expected));
    }

    #[test]
    fn names_are_replaced_and_the_rest_stays() {
        check("Received: {message}", "Received: hi");
        check("{node}{message}", "server1hi");
        check("{{{message}}} {{node}}", "{hi} {node}");
        check("plain ü", "plain ü");
        check("", "");
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        let template: Template = "{message}".parse().unwrap();
        let mut out = Vec::new();
        template.expand(|_| Some(b"{message}"), &mut out).unwrap();
        assert_eq!(out, b"{message}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check_wrong("{message", TemplateError::NotClosed("{message".into()));
        check_wrong("message}", TemplateError::NotOpened("message}".into()));
        check_wrong("{}", TemplateError::NotName(String::new()));
        check_wrong("{a b}", TemplateError::NotName("a b".into()));
        let template: Template = "{other}".parse().unwrap();
        assert_eq!(template.expand(|_| None, &mut Vec::new()), Err("other"));
    }

    #[test]
    fn a_template_prints_as_it_was_written() {
        let text = "{{x}} {message}";
        assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
    }
}
