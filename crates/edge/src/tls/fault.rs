//! What is wrong with the files of a listener's TLS.

use std::io;

use super::date::Date;
use super::sources::Item;

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub item: Item,
    pub fault: Fault,
}

/// What is wrong with a file: said behind its name and, after a semicolon, what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("is not there")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    #[error("is longer than {} MiB; expected a file of certificates or a key", FILE_BYTES_MAX >> 20)]
    TooLong,
    #[error("is not PEM: {0}; expected what begins with `-----BEGIN`")]
    NotPem(&'static str),
    #[error("is DER; expected PEM, as `openssl x509 -inform der` makes it")]
    IsDer,
    #[error("has no certificate; expected `-----BEGIN CERTIFICATE-----`")]
    NoCertificate,
    #[error("has a key and no certificate; are `cert` and `key` the wrong way round?")]
    KeyNotCertificate,
    #[error("has a broken certificate, the {}; expected X.509", ordinal(*.0))]
    BadCertificate(usize),
    #[error("has no private key; expected such as `-----BEGIN PRIVATE KEY-----`")]
    NoKey,
    #[error("has a certificate and no key; are `cert` and `key` the wrong way round?")]
    CertificateNotKey,
    #[error("has {0} private keys; expected one")]
    SeveralKeys(usize),
    #[error(
        "is encrypted, and nobody is asked for a passphrase; \
         expected it decrypted, as `openssl pkey -in FILE -out FILE` does it"
    )]
    EncryptedKey,
    #[error("has a key of a kind that is not spoken; {KEYS}")]
    UnfitKey,
    #[error("is not the key of the certificate; expected the key that was certified")]
    KeyMismatch,
    #[error("has the certificate of the key in {} place; expected it first", ordinal(*.0))]
    LeafNotFirst(usize),
    #[error(
        "is out of order: the {} certificate has not issued the one before it; \
         expected that of `{issuer}`, or nothing behind it", ordinal(*.position)
    )]
    ChainBroken { position: usize, issuer: String },
    #[error("expired on {0}; clients refuse it")]
    Expired(Date),
    #[error("has a certificate of an issuer, the {}, that expired on {on}", ordinal(*.position))]
    IssuerExpired { position: usize, on: Date },
    #[error("is not valid before {0}; clients refuse it until then")]
    NotYetValid(Date),
    #[error("can be read by every user of this machine; expected `chmod 600`")]
    WorldReadable,
    #[error("is no OCSP response; expected DER, as `openssl ocsp -respout` writes it")]
    NotOcsp,
    #[error("is an OCSP response that says `{0}`; expected one that is successful")]
    OcspFailed(&'static str),
    #[error("is about another certificate; expected the OCSP response for this one")]
    OcspForAnother,
    #[error("says that the certificate is revoked")]
    OcspRevoked,
    #[error("was good until {0}: it is not sent; expected a newer response")]
    OcspExpired(Date),
    #[error("has a certificate that is not a CA's, the {}; expected those that sign", ordinal(*.0))]
    NotCa(usize),
    #[error("has no revocation list; expected `-----BEGIN X509 CRL-----`")]
    NoCrl,
    #[error("has a broken revocation list; expected X.509, version 2")]
    BadCrl,
    #[error("was to be renewed by {0}: clients of its issuer are refused; expected a newer list")]
    CrlExpired(Date),
}

/// Whether TLS can be spoken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Error,
    Warning,
}

impl Fault {
    pub fn weight(&self) -> Weight {
        match self {
            Self::Expired(_)
            | Self::IssuerExpired { .. }
            | Self::NotYetValid(_)
            | Self::WorldReadable
            | Self::OcspExpired(_)
            | Self::CrlExpired(_) => Weight::Warning,
            _ => Weight::Error,
        }
    }
}

/// What is wrong, and what would be right, if there is something to say.
pub fn halves(text: &str) -> (&str, &str) {
    text.split_once("; ").unwrap_or((text, ""))
}

/// From 0, as people count.
fn ordinal(index: usize) -> String {
    let number = index + 1;
    match number {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        _ => format!("{number}th"),
    }
}

const KEYS: &str = "expected RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) or Ed25519";

/// No chain or key has a hundredth of it; a CA bundle of all there are has a fifth.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
