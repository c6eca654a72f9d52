//! Values of headers that are made of claims: `"{sub}"`, `"team-{team}"`.
//!
//! `{{` and `}}` are the braces themselves. What a claim says can be anything, so its text is
//! written in a way in which it cannot be taken for something else: whatever a header does not
//! carry as it is (control characters, what is not ASCII, a space at an end), the `%` itself, and
//! in lists the comma are percent-encoded. `decodeURIComponent` and its like give them back.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::header::HeaderValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::identity::Identity;

/// A template, parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Claim(String),
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimTemplateError {
    #[error("`{0}` opens a brace that nothing closes; write {{{{ for a brace itself")]
    NotClosed(String),
    #[error("`{0}` closes a brace that nothing opened; write }}}} for a brace itself")]
    NotOpened(String),
    #[error("`{0}` has braces without a name; write the name of a claim, such as {{sub}}")]
    NoName(String),
    #[error("`{0}` has characters that no header carries; use printable ASCII")]
    NotValue(String),
}

impl ClaimTemplate {
    /// The value for a client; `None` when it lacks one of the claims.
    pub fn value(&self, identity: &Identity) -> Option<HeaderValue> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Claim(name) => match identity.claim(name) {
                    Some(claim) => write(claim, &mut out)?,
                    None if name == "sub" => encode(identity.subject()?, false, &mut out),
                    None => return None,
                },
            }
        }
        HeaderValue::from_bytes(&out).ok()
    }

    /// The claims that it needs.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Claim(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }
}

/// A claim as text: a list with commas, an object as JSON. `None` for null.
fn write(claim: &Value, out: &mut Vec<u8>) -> Option<()> {
    let Value::Array(elements) = claim else {
        encode(&text(claim)?, false, out);
        return Some(());
    };
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode(&text(element).unwrap_or_default(), true, out);
    }
    Some(())
}

fn text(claim: &Value) -> Option<Cow<'_, str>> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

fn encode(text: &str, is_element: bool, out: &mut Vec<u8>) {
    let inner = text.trim_matches(' ');
    let start = text.len() - text.trim_start_matches(' ').len();
    let inner = start..start + inner.len();
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = match byte {
            b'%' => false,
            b',' => !is_element,
            b' ' => inner.contains(&at),
            _ => byte.is_ascii_graphic(),
        };
        if is_plain {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

impl FromStr for ClaimTemplate {
    type Err = ClaimTemplateError;

    fn from_str(text: &str) -> Result<Self, ClaimTemplateError> {
        use ClaimTemplateError::{NoName, NotClosed, NotOpened, NotValue};
        if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(NotValue(text.to_owned()));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(NotOpened(text.to_owned()));
            }
            let (name, after) = rest.split_once('}').ok_or_else(|| NotClosed(text.to_owned()))?;
            if name.trim().is_empty() || name.contains('{') {
                return Err(NoName(text.to_owned()));
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Claim(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for ClaimTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ClaimTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Serialize for ClaimTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ClaimTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ClaimTemplate {
    fn schema_name() -> Cow<'static, str> {
        "ClaimTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The value of a header, with names of claims in braces."
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::Credential;

    fn check(template: &str, expected: Option<&str>) {
        let claims = json!({
            "team": "blue", "roles": ["a", "b,c", 3, null], "age": 7, "is_admin": true,
            "null": null, "name": "J\u{fc}rg\r\nX-Role: admin", "rate": "50%", "pad": " a b ",
            "nested": { "x": [1, 2] }, "comma": "a,b", "empty": "", "none": [],
        });
        let credential = Credential {
            auth: "users".into(),
            subject: Some("ann".into()),
            token_id: None,
            issued: None,
            expires: None,
        };
        let identity = Identity::new(credential, claims.as_object().unwrap().clone());
        let template: ClaimTemplate = template.parse().unwrap();
        let value = template.value(&identity);
        assert_eq!(value.as_ref().map(|it| it.to_str().unwrap()), expected, "{template}");
    }

    #[test]
    fn a_value_is_made_of_claims() {
        check("{sub}", Some("ann"));
        check("{team}-{age}-{is_admin}", Some("blue-7-true"));
        check("{{{team}}}", Some("{blue}"));
        check("{nested.x}", Some("1,2"));
        check("fixed", Some("fixed"));
        check("{empty}{none}", Some(""));
    }

    #[test]
    fn without_a_claim_there_is_no_value() {
        check("x{missing}", None);
        check("x{null}", None);
    }

    #[test]
    fn what_a_claim_says_cannot_be_taken_for_something_else() {
        check("{name}", Some("J%C3%BCrg%0D%0AX-Role: admin"));
        check("{rate}", Some("50%25"));
        check("{pad}", Some("%20a b%20"));
        check("{comma}", Some("a,b"));
        check("{roles}", Some("a,b%2Cc,3,"));
        check("{nested}", Some(r#"{"x":[1,2]}"#));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["{", "}", "{a", "a}", "{}", "{ }", "{a{b}}", "a\nb", "\u{fc}"] {
            assert!(text.parse::<ClaimTemplate>().is_err(), "{text:?}");
        }
    }
}
