//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` runs them for as long as one likes, led by coverage. The test at the foot replays its
//! seeds and a bounded, repeatable run of mutations of them.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tidewire_auth::identity::{Credential, Identity};
use tidewire_wire::ws::frame::FrameHeader;

use crate::broker::envelope::Envelope;
use crate::broker::url::BrokerUrl;
use crate::pass::is_renewal;
use crate::permission::{TopicPattern, allows};
use crate::protocol::Protocol;
use crate::publication::{ClientId, Kind, NodeId, Origin, Publication};
use crate::template::Template;
use crate::topic::Topic;

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target.
pub const TARGETS: [(&str, Body); 6] = [
    ("envelope", envelope),
    ("broker_url", broker_url),
    ("template", template),
    ("topic", topic),
    ("permission", permission),
    ("client_text", client_text),
];

/// What a broker brings is an envelope as this program would write it, or is refused.
pub fn envelope(input: &[u8]) {
    if let Ok(envelope) = Envelope::decode(Bytes::copy_from_slice(input)) {
        let mut out = Vec::new();
        envelope.encode(&mut out);
        assert_eq!(out, input);
    }
}

/// A broker's URL is refused, or prints as one that means the same, without its password.
pub fn broker_url(input: &[u8]) {
    let Ok(Ok(BrokerUrl::Redis(url))) = std::str::from_utf8(input).map(str::parse) else { return };
    let Ok(BrokerUrl::Redis(again)) = url.to_string().parse() else { return };
    assert_eq!((again.port, again.database), (url.port, url.database));
}

/// A template is refused, or fills up to text that has all its values.
pub fn template(input: &[u8]) {
    let Ok(Ok(template)) = std::str::from_utf8(input).map(str::parse::<Template>) else { return };
    let mut out = Vec::new();
    template.expand(|_| Some(b"<value>"), &mut out).expect("every name has a value");
    let text = String::from_utf8(out).expect("text filled with text is text");
    assert!(text.matches("<value>").count() >= template.names().count());
    assert_eq!(template.to_string().as_bytes(), input);
}

/// A topic has no control characters and is short.
pub fn topic(input: &[u8]) {
    let Ok(Ok(topic)) = std::str::from_utf8(input).map(Topic::new) else { return };
    assert!(!topic.as_str().chars().any(char::is_control));
    assert!((1..=255).contains(&topic.as_str().len()));
}

/// A client may use the topics that a naive reader finds allowed, and no other. A line for the
/// pattern, one for what the client's claims say, the rest is the topic.
pub fn permission(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(text), Some(claim), Some(topic)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let (Ok(pattern), Ok(topic)) = (text.parse::<TopicPattern>(), Topic::new(topic)) else {
        return;
    };
    let claims = json!({ "sub": claim, "teams": [claim, 7, "x"] });
    let Value::Object(claims) = claims else { return };
    let credential =
        Credential { auth: "a".into(), subject: None, token_id: None, issued: None, expires: None };
    let identity = Identity::new(credential, claims);
    let values = |name: &str| match name {
        "sub" => vec![claim],
        "teams" => vec![claim, "7", "x"],
        _ => Vec::new(),
    };
    let expected = is_match(text, topic.as_str(), &values);
    assert_eq!(allows(&[pattern], &topic, Some(&identity)), expected);
}

/// Follows a pattern, which is a good one, from left to right.
fn is_match<'v>(pattern: &str, topic: &str, values: &dyn Fn(&str) -> Vec<&'v str>) -> bool {
    if pattern == "*" {
        return true;
    }
    let doubled = ["{{", "}}"].into_iter().find(|it| pattern.starts_with(it));
    if let Some(doubled) = doubled {
        let rest = topic.strip_prefix(&doubled[..1]);
        return rest.is_some_and(|rest| is_match(&pattern[2..], rest, values));
    }
    if let Some(open) = pattern.strip_prefix('{') {
        let (name, after) = open.split_once('}').expect("the pattern is a good one");
        // What follows is a literal: doubled braces stand for one.
        let stop = after.chars().next().filter(|_| after != "*");
        let may_be = |value: &&str| {
            !value.is_empty() && !value.chars().any(|it| it.is_control() || Some(it) == stop)
        };
        return values(name).iter().filter(|value| may_be(value)).any(|value| {
            topic.strip_prefix(value).is_some_and(|rest| is_match(after, rest, values))
        });
    }
    match pattern.chars().next() {
        None => topic.is_empty(),
        Some(first) => topic
            .strip_prefix(first)
            .is_some_and(|rest| is_match(&pattern[first.len_utf8()..], rest, values)),
    }
}

/// A text of a client is for the hub, if it can be read as a renewal at all; or it is a message, and
/// comes out as it was.
pub fn client_text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let space = [' ', '\t', '\r', '\n'];
    let begins = |text: &str| {
        let value = text.trim_start_matches(space).strip_prefix('{')?;
        let value = value.trim_start_matches(space).strip_prefix("\"tidewire\"")?;
        let value = value.trim_start_matches(space).strip_prefix(':')?;
        value.trim_start_matches(space).strip_prefix("\"renew\"").map(drop)
    };
    // It is the first member that says so: a later one of its name would be read in its place.
    if let Ok(Value::Object(_)) = serde_json::from_str(text)
        && begins(text).is_some()
    {
        assert!(is_renewal(input), "a token would be told to everybody");
    }
    let origin = Origin { node: NodeId(1), client: ClientId(1) };
    let payload = Bytes::copy_from_slice(input);
    let publication = Publication { kind: Kind::Text, origin, payload };
    for protocol in Protocol::ALL {
        let mut out = BytesMut::new();
        protocol.encode(&publication, &mut out);
        let (header, length) =
            FrameHeader::parse(&out).expect("it is a frame").expect("it is whole");
        let shown = &out[length..];
        assert_eq!(header.length as usize, shown.len());
        match protocol {
            Protocol::Raw => assert_eq!(shown, input),
            Protocol::V1 => {
                let said: Value = serde_json::from_slice(shown).expect("it is JSON");
                assert_eq!(said, json!({ "type": "message", "data": text }));
            }
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_keeps_the_promises() {
        replay::run_seeds(&TARGETS, |body, input| body(input));
    }

    #[test]
    fn mutated_seeds_keep_the_promises() {
        let piece = |random: &mut replay::Random| vec![*random.one_of(&TELLING)];
        replay::run_mutations(&TARGETS, |_| 5_000, piece, |body, input| body(input));
    }

    /// Bytes that stand for something in one of the inputs.
    const TELLING: [u8; 8] = *b"{}*:\n\"/ ";
}
