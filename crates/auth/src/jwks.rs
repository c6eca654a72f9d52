//! Key sets as documents (RFC 7517).
//!
//! A key that cannot be used is passed over, as the standard asks: issuers publish keys for other
//! uses beside those for signatures.

use serde_json::{Map, Value};

use crate::jwt::algorithm::Algorithm;
use crate::jwt::json;
use crate::jwt::key::{Key, KeyFault};
use crate::jwt::token::decode;
use crate::key_set::KeySet;

/// Where a document comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    File,
    /// Whoever can read it could sign with a shared secret in it: such are not taken.
    Network,
}

/// Why a document is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetFault {
    #[error("it is not a key set; expected a JSON object with a list `keys`")]
    NotSet,
    #[error("it has {0} keys, more than {KEYS_MAX}")]
    TooMany(usize),
    #[error("it has no key that signatures can be checked with{}", because(.0))]
    NoneUsable(Option<(String, JwkFault)>),
}

/// Why a key of a set is passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkFault {
    #[error("it is not for signatures")]
    Use,
    #[error("`{0}` is missing or malformed")]
    Member(&'static str),
    #[error("it is a shared secret, which only a file may have")]
    Secret,
    #[error("its `alg` is not one for a key of its kind, or none that is accepted")]
    Algorithm,
    #[error(transparent)]
    Key(#[from] KeyFault),
}

fn because(first: &Option<(String, JwkFault)>) -> String {
    first.as_ref().map_or_else(String::new, |(key, why)| format!("; {key}: {why}"))
}

/// The keys of a document, and why others in it are none.
pub fn parse(
    text: &[u8],
    allowed: &[Algorithm],
    origin: Origin,
) -> Result<(KeySet, Vec<(String, JwkFault)>), SetFault> {
    let mut document = json::object(text).ok_or(SetFault::NotSet)?;
    let Some(Value::Array(members)) = document.remove("keys") else {
        return Err(SetFault::NotSet);
    };
    if members.len() > KEYS_MAX {
        return Err(SetFault::TooMany(members.len()));
    }
    let (mut keys, mut passed) = (Vec::new(), Vec::new());
    for (index, member) in members.iter().enumerate() {
        let key = member.as_object().ok_or(JwkFault::Member("kty"));
        match key.and_then(|jwk| read_key(jwk, allowed, origin)) {
            Ok(key) => keys.push(key),
            Err(why) => passed.push((format!("key {}", index + 1), why)),
        }
    }
    if keys.is_empty() {
        return Err(SetFault::NoneUsable(passed.into_iter().next()));
    }
    Ok((KeySet { keys }, passed))
}

fn read_key(
    jwk: &Map<String, Value>,
    allowed: &[Algorithm],
    origin: Origin,
) -> Result<Key, JwkFault> {
    let text = |name: &'static str| match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(JwkFault::Member(name)),
    };
    if text("use")?.is_some_and(|it| it != "sig") || !is_for_verifying(jwk) {
        return Err(JwkFault::Use);
    }
    let bytes = |name: &'static str| {
        text(name)?.and_then(decode).filter(|it| !it.is_empty()).ok_or(JwkFault::Member(name))
    };
    let key = match (text("kty")?, text("crv")?) {
        (Some("RSA"), _) => Key::of_rsa(&bytes("n")?, &bytes("e")?, allowed)?,
        (Some("EC"), Some("P-256")) => {
            Key::of_point(Algorithm::ES256, &point(&bytes("x")?, &bytes("y")?, 32)?, allowed)?
        }
        (Some("EC"), Some("P-384")) => {
            Key::of_point(Algorithm::ES384, &point(&bytes("x")?, &bytes("y")?, 48)?, allowed)?
        }
        (Some("OKP"), Some("Ed25519")) => {
            let raw = bytes("x")?;
            // aws-lc takes other encodings of a key, too.
            if raw.len() != 32 {
                return Err(JwkFault::Member("x"));
            }
            Key::of_ed25519(&raw, allowed)?
        }
        (Some("oct"), _) if origin == Origin::Network => return Err(JwkFault::Secret),
        (Some("oct"), _) => Key::of_secret(&bytes("k")?, allowed)?,
        (Some("EC" | "OKP"), _) => return Err(KeyFault::Unsupported.into()),
        _ => return Err(JwkFault::Member("kty")),
    };
    let key = match text("alg")? {
        None => key,
        // RFC 9864 has its own name for the curve.
        Some("Ed25519") => key.only(Algorithm::EdDsa).ok_or(JwkFault::Algorithm)?,
        Some(name) => {
            let algorithm = Algorithm::named(name).ok_or(JwkFault::Algorithm)?;
            key.only(algorithm).ok_or(JwkFault::Algorithm)?
        }
    };
    Ok(key.with_id(text("kid")?))
}

fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(uses)) => uses.iter().any(|one| one == "verify"),
        Some(_) => false,
    }
}

/// A point of a curve, uncompressed. Both numbers have their full length (RFC 7518, section 6.2).
fn point(x: &[u8], y: &[u8], bytes: usize) -> Result<Vec<u8>, JwkFault> {
    if x.len() != bytes {
        return Err(JwkFault::Member("x"));
    }
    if y.len() != bytes {
        return Err(JwkFault::Member("y"));
    }
    Ok([&[4], x, y].concat())
}

/// Most keys of a set.
const KEYS_MAX: usize = 100;
