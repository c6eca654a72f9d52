//! A token in its compact form (RFC 7515, section 7.1), taken apart; nothing of it is believed.
//!
//! `jku`, `jwk`, `x5u`, `x5c` and the like are never looked at: a token does not say which key it
//! is checked with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::fault::TokenFault;
use super::json;

/// A token that has the form of one.
#[derive(Debug)]
pub struct Token<'t> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    /// What the signature is over.
    pub signed: &'t str,
    pub signature: Vec<u8>,
    /// `typ` of the header.
    kind: Option<String>,
    payload: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes `text` apart, when it is not longer than `bytes_max`.
    pub fn parse(text: &'t str, bytes_max: usize) -> Result<Self, TokenFault> {
        if text.len() > bytes_max {
            return Err(TokenFault::TooLong { bytes: text.len(), max: bytes_max });
        }
        let dots = text.bytes().filter(|&byte| byte == b'.').count();
        let (header, payload, signature) = match dots {
            2 => {
                let (signed, signature) = text.rsplit_once('.').expect("there are two dots");
                let (header, payload) = signed.split_once('.').expect("there are two dots");
                (header, payload, signature)
            }
            4 => return Err(TokenFault::Encrypted),
            _ => return Err(TokenFault::Parts(dots + 1)),
        };
        let header_bytes = decode(header).ok_or(TokenFault::NotBase64("header"))?;
        let members = json::object(&header_bytes).ok_or(TokenFault::NotObject("header"))?;
        let (algorithm, key_id, kind) = read_header(members)?;
        let payload = decode(payload).ok_or(TokenFault::NotBase64("payload"))?;
        let signed = &text[..text.len() - signature.len() - 1];
        let signature = decode(signature).ok_or(TokenFault::NotBase64("signature"))?;
        if signature.is_empty() {
            return Err(TokenFault::NoSignature);
        }
        Ok(Self { algorithm, key_id, signed, signature, kind, payload })
    }

    /// What it claims. To be read once the signature is right.
    pub fn claims(&self) -> Result<Map<String, Value>, TokenFault> {
        json::object(&self.payload).ok_or(TokenFault::NotObject("payload"))
    }

    /// Whether its `typ` is this one (RFC 7515, section 4.1.9: `application/` may be left out).
    pub fn is_of_type(&self, expected: &str) -> bool {
        let short = |name: &str| {
            let lower = name.to_ascii_lowercase();
            lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
        };
        self.kind.as_deref().is_some_and(|kind| short(kind) == short(expected))
    }
}

type Header = (Algorithm, Option<String>, Option<String>);

fn read_header(mut members: Map<String, Value>) -> Result<Header, TokenFault> {
    // What `crit` names must be understood, and nothing is; `b64` (RFC 7797) would say that the
    // payload is not encoded; `enc` and `zip` are of JWE.
    for name in ["crit", "b64", "enc", "zip"] {
        if members.contains_key(name) {
            return Err(TokenFault::Critical(name));
        }
    }
    let algorithm = match members.get("alg").and_then(Value::as_str) {
        Some(name) if name.trim().eq_ignore_ascii_case("none") => {
            return Err(TokenFault::AlgorithmNone);
        }
        Some(name) => Algorithm::named(name).ok_or(TokenFault::AlgorithmUnknown)?,
        None => return Err(TokenFault::AlgorithmUnknown),
    };
    let mut string = |name: &str| match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(()),
    };
    let key_id = string("kid").map_err(|()| TokenFault::KeyIdKind)?;
    let kind = string("typ").map_err(|()| TokenFault::NotObject("header"))?;
    Ok((algorithm, key_id, kind))
}

/// base64url as RFC 7515, section 2 has it: no padding, no white space, no bits left over.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_form_for_each_value() {
        assert_eq!(decode("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        for wrong in ["_-8=", "_-9", "/+8", "_-8 ", " _-8", "_-\n8", "A", "_-8\0", "é"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
