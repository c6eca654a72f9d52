//! Signed requests (RFC 8555, section 6.2): what is signed, by whom, and that it is.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use serde_json::Value;

use super::state::Problem;

/// A signed request, its signature not looked at yet.
#[derive(Debug)]
pub struct Jws {
    pub header: Value,
    pub payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// A public key on P-256, the only kind that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    x: String,
    y: String,
}

impl Jws {
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let malformed = |what: &str| Problem::new(400, "malformed", what);
        let whole: Value =
            serde_json::from_slice(body).map_err(|_| malformed("the body is not JSON"))?;
        Self::of(&whole).ok_or_else(|| malformed("the body is not a flattened JWS"))
    }

    pub fn of(whole: &Value) -> Option<Self> {
        let part = |name: &str| whole[name].as_str();
        let (protected, payload) = (part("protected")?, part("payload")?);
        Some(Self {
            header: serde_json::from_slice(&BASE64.decode(protected).ok()?).ok()?,
            payload: BASE64.decode(payload).ok()?,
            signed: format!("{protected}.{payload}"),
            signature: BASE64.decode(part("signature")?).ok()?,
        })
    }

    /// The payload, which is JSON.
    pub fn json(&self) -> Result<Value, Problem> {
        serde_json::from_slice(&self.payload)
            .map_err(|_| Problem::new(400, "malformed", "the payload is not JSON"))
    }

    pub fn is_signed_by(&self, key: &Jwk) -> bool {
        let Some(point) = key.point() else { return false };
        self.header["alg"] == "ES256"
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(self.signed.as_bytes(), &self.signature)
                .is_ok()
    }

    /// Whether it is signed with a secret that both sides have (HS256).
    pub fn is_signed_with(&self, secret: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.header["alg"] == "HS256"
            && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

impl Jwk {
    pub fn of(value: &Value) -> Option<Self> {
        let is_right = value["kty"] == "EC" && value["crv"] == "P-256";
        let part = |name: &str| value[name].as_str().map(str::to_owned);
        is_right.then_some(Self { x: part("x")?, y: part("y")? })
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let Self { x, y } = self;
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        BASE64.encode(digest(&SHA256, text.as_bytes()))
    }

    fn point(&self) -> Option<Vec<u8>> {
        let (x, y) = (BASE64.decode(&self.x).ok()?, BASE64.decode(&self.y).ok()?);
        (x.len() == 32 && y.len() == 32).then(|| [&[4][..], &x, &y].concat())
    }
}
