//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` runs them for as long as one likes, led by coverage. The test at the foot replays its
//! seeds and a bounded, repeatable run of mutations of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use serde_json::Value;
use tidewire_wire::http::{cookies, query};

use crate::basic;
use crate::client_cert::ClientCert;
use crate::config::{ClientCertConfig, JwtConfig, SubjectFrom};
use crate::gossip::{self, Gossip};
use crate::identity::{Credential, Identity};
use crate::jwks::{self, Origin};
use crate::jwt::claims::{Rules, is_name};
use crate::jwt::json;
use crate::jwt::token::Token;
use crate::method::{Found, Presented};
use crate::place::{self, Place};
use crate::revocation::Revocations;
use crate::template::ClaimTemplate;

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target.
pub const TARGETS: [(&str, Body); 8] = [
    ("token", token),
    ("claims", claims),
    ("credentials", credentials),
    ("key_set", key_set),
    ("gossip", gossip),
    ("basic", basic),
    ("certificate", certificate),
    ("identity_header", identity_header),
];

/// A token is refused, or has one way in which it can be written; and its claims are what a lenient
/// reader finds, too.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(token) = Token::parse(text, 8192) else { return };
    let again = format!("{}.{}", token.signed, URL_SAFE_NO_PAD.encode(&token.signature));
    assert_eq!(again, text);
    assert!(!token.signature.is_empty());
    if let Ok(claims) = token.claims() {
        let payload = token.signed.split('.').nth(1).expect("there are two parts");
        let lenient = URL_SAFE_NO_PAD.decode(payload).expect("it has been decoded");
        assert_eq!(serde_json::from_slice::<Value>(&lenient).ok(), Some(Value::Object(claims)));
    }
}

/// Claims are refused, or speak of somebody who can stand in a log, for some time to come.
pub fn claims(input: &[u8]) {
    const NOW: u64 = 1_700_000_000;
    let Some(claims) = json::object(input) else { return };
    let rules = Rules::new("users", &JwtConfig::default());
    let Ok(identity) = rules.identity(claims, NOW) else { return };
    assert!(identity.expires().is_some_and(|at| at > NOW));
    assert!(identity.subject().is_none_or(is_name));
    assert!(identity.credentials().all(|it| it.token_id.as_deref().is_none_or(is_name)));
}

/// A credential that is found is gone when it is taken out of where it was. Lines of cookies, then
/// the query, then the offers.
pub fn credentials(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let (Some(offers), Some(query)) = (lines.pop(), lines.pop()) else { return };
    let offers: Vec<&str> = offers.split(',').collect();
    let mut headers = HeaderMap::new();
    for line in &lines {
        let Ok(line) = HeaderValue::from_str(line) else { return };
        headers.append(COOKIE, line);
    }
    let presented = Presented {
        headers: &headers,
        query: Some(query),
        subprotocols: &offers,
        certificate: None,
    };
    let cookie = [Place::Cookie("t".into())];
    if let Ok(Some((_, found))) = place::find(&cookie, &presented) {
        assert_eq!(found, Found::Cookie("t".into()));
        let mut left = HeaderMap::new();
        let lines = lines.iter().filter_map(|line| cookies::without(line.as_bytes(), b"t"));
        for line in lines {
            left.append(COOKIE, HeaderValue::from_bytes(&line).expect("a part of what was one"));
        }
        let after = Presented { headers: &left, ..presented };
        assert!(matches!(place::find(&cookie, &after), Ok(None)));
    }
    let parameter = [Place::Query("t".into())];
    if let Ok(Some(_)) = place::find(&parameter, &presented) {
        let left = query::without(query, "t");
        let after = Presented { query: left.as_deref(), ..presented };
        assert!(matches!(place::find(&parameter, &after), Ok(None)));
    }
    let offered = [Place::Subprotocol("bearer".into())];
    if let Ok(Some((token, Found::Subprotocol { offers: range, answer }))) =
        place::find(&offered, &presented)
    {
        assert_eq!(offers[range.start], &*answer);
        assert!(offers[range.clone()].last().is_some_and(|last| last.ends_with(&*token)));
        let left = [&offers[..range.start], &offers[range.end..]].concat();
        let after = Presented { subprotocols: &left, ..presented };
        assert!(!matches!(place::find(&offered, &after), Ok(Some(_))));
    }
}

/// A key set is refused, or has keys that are for something, and not too many.
pub fn key_set(input: &[u8]) {
    let Ok((set, _)) = jwks::parse(input, &[], Origin::File) else { return };
    assert!((1..=100).contains(&set.keys.len()));
    assert!(set.keys.iter().all(|key| key.algorithms().next().is_some()));
    if let Ok((set, _)) = jwks::parse(input, &[], Origin::Network) {
        let mut algorithms = set.keys.iter().flat_map(|key| key.algorithms());
        assert!(algorithms.all(|one| one.secret_bytes_min().is_none()));
    }
}

/// Whatever another node says, what is known afterwards can be, there is not too much of it, and a
/// third node that hears it from this one knows the same.
pub fn gossip(input: &[u8]) {
    const WALL: u64 = 1_700_000_000;
    let start = Instant::now();
    let random = || fastrand::Rng::with_seed(1);
    let (known, others) = (Arc::new(Revocations::new(20)), Arc::new(Revocations::new(20)));
    let mut node = Gossip::new(Arc::clone(&known), random());
    let heard = node.hear(input, start, WALL);
    if let Ok(added) = heard {
        // What says more of one that the same message has told of already is new, too.
        assert!(added.new >= known.len(WALL), "{added:?}");
    }
    assert!(known.len(WALL) <= 20);
    let mut other = Gossip::new(Arc::clone(&others), random());
    for one in known.all(WALL) {
        assert!(gossip::is_name(one.of.name()) && one.at <= WALL + 60, "{one:?}");
        assert!(one.until > WALL && one.until <= WALL + gossip::LIFE_MAX.as_secs() + 60);
        let told = other.hear(&Gossip::tell(&one), start, WALL);
        assert_eq!(told.map(|added| added.new), Ok(1));
    }
    let (mut ours, mut theirs) = (known.all(WALL), others.all(WALL));
    ours.sort_by(|one, other| one.of.cmp(&other.of));
    theirs.sort_by(|one, other| one.of.cmp(&other.of));
    assert_eq!(ours, theirs);
    let mut said = Vec::new();
    node.speak(start + Duration::from_secs(3600), WALL, &mut said);
    assert!(said.iter().all(|message| message.len() <= 64 * 1024));
}

/// A name and a password are refused, or can be written again in one way, and stand in a log.
pub fn basic(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((name, password)) = basic::decode(text) else { return };
    assert!(is_name(&name) && !name.contains(':'));
    assert!(!password.contains(char::is_control));
    assert_eq!(STANDARD.encode(format!("{name}:{password}")), text);
}

/// A certificate is refused, or speaks of somebody who can stand in a log and in a header, and has
/// an end.
pub fn certificate(input: &[u8]) {
    const NOW: u64 = 1_700_000_000;
    let headers = HeaderMap::new();
    let presented =
        Presented { headers: &headers, query: None, subprotocols: &[], certificate: Some(input) };
    let subjects =
        [SubjectFrom::Cn, SubjectFrom::SanDns, SubjectFrom::SanUri, SubjectFrom::SanEmail];
    for subject in subjects {
        let method = ClientCert::new("devices", &ClientCertConfig { subject });
        let Ok(accepted) = method.authenticate(&presented, NOW) else { continue };
        let identity = accepted.identity;
        assert!(identity.subject().is_some_and(is_name));
        assert!(identity.expires().is_some_and(|end| end >= NOW));
        for name in ["cn", "sub", "fingerprint"] {
            let claim = identity.claims().get(name).and_then(Value::as_str);
            assert!(claim.is_none_or(is_name), "{claim:?}");
        }
    }
}

/// What a claim says cannot be taken for something else in a header: it is plain ASCII, a list has
/// as many elements as the claim, and each reads back as it was.
pub fn identity_header(input: &[u8]) {
    let Some(claims) = json::object(input) else { return };
    let credential =
        Credential { auth: "a".into(), subject: None, token_id: None, issued: None, expires: None };
    let identity = Identity::new(credential, claims);
    let template: ClaimTemplate = "{team}".parse().expect("it is a template");
    let Some(value) = template.value(&identity) else { return };
    let text = value.to_str().expect("it is ASCII");
    assert!(
        text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim() == text
    );
    let shown = |claim: &Value| match claim {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let read = |text: &str| query::decode_lossy(&text.replace('+', "%2B"));
    match identity.claim("team") {
        Some(Value::Array(elements)) if !elements.is_empty() => {
            let elements: Vec<_> = elements.iter().map(shown).collect();
            assert_eq!(text.split(',').map(read).collect::<Vec<_>>(), elements);
        }
        Some(claim @ (Value::String(_) | Value::Object(_))) => assert_eq!(read(text), shown(claim)),
        _ => {}
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
    const TELLING: [u8; 16] = *b".,;=&%\"{}[]:019e";
}
