//! Why a token is not accepted.

use crate::method::Denied;

/// What is wrong with a token. The texts are for the operator: they may say what a client should
/// not learn, but nothing that the token says and could move a cursor, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the token has {bytes} bytes, more than the {max} of `max_bytes`")]
    TooLong { bytes: usize, max: usize },
    #[error("the token is encrypted (JWE, five parts); only signed tokens (JWS) are taken")]
    Encrypted,
    #[error("a token has three parts with a dot between them, this has {0}")]
    Parts(usize),
    #[error("the {0} of the token is not base64url without padding")]
    NotBase64(&'static str),
    #[error(
        "the {0} of the token is not a JSON object, or has a member twice, or is too deep, or has \
         a number that is too great"
    )]
    NotObject(&'static str),
    #[error("the token has no signature")]
    NoSignature,
    #[error("the token's `alg` is `none`: it is not signed")]
    AlgorithmNone,
    #[error("the token's `alg` is missing, or is none that there is")]
    AlgorithmUnknown,
    #[error("the token's header has `{0}`, which changes how it must be read")]
    Critical(&'static str),
    #[error("the token's `kid` is not a string")]
    KeyIdKind,
    #[error("the token's `typ` is not `{0}`")]
    Type(String),
    #[error("there is no key for a token with `alg` {algorithm}{}",
            if *.has_key_id { " and this `kid`" } else { "" })]
    NoKey { algorithm: &'static str, has_key_id: bool },
    #[error("no key is loaded yet")]
    NoKeys,
    #[error("the signature is wrong: another key signed the token, or it was changed")]
    Signature,
    #[error("`{claim}` must be a number of seconds since 1970{}", time_hint(.fault))]
    NotTime { claim: &'static str, fault: TimeFault },
    #[error("the token has no `exp`; it would never end (`allow_no_expiry = true` takes such)")]
    NoExpiry,
    #[error("the token expired at {at}, {} s ago", .now.saturating_sub(*.at))]
    Expired { at: u64, now: u64 },
    #[error("the token is valid from {at} on, in {} s (`nbf`)", .at.saturating_sub(*.now))]
    NotYet { at: u64, now: u64 },
    #[error("the token was issued at {at}, {} s in the future (`iat`)", .at.saturating_sub(*.now))]
    IssuedInFuture { at: u64, now: u64 },
    #[error("the token's issuer (`iss`) is none of `issuer`")]
    Issuer,
    #[error("the token's audience (`aud`) is none of `audience`")]
    Audience,
    #[error(
        "the token is for an audience (`aud`), and no `audience` is configured \
         (`audience = [\"*\"]` takes any)"
    )]
    AudienceUnexpected,
    #[error("the token has no claim `{0}`, which `require` names")]
    Required(String),
    #[error(
        "`{0}` must be a string of 1 to 1024 bytes without control characters: it goes into logs"
    )]
    NotName(&'static str),
}

/// What is wrong with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    Kind,
    Negative,
    /// After the year 9999.
    TooGreat,
}

fn time_hint(fault: &TimeFault) -> &'static str {
    match fault {
        TimeFault::Kind => ", not of another kind",
        TimeFault::Negative => ", not before it",
        TimeFault::TooGreat => ", not milliseconds",
    }
}

impl TokenFault {
    /// As the client hears it: who has a token that was once good may know why it is not now, who
    /// tries hears nothing.
    pub fn denied(&self) -> Denied {
        Denied::Invalid(match self {
            Self::NoKeys => return Denied::Unavailable("tokens cannot be checked now"),
            Self::TooLong { .. } => "the token is too long".into(),
            Self::Expired { .. } => "the token has expired".into(),
            Self::NotYet { .. } | Self::IssuedInFuture { .. } => {
                "the token is not valid yet".into()
            }
            Self::Audience | Self::AudienceUnexpected => "the token is not for here".into(),
            _ => "the token is not valid".into(),
        })
    }
}
