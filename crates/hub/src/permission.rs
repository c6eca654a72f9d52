//! Which topics a client may subscribe to and publish to: patterns of a route, with claims in them.
//!
//! ```text
//!   "public"          the topic of this name
//!   "chat:*"          every topic that begins so; a `*` is the last character
//!   "chat:{sub}:*"    the same, with the client's own `sub` in it
//!   "team:{teams}"    a claim that is a list: any of its elements
//! ```
//!
//! What a claim holds is taken as it is: a `*` in it is a `*`. A claim that is missing, empty, or
//! neither text nor a whole number matches nothing, nor does one with control characters. Nor does
//! one that has the character which follows its braces: else the client `ann:bob` would be let into
//! the topics of `ann` by `"chat:{sub}:*"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use smallvec::SmallVec;
use tidewire_auth::identity::Identity;

use crate::topic::{TOPIC_BYTES_MAX, Topic};

/// A pattern of topics.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: String,
    parts: Vec<Part>,
    /// Whether anything may follow.
    is_open: bool,
}

/// Why a text is not a pattern of topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicPatternError {
    #[error("a pattern has at least one character; \"*\" is every topic")]
    Empty,
    #[error("`{0}` opens a brace that nothing closes; write {{{{ for a brace itself")]
    NotClosed(String),
    #[error("`{0}` closes a brace that nothing opened; write }}}} for a brace itself")]
    NotOpened(String),
    #[error("`{{{0}}}` is not the name of a claim")]
    NotClaim(String),
    #[error(
        "`{0}` has a `*` before its end; it stands for the rest of a topic, such as \"chat:*\""
    )]
    Wildcard(String),
    #[error("control character {0:?} in a pattern; no topic has one")]
    Control(char),
    #[error("`{0}` has claims that follow each other; put a character such as : between them")]
    Adjacent(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Claim(String),
}

/// Whether `topic` is one of `patterns` for a client.
pub fn allows(patterns: &[TopicPattern], topic: &Topic, identity: Option<&Identity>) -> bool {
    patterns.iter().any(|pattern| pattern.matches(topic.as_str(), identity))
}

impl TopicPattern {
    /// The names of the claims in it.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Claim(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    fn matches(&self, topic: &str, identity: Option<&Identity>) -> bool {
        // The places up to which the parts so far may have matched: a claim that is a list may
        // lead to several. At most one for each byte of the topic, whatever the claims hold.
        let mut places: SmallVec<[usize; 4]> = SmallVec::from_slice(&[0]);
        for (index, part) in self.parts.iter().enumerate() {
            let mut next: SmallVec<[usize; 4]> = SmallVec::new();
            let mut reach = |text: &str| {
                for &place in &places {
                    let end = place + text.len();
                    if topic[place..].starts_with(text) && !next.contains(&end) {
                        next.push(end);
                    }
                }
            };
            match part {
                Part::Literal(text) => reach(text),
                Part::Claim(name) => {
                    let claim = identity.and_then(|identity| identity.claim(name));
                    let stop = self.stop_after(index);
                    for_each_value(claim, |value| {
                        if can_stand(value, stop) {
                            reach(value);
                        }
                    });
                }
            }
            places = next;
        }
        places.iter().any(|&place| self.is_open || place == topic.len())
    }

    /// The character that ends the claim which is the part of this index.
    fn stop_after(&self, index: usize) -> Option<char> {
        match self.parts.get(index + 1)? {
            Part::Literal(text) => text.chars().next(),
            Part::Claim(_) => None,
        }
    }

    fn push(&mut self, literal: &mut String) {
        if !literal.is_empty() {
            self.parts.push(Part::Literal(std::mem::take(literal)));
        }
    }
}

/// Shows `see` each text that a claim may stand for.
fn for_each_value(claim: Option<&Value>, mut see: impl FnMut(&str)) {
    let mut see_one = |value: &Value| match value {
        Value::String(text) => see(text),
        Value::Number(number) if !number.is_f64() => see(&number.to_string()),
        _ => {}
    };
    match claim {
        Some(Value::Array(values)) => values.iter().for_each(see_one),
        Some(value) => see_one(value),
        None => {}
    }
}

fn can_stand(value: &str, stop: Option<char>) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&value.len())
        && !value.contains(|it: char| it.is_control() || Some(it) == stop)
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(text: &str) -> Result<Self, TopicPatternError> {
        if let Some(control) = text.chars().find(|it| it.is_control()) {
            return Err(TopicPatternError::Control(control));
        }
        let mut pattern = Self { text: text.to_owned(), parts: Vec::new(), is_open: false };
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '*']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push_str(&rest[..1]);
                rest = &rest[2..];
            } else if rest == "*" {
                pattern.is_open = true;
                rest = "";
            } else if rest.starts_with('*') {
                return Err(TopicPatternError::Wildcard(text.to_owned()));
            } else if rest.starts_with('}') {
                return Err(TopicPatternError::NotOpened(text.to_owned()));
            } else {
                let end = rest.find('}');
                let end = end.ok_or_else(|| TopicPatternError::NotClosed(text.to_owned()))?;
                let name = &rest[1..end];
                if name.is_empty() || name.contains(['{', '*']) {
                    return Err(TopicPatternError::NotClaim(name.to_owned()));
                }
                pattern.push(&mut literal);
                // `{a}{b}` could be cut anywhere, so that one claim could stand for the other.
                if let Some(Part::Claim(_)) = pattern.parts.last() {
                    return Err(TopicPatternError::Adjacent(text.to_owned()));
                }
                pattern.parts.push(Part::Claim(name.to_owned()));
                rest = &rest[end + 1..];
            }
        }
        literal.push_str(rest);
        pattern.push(&mut literal);
        match pattern.parts.is_empty() && !pattern.is_open {
            true => Err(TopicPatternError::Empty),
            false => Ok(pattern),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Serialize for TopicPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for TopicPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for TopicPattern {
    fn schema_name() -> Cow<'static, str> {
        "TopicPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Topics: literal text, claims in braces, a final * for the rest.",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewire_auth::identity::Credential;

    use super::*;

    fn identity(claims: &Value) -> Identity {
        let credential = Credential {
            auth: "users".into(),
            subject: None,
            token_id: None,
            issued: None,
            expires: None,
        };
        Identity::new(credential, claims.as_object().unwrap().clone())
    }

    fn check(pattern: &str, claims: &Value, topic: &str, expected: bool) {
        let pattern: TopicPattern = pattern.parse().unwrap();
        let topic = Topic::new(topic).unwrap();
        let found = allows(std::slice::from_ref(&pattern), &topic, Some(&identity(claims)));
        assert_eq!(found, expected, "{pattern} {claims} {topic}");
    }

    #[test]
    fn literals_and_a_final_wildcard() {
        let none = json!({});
        check("public", &none, "public", true);
        check("public", &none, "publicx", false);
        check("public", &none, "publi", false);
        check("chat:*", &none, "chat:7", true);
        check("chat:*", &none, "chat:", true);
        check("chat:*", &none, "chat", false);
        check("*", &none, "anything", true);
        check("{{x}}", &none, "{x}", true);
    }

    #[test]
    fn a_claim_stands_for_what_it_holds() {
        let ann = json!({ "sub": "ann", "org": { "id": 7 }, "teams": ["red", "blue"] });
        check("chat:{sub}:*", &ann, "chat:ann:1", true);
        check("chat:{sub}:*", &ann, "chat:anna:1", false);
        check("chat:{sub}:*", &ann, "chat:bob:1", false);
        check("chat:{sub}", &ann, "chat:ann", true);
        check("org:{org.id}", &ann, "org:7", true);
        check("team:{teams}:*", &ann, "team:blue:x", true);
        check("team:{teams}:*", &ann, "team:green:x", false);
        check("{teams}:{teams}", &ann, "red:blue", true);
        check("{teams}:{teams}", &ann, "red:green", false);
    }

    #[test]
    fn what_a_claim_holds_is_no_pattern() {
        for value in ["*", "ann*", "{sub}", "{{"] {
            check("chat:{sub}", &json!({ "sub": value }), "chat:ann", false);
            check("chat:{sub}", &json!({ "sub": value }), &format!("chat:{value}"), true);
        }
        // Whoever may choose a name must not get into somebody else's topics by it.
        check("chat:{sub}:*", &json!({ "sub": "ann:bob" }), "chat:ann:bob:1", false);
        check("chat:{sub}:*", &json!({ "sub": "" }), "chat::1", false);
    }

    #[test]
    fn what_is_no_text_matches_nothing() {
        for value in [json!(null), json!(true), json!(1.5), json!({}), json!([]), json!([["a"]])] {
            for topic in ["chat:", "chat:a", "chat:true", "chat:1.5", "chat:null"] {
                check("chat:{sub}", &json!({ "sub": value }), topic, false);
            }
        }
        check("chat:{sub}", &json!({}), "chat:", false);
        check("chat:{sub}", &json!({ "sub": "a\u{85}" }), "chat:a", false);
        let pattern: TopicPattern = "chat:{sub}".parse().unwrap();
        assert!(!allows(&[pattern], &Topic::new("chat:a").unwrap(), None));
    }

    #[test]
    fn a_list_of_many_elements_takes_no_longer_than_it_is() {
        let many: Vec<String> = (1..=200).map(|length| "a".repeat(length)).collect();
        let pattern = ["{x}a"; 20].join("");
        let claims = json!({ "x": many });
        // Each would be a way to go on, and each way one for the next.
        check(&pattern.replace("}a", "}b"), &claims, &"a".repeat(255), false);
        let pattern = (0..20).map(|_| "{x}:").collect::<String>();
        check(&pattern, &claims, &"a:".repeat(20), true);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected| assert_eq!(text.parse::<TopicPattern>(), Err(expected));
        check("", TopicPatternError::Empty);
        check("{sub", TopicPatternError::NotClosed("{sub".into()));
        check("sub}", TopicPatternError::NotOpened("sub}".into()));
        check("{}", TopicPatternError::NotClaim(String::new()));
        check("a*b", TopicPatternError::Wildcard("a*b".into()));
        check("**", TopicPatternError::Wildcard("**".into()));
        check("a\n", TopicPatternError::Control('\n'));
        check("{a}{b}", TopicPatternError::Adjacent("{a}{b}".into()));
    }
}
