//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! The test at the foot runs a bounded, repeatable number of mutations of their seeds.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use serde_json::Value;
use tidewire_wire::http::{cookies, query};

use crate::config::JwtConfig;
use crate::jwks::{self, Origin};
use crate::jwt::claims::{Rules, is_name};
use crate::jwt::json;
use crate::jwt::token::Token;
use crate::method::{Found, Presented};
use crate::place::{self, Place};

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target, and inputs to start from.
pub const TARGETS: [(&str, Body, &[&[u8]]); 4] = [
    (
        "token",
        token,
        &[
            b"eyJhbGciOiJIUzI1NiIsImtpZCI6IjEiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbm4ifQ.AAAA",
            b"eyJhbGciOiJub25lIn0..",
            b"a.b.c.d.e",
        ],
    ),
    (
        "claims",
        claims,
        &[
            br#"{"sub":"ann","exp":1700000060,"nbf":1699999999.5,"iat":1e9,"jti":"1"}"#,
            br#"{"exp":99999999999,"aud":["a","b"],"a":{"b":[1,[2]]}}"#,
        ],
    ),
    (
        "credentials",
        credentials,
        &[
            b"a=1; t=\"x\";t2=3\nt=4\nx=1&%74=%41&t\nv1,bearer,token",
            b"t=1\nt=1\nbearer.token,v1",
            b"\n\nbearer,bearer.x,bearer",
        ],
    ),
    (
        "key_set",
        key_set,
        &[
            br#"{"keys":[{"kty":"oct","k":"MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA","kid":"1"}]}"#,
            br#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQ"}]}"#,
        ],
    ),
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
                    match random.u8(0..4) {
                        0 => input.insert(at, random.u8(..)),
                        1 => input.insert(at, TELLING[random.usize(0..TELLING.len())]),
                        2 if at < input.len() => drop(input.remove(at)),
                        _ if at < input.len() => input[at] = random.u8(..),
                        _ => {}
                    }
                }
                let outcome = std::panic::catch_unwind(|| body(&input));
                assert!(outcome.is_ok(), "{name}, round {round}: {:?}", input.escape_ascii());
            }
        }
    }

    /// Bytes that stand for something in one of the inputs.
    const TELLING: [u8; 16] = *b".,;=&%\"{}[]:019e";
}
