//! The name of a topic: what publishers and subscribers have in common.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A topic's name: 1 to 255 bytes of UTF-8 without control characters. Cheap to clone.
///
/// It becomes part of a channel's name at the broker, of log lines and of notices, so what could
/// break a line or a protocol there is refused here, once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is not the name of a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic has at least one character")]
    Empty,
    #[error("a topic of {0} bytes; at most {TOPIC_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("control character {0:?} in a topic")]
    Control(char),
    #[error("the path has no `{0}` to make a topic of")]
    Missing(String),
}

impl Topic {
    pub fn new(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong(name.len()));
        }
        match name.chars().find(|character| character.is_control()) {
            Some(character) => Err(TopicError::Control(character)),
            None => Ok(Self(name.into())),
        }
    }

    /// The topic on which nodes talk to each other. Its control character keeps clients out.
    pub(crate) fn control() -> Self {
        Self(CONTROL.into())
    }

    pub(crate) fn is_control(name: &str) -> bool {
        name == CONTROL
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(name: &str) -> Result<Self, TopicError> {
        Self::new(name)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

const CONTROL: &str = "\u{1}control";

/// The longest name of a topic.
pub const TOPIC_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<(), TopicError>) {
        assert_eq!(Topic::new(name).map(|_| ()), expected, "{name:?}");
    }

    #[test]
    fn a_topic_is_short_text_without_control_characters() {
        check("chat", Ok(()));
        check("chat:room *[a-z]? {1} ü 🌊", Ok(()));
        check(&"x".repeat(255), Ok(()));
        check("", Err(TopicError::Empty));
        check(&"ü".repeat(128), Err(TopicError::TooLong(256)));
        check("a\r\nSUBSCRIBE b", Err(TopicError::Control('\r')));
        check("a\0", Err(TopicError::Control('\0')));
        check("a\u{85}", Err(TopicError::Control('\u{85}')));
        check(Topic::control().as_str(), Err(TopicError::Control('\u{1}')));
    }
}
