//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! The test at the foot runs a bounded, repeatable number of mutations of their seeds.

use bytes::Bytes;

use crate::broker::envelope::Envelope;
use crate::broker::url::BrokerUrl;
use crate::template::Template;
use crate::topic::Topic;

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target, and inputs to start from.
pub const TARGETS: [(&str, Body, &[&[u8]]); 4] = [
    ("envelope", envelope, &[b"TW\x01\x01nodenode clientclsequenceh\xC3\xA9llo", b"TW\x01\x02"]),
    ("broker_url", broker_url, &[b"redis://user:s%40cr%3At@[::1]:6379/15", b"memory"]),
    ("template", template, &[b"{{{node}}} says: {message}", b"chat:{room}"]),
    ("topic", topic, &[b"chat:\xF0\x9F\x8C\x8A *"]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_of_the_seeds_break_no_promise() {
        for (name, body, seeds) in TARGETS {
            for round in 0..5_000 {
                let mut random = fastrand::Rng::with_seed(round);
                let mut input = seeds[random.usize(0..seeds.len())].to_vec();
                for _ in 0..random.usize(0..6) {
                    let at = random.usize(0..=input.len());
                    match random.u8(0..3) {
                        0 => input.insert(at, random.u8(..)),
                        1 if at < input.len() => drop(input.remove(at)),
                        _ if at < input.len() => input[at] = random.u8(..),
                        _ => {}
                    }
                }
                let outcome = std::panic::catch_unwind(|| body(&input));
                assert!(outcome.is_ok(), "{name}, round {round}: {:?}", input.escape_ascii());
            }
        }
    }
}
