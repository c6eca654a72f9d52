//! What the answer to an http probe must have, besides its status: headers, a text in its body, a
//! body that a regular expression matches.

use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use regex::bytes::{Regex, RegexBuilder};

use super::{CheckConfig, ProbeError};
use crate::written::written_as_text;

/// A regular expression for a body. It matches in a time that grows with the body and no faster,
/// and of bytes: a server need not say UTF-8.
#[derive(Clone, Debug)]
pub struct BodyPattern(Regex);

/// What is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyPatternError {
    #[error("`{0}` is not a regular expression: {1}")]
    NotRegex(String, String),
    #[error("`{0}` is too large a regular expression")]
    TooLarge(String),
}

/// The headers of a healthy answer, before its body is read.
pub(super) fn check_headers(check: &CheckConfig, headers: &HeaderMap) -> Result<(), ProbeError> {
    for (name, pattern) in &check.expect_headers {
        let mut values = headers.get_all(name.as_str()).iter();
        if !values.any(|value| pattern.matches(value.as_bytes())) {
            return Err(ProbeError::Header(name.clone(), pattern.to_string()));
        }
    }
    Ok(())
}

/// The body of a healthy answer. Nothing of it is read when nothing is expected of it.
pub(super) async fn check_body(check: &CheckConfig, body: Incoming) -> Result<(), ProbeError> {
    let (text, pattern) = (check.expect.as_deref(), &check.expect_regex);
    if text.is_none() && pattern.is_none() {
        return Ok(());
    }
    // A server need not end what it says for a text to be in it. What a body ends with is known at
    // its end.
    let is_enough = |read: &[u8]| pattern.is_none() && text.is_some_and(|text| has(read, text));
    let read = read(body, is_enough).await?;
    if let Some(text) = text.filter(|text| !has(&read, text)) {
        return Err(ProbeError::Unexpected(text.to_owned()));
    }
    match pattern {
        Some(pattern) if !pattern.0.is_match(&read) => {
            Err(ProbeError::NoMatch(pattern.to_string()))
        }
        _ => Ok(()),
    }
}

/// What of `body` is read: up to its end, until it is enough, or as much as is read of any.
async fn read(body: Incoming, is_enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, ProbeError> {
    let mut body = Limited::new(body, BODY_BYTES);
    let mut read = Vec::new();
    while !is_enough(&read) {
        match body.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Err(error)) if error.is::<LengthLimitError>() => break,
            Some(Err(_)) => return Err(ProbeError::BrokeOff),
            None => break,
        }
    }
    Ok(read)
}

fn has(bytes: &[u8], text: &str) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

impl FromStr for BodyPattern {
    type Err = BodyPatternError;

    fn from_str(text: &str) -> Result<Self, BodyPatternError> {
        let built = RegexBuilder::new(text).unicode(false).size_limit(REGEX_BYTES).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => BodyPatternError::TooLarge(text.to_owned()),
            error => {
                // It draws a picture; its last line says what is wrong.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default();
                let why = why.strip_prefix("error: ").unwrap_or(why);
                BodyPatternError::NotRegex(text.to_owned(), why.to_owned())
            }
        })
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for BodyPattern {}

impl fmt::Display for BodyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

written_as_text!(BodyPattern, "A regular expression.");

/// Of a body this much is read.
const BODY_BYTES: usize = 64 * 1024;
/// Of a regular expression, as it is kept; `\\d{1,1000}` is 16 KiB.
const REGEX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_bytes_and_for_ascii() {
        let check = |pattern: &str, body: &[u8], expected: bool| {
            let pattern: BodyPattern = pattern.parse().unwrap();
            assert_eq!(pattern.0.is_match(body), expected, "{pattern}");
        };
        check("^ok$", b"ok", true);
        check("^ok$", b"ok, not", false);
        check(r"^\d+ workers \w+", b"12 workers idle", true);
        check("(?i)status: up", b"\xff Status: UP", true);
        check("é", "café".as_bytes(), true);
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_reason() {
        let error = "(up".parse::<BodyPattern>().unwrap_err();
        assert_eq!(error.to_string(), "`(up` is not a regular expression: unclosed group");
        assert!(r"\w{1000}{1000}".parse::<BodyPattern>().is_err());
        assert!("(?=x)".parse::<BodyPattern>().is_err());
    }

    #[test]
    fn each_header_that_is_expected_has_to_be_there() {
        let expect_headers = serde_json::json!({ "x-state": "up*", "X-Region": "*" });
        let check: CheckConfig =
            serde_json::from_value(serde_json::json!({ "expect_headers": expect_headers }))
                .unwrap();
        let verdict = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            check_headers(&check, &headers).is_ok()
        };
        assert!(verdict(&[("x-state", "down"), ("x-state", "up, busy"), ("x-region", "")]));
        assert!(!verdict(&[("x-state", "up")]));
        assert!(!verdict(&[("x-state", "not up"), ("x-region", "eu")]));
    }
}
