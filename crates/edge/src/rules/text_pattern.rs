//! What the value of a header, a cookie or a parameter must be: `beta`, `beta*`, `*beta`, `*beta*`,
//! or `*` for any.

use crate::written::written_as_text;
use std::fmt;
use std::str::FromStr;

/// A pattern for a value. Case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern {
    written: Box<str>,
    /// What is left without the stars that stand for something.
    text: Box<str>,
    begin: Edge,
    end: Edge,
}

/// What may be on one side of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Nothing,
    Anything,
}

/// What is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextPatternError {
    #[error(
        "`{0}` has a `*` inside; write it at the beginning or the end, or `\\*` for a star itself"
    )]
    StarInside(String),
    #[error("`{0}` is two stars; write \"*\" for any value")]
    Stars(String),
}

impl TextPattern {
    pub fn matches(&self, value: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match (self.begin, self.end) {
            (Edge::Nothing, Edge::Nothing) => value == text,
            (Edge::Nothing, Edge::Anything) => value.starts_with(text),
            (Edge::Anything, Edge::Nothing) => value.ends_with(text),
            (Edge::Anything, Edge::Anything) => {
                text.is_empty() || value.windows(text.len()).any(|part| part == text)
            }
        }
    }

    /// Whether it matches all that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        let is_wide_enough = |this, that| this == Edge::Anything || that == Edge::Nothing;
        is_wide_enough(self.begin, other.begin)
            && is_wide_enough(self.end, other.end)
            && self.matches(other.text.as_bytes())
    }

    /// What it has besides stars.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for TextPattern {
    type Err = TextPatternError;

    fn from_str(written: &str) -> Result<Self, TextPatternError> {
        let any = |text: &str, begin, end| {
            let text = text.replace(r"\*", "*").into();
            Ok(Self { written: written.into(), text, begin, end })
        };
        match written {
            "*" => return any("", Edge::Anything, Edge::Anything),
            "**" => return Err(TextPatternError::Stars(written.to_owned())),
            _ => {}
        }
        let (rest, begin) = match written.strip_prefix('*') {
            Some(rest) => (rest, Edge::Anything),
            None => (written, Edge::Nothing),
        };
        let (text, end) = match rest.strip_suffix('*').filter(|rest| !rest.ends_with('\\')) {
            Some(text) => (text, Edge::Anything),
            None => (rest, Edge::Nothing),
        };
        if text.replace(r"\*", "").contains('*') {
            return Err(TextPatternError::StarInside(written.to_owned()));
        }
        any(text, begin, end)
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

written_as_text!(
    TextPattern,
    "A value; a `*` at its beginning or end stands for anything, `\\*` for a star."
);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TextPattern {
        text.parse().unwrap()
    }

    fn check(text: &str, value: &str, expected: bool) {
        assert_eq!(pattern(text).matches(value.as_bytes()), expected, "{text} against {value}");
    }

    #[test]
    fn stars_stand_for_anything_at_the_ends_and_nowhere_else() {
        check("beta", "beta", true);
        check("beta", "Beta", false);
        check("beta", "beta2", false);
        check("beta*", "beta", true);
        check("beta*", "beta2", true);
        check("beta*", "a-beta", false);
        check("*beta", "a-beta", true);
        check("*beta", "beta2", false);
        check("*beta*", "a-beta-b", true);
        check("*beta*", "bet", false);
        check("*", "", true);
        check("*", "x", true);
        check("", "", true);
        check("", "x", false);
        check(r"\*/\*", "*/*", true);
        check(r"\*/\*", "a/b", false);
        check(r"a\**", "a*b", true);
        check(r"a\**", "ab", false);
        for wrong in ["a*b", "**", "a**", "*a*b*"] {
            assert!(wrong.parse::<TextPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_no_more() {
        let check = |wide: &str, narrow: &str, expected: bool| {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} covers {narrow}");
        };
        check("*", "a", true);
        check("*", "*a*", true);
        check("a", "*", false);
        check("a*", "ab", true);
        check("a*", "ab*", true);
        check("a*", "*a", false);
        check("ab*", "a*", false);
        check("*a*", "ba", true);
        check("*a*", "ba*", true);
        check("*a", "ba*", false);
        check("a", "a", true);
    }
}
