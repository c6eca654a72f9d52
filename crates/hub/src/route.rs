//! What a route says about its topic: the name, the reply, and who gets it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::allowance::ClientLimits;
use crate::permission::TopicPattern;
use crate::template::{Template, TemplateError};
use crate::topic::{Topic, TopicError};

/// A route that ends in the hub: `hub = { topic = "{topic}", reply = "Received: {message}" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicRoute {
    /// The topic of a client, with the captures of the route's path in braces: `"{topic}"` or
    /// `"chat:{room}"`. What a client sends is published there, and it gets all that is published
    /// there, on whatever node.
    pub topic: Template,
    /// What subscribers get for a text message, such as `"Received: {message}"`. `{node}` is the
    /// server that the sender is connected to, `{topic}` the topic. Without it they get the message
    /// as it was sent. Binary messages are never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Whether a sender gets its own message too.
    #[serde(default = "yes")]
    pub to_sender: bool,
    /// The topics that a client may subscribe to: `"public"`, `"chat:*"`, or `"chat:{sub}:*"` with
    /// claims of its identity in braces. One whose topic is none of these is answered 403. Without
    /// it, every topic of the route may be subscribed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<TopicPattern>>,
    /// The topics that a client may publish to, in the same way. What it says on another one is
    /// dropped, and it is told. `[]` lets nobody say anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<TopicPattern>>,
}

/// A route as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRoute {
    pub config: TopicRoute,
    pub limits: ClientLimits,
}

impl From<TopicRoute> for HubRoute {
    /// Without limits of its own.
    fn from(config: TopicRoute) -> Self {
        Self { config, limits: ClientLimits::NONE }
    }
}

impl TopicRoute {
    /// The topic of a client whose path gave these captures.
    pub fn topic<'v>(
        &self,
        capture: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Topic, TopicError> {
        let mut name = Vec::new();
        self.topic
            .expand(|name| capture(name).map(str::as_bytes), &mut name)
            .map_err(|missing| TopicError::Missing(missing.to_owned()))?;
        let name = String::from_utf8(name).expect("a template of text, filled with text, is text");
        Topic::new(&name)
    }
}

impl TopicRoute {
    /// The claims that `subscribe` and `publish` name.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let patterns = self.subscribe.iter().chain(&self.publish).flatten();
        patterns.flat_map(TopicPattern::claims)
    }
}

fn yes() -> bool {
    true
}

/// The template of a reply.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply(Template);

impl Reply {
    /// What subscribers get for `message`.
    pub fn expand(&self, message: &[u8], node: &str, topic: &Topic) -> Bytes {
        let mut reply = Vec::with_capacity(message.len() + 64);
        let value = |name| match name {
            "message" => Some(message),
            "node" => Some(node.as_bytes()),
            "topic" => Some(topic.as_str().as_bytes()),
            _ => None,
        };
        self.0.expand(value, &mut reply).expect("the names were checked when it was parsed");
        Bytes::from(reply)
    }
}

impl FromStr for Reply {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let template: Template = text.parse()?;
        let is_known = |name: &&str| matches!(*name, "message" | "node" | "topic");
        if let Some(name) = template.names().find(|name| !is_known(name)) {
            let (name, known) = (name.to_owned(), "{message}, {node} and {topic}");
            return Err(TemplateError::Unknown { name, known });
        }
        Ok(Self(template))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Reply {
    fn schema_name() -> Cow<'static, str> {
        Template::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Template::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> TopicRoute {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_topic_is_made_of_the_captures() {
        let route = route(r#"topic = "chat:{room}""#);
        let room = |value| move |name: &str| (name == "room").then_some(value);
        assert_eq!(route.topic(room("7")).unwrap().as_str(), "chat:7");
        assert_eq!(route.topic(room("\n")), Err(TopicError::Control('\n')));
        assert_eq!(route.topic(|_| None), Err(TopicError::Missing("room".into())));
        assert!(route.to_sender && route.reply.is_none());
    }

    #[test]
    fn a_reply_wraps_the_message() {
        let reply: Reply = "{node} on {topic}: {message}".parse().unwrap();
        let topic = Topic::new("echo").unwrap();
        assert_eq!(reply.expand(b"hi {node}", "server1", &topic), "server1 on echo: hi {node}");
    }

    #[test]
    fn a_reply_knows_its_names() {
        let error = toml::from_str::<TopicRoute>("topic = 'x'\nreply = '{mesage}'").unwrap_err();
        assert!(error.message().contains("`{mesage}` is not known here; known are {message}"));
        assert!(toml::from_str::<TopicRoute>("topic = 'x'\nrepply = ''").is_err());
    }
}
