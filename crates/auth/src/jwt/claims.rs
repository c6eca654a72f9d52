//! What a token must claim (RFC 7519, section 4.1). The signature is right already.

use serde_json::{Map, Value};

use super::fault::{TimeFault, TokenFault};
use crate::config::JwtConfig;
use crate::identity::{Credential, Identity};

/// The rules of an `[[auth]]`.
#[derive(Debug)]
pub struct Rules {
    /// The name of the `[[auth]]`.
    pub auth: Box<str>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    required: Vec<String>,
    /// In seconds.
    leeway: u64,
    may_have_no_expiry: bool,
}

impl Rules {
    pub fn new(auth: &str, config: &JwtConfig) -> Self {
        Self {
            auth: auth.into(),
            issuers: config.issuer.clone(),
            audiences: config.audience.clone(),
            required: config.require.clone(),
            leeway: config.leeway.0.as_secs(),
            may_have_no_expiry: config.allow_no_expiry,
        }
    }

    /// Who the claims speak of, at `now`, in seconds since 1970.
    pub fn identity(&self, claims: Map<String, Value>, now: u64) -> Result<Identity, TokenFault> {
        let expires = self.check_times(&claims, now)?;
        self.check_issuer(&claims)?;
        self.check_audience(&claims)?;
        let is_missing = |name: &&String| claims.get(*name).is_none_or(Value::is_null);
        if let Some(name) = self.required.iter().find(is_missing) {
            return Err(TokenFault::Required(name.clone()));
        }
        let credential = Credential {
            auth: self.auth.clone(),
            subject: name(&claims, "sub")?,
            token_id: name(&claims, "jti")?,
            issued: time(&claims, "iat")?.map(|it| it.at),
            expires,
        };
        Ok(Identity::new(credential, claims))
    }

    /// When the token ends, the leeway included.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: u64,
    ) -> Result<Option<u64>, TokenFault> {
        // A part of a second counts against the token: it ends with the second before, and begins
        // with the one after.
        let expires = time(claims, "exp")?.map(|it| it.at);
        let begin = |it: Time| it.at + u64::from(it.has_fraction);
        if expires.is_none() && !self.may_have_no_expiry {
            return Err(TokenFault::NoExpiry);
        }
        let end = expires.map(|at| at + self.leeway);
        if let (Some(at), Some(end)) = (expires, end)
            && now >= end
        {
            return Err(TokenFault::Expired { at, now });
        }
        if let Some(at) = time(claims, "nbf")?.map(begin)
            && now + self.leeway < at
        {
            return Err(TokenFault::NotYet { at, now });
        }
        if let Some(at) = time(claims, "iat")?.map(begin)
            && now + self.leeway < at
        {
            return Err(TokenFault::IssuedInFuture { at, now });
        }
        Ok(end)
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        let is_right = issuer.is_some_and(|issuer| self.issuers.iter().any(|one| one == issuer));
        if is_right || self.issuers.is_empty() { Ok(()) } else { Err(TokenFault::Issuer) }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        let any = self.audiences.iter().any(|one| one == ANY);
        let is_ours = |name: &str| self.audiences.iter().any(|one| one == name);
        let is_right = match claims.get("aud") {
            _ if any => true,
            None => self.audiences.is_empty(),
            // RFC 7519, section 4.1.3: whoever is not named must reject the token.
            Some(_) if self.audiences.is_empty() => return Err(TokenFault::AudienceUnexpected),
            Some(Value::String(name)) => is_ours(name),
            // A list with something else in it is none.
            Some(Value::Array(names)) => {
                names.iter().all(Value::is_string)
                    && names.iter().filter_map(Value::as_str).any(is_ours)
            }
            Some(_) => false,
        };
        if is_right { Ok(()) } else { Err(TokenFault::Audience) }
    }
}

/// A time of a token, in whole seconds since 1970.
#[derive(Clone, Copy)]
struct Time {
    at: u64,
    has_fraction: bool,
}

/// A NumericDate (RFC 7519, section 2): a number, which may have a fraction.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Time>, TokenFault> {
    let fault = |fault| Err(TokenFault::NotTime { claim: name, fault });
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return fault(TimeFault::Kind) };
    let (at, has_fraction) = match (number.as_u64(), number.as_f64()) {
        (Some(at), _) => (at, false),
        (None, Some(float)) if float < 0.0 => return fault(TimeFault::Negative),
        // Casts of floats saturate.
        (None, Some(float)) => (float as u64, float.fract() != 0.0),
        (None, None) => return fault(TimeFault::Kind),
    };
    if at > TIME_MAX {
        return fault(TimeFault::TooGreat);
    }
    Ok(Some(Time { at, has_fraction }))
}

/// A claim that names somebody or something in logs and headers.
fn name(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Box<str>>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if is_name(text) => Ok(Some(text.as_str().into())),
        Some(_) => Err(TokenFault::NotName(name)),
    }
}

/// Whether a text can stand in a line of a log, and in a header.
pub fn is_name(text: &str) -> bool {
    // Line and paragraph separators, and what turns the direction of writing.
    let is_trick = |c| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|c: char| c.is_control() || is_trick(c))
}

/// The audience that stands for all.
pub const ANY: &str = "*";
/// Longest name of somebody or something.
pub const NAME_BYTES_MAX: usize = 1024;
/// The end of the year 9999. What is later was meant as milliseconds, or is an attack.
const TIME_MAX: u64 = 253_402_300_799;
