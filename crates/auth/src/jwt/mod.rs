//! JSON Web Tokens (RFC 7519), signed (RFC 7515).
//!
//! ```text
//!   text ──token──> form ──key──> signature ──claims──> Identity
//!     (length, base64, JSON)  (of the set, by `kid`)  (times, issuer, audience)
//! ```
//!
//! What a token says is believed only once its signature is right, and never says how that is
//! checked: the algorithms are those of the keys. aws-lc does the arithmetic; its keys are parsed
//! when they are loaded, not for each token.

pub mod algorithm;
pub mod claims;
pub mod fault;
pub mod json;
pub mod key;
pub mod token;

use std::fmt;

use self::claims::Rules;
use self::fault::TokenFault;
use self::token::Token;
use crate::config::JwtConfig;
use crate::identity::Identity;
use crate::key_set::{KeySet, KeySource};
use crate::method::{Accepted, Denied, Found, Presented};
use crate::place::{self, Place};

/// The method `jwt` of an `[[auth]]`.
#[derive(Debug)]
pub struct Jwt {
    rules: Rules,
    places: Vec<Place>,
    bytes_max: usize,
    kind: Option<String>,
    is_passed_on: bool,
    keys: KeySource,
}

impl Jwt {
    pub fn new(auth: &str, config: &JwtConfig, is_passed_on: bool, keys: KeySource) -> Self {
        Self {
            rules: Rules::new(auth, config),
            places: config.from.clone(),
            bytes_max: usize::try_from(config.max_bytes.0).unwrap_or(usize::MAX),
            kind: config.typ.clone(),
            is_passed_on,
            keys,
        }
    }

    pub async fn authenticate(
        &self,
        presented: &Presented<'_>,
        now: u64,
    ) -> Result<Accepted, Denied> {
        let Some((text, found)) = place::find(&self.places, presented)? else {
            return Err(Denied::Missing("a token is needed"));
        };
        let identity = self.identify(&text, now).await.map_err(|fault| self.denied(&fault))?;
        Ok(Accepted { identity, found, is_passed_on: self.is_passed_on })
    }

    pub fn occupied(&self, presented: &Presented<'_>) -> Vec<Found> {
        match self.is_passed_on {
            true => Vec::new(),
            false => place::occupied(&self.places, presented),
        }
    }

    pub fn authenticate_token(&self, text: &str, now: u64) -> Result<Identity, Denied> {
        self.check(text, now).map_err(|fault| self.denied(&fault))
    }

    /// Whom the token speaks of; asks for new keys when it names one that is not known.
    pub async fn identify(&self, text: &str, now: u64) -> Result<Identity, TokenFault> {
        match self.check(text, now) {
            Err(TokenFault::NoKey { has_key_id: true, .. } | TokenFault::NoKeys)
                if self.keys.renew().await =>
            {
                self.check(text, now)
            }
            checked => checked,
        }
    }

    /// The name of the `[[auth]]`.
    pub fn auth(&self) -> &str {
        &self.rules.auth
    }

    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Whom the token speaks of, with the keys that are there.
    fn check(&self, text: &str, now: u64) -> Result<Identity, TokenFault> {
        let token = Token::parse(text, self.bytes_max)?;
        if let Some(kind) = &self.kind
            && !token.is_of_type(kind)
        {
            return Err(TokenFault::Type(kind.clone()));
        }
        let keys = self.keys.current().ok_or(TokenFault::NoKeys)?;
        verify(&token, &keys)?;
        self.rules.identity(token.claims()?, now)
    }

    /// The reason goes to the log, where the operator finds it; the client hears less.
    fn denied(&self, fault: &TokenFault) -> Denied {
        tracing::debug!(auth = &*self.rules.auth, reason = %fault, "token not accepted");
        fault.denied()
    }
}

/// What a person should know of it, in a line.
impl fmt::Display for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.places.iter().map(Place::to_string).collect();
        write!(f, "jwt in {}", places.join(", "))
    }
}

/// Whether one of the keys that the token may be checked with has signed it.
fn verify(token: &Token<'_>, keys: &KeySet) -> Result<(), TokenFault> {
    let mut tried = keys.for_token(token).take(TRIES_MAX).peekable();
    if tried.peek().is_none() {
        let (algorithm, has_key_id) = (token.algorithm.as_str(), token.key_id.is_some());
        return Err(TokenFault::NoKey { algorithm, has_key_id });
    }
    let has_signed =
        tried.any(|key| key.has_signed(token.algorithm, token.signed.as_bytes(), &token.signature));
    if has_signed { Ok(()) } else { Err(TokenFault::Signature) }
}

/// Keys that a token without a `kid` is checked with. Issuers that rotate without a `kid` have two
/// or three at a time; each try costs as much as a whole token.
const TRIES_MAX: usize = 4;
