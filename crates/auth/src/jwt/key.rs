//! A key that signatures are checked with, and the algorithms that it is for.
//!
//! The algorithms come from the key and the configuration: an RSA key checks no HMAC, whatever a
//! token says of itself. They are parsed once, when the key is read.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use aws_lc_rs::{hmac, signature::VerificationAlgorithm};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::algorithm::Algorithm;

/// A key, with what it can check.
#[derive(Debug)]
pub struct Key {
    /// `kid`, by which a token of the same set can choose it.
    pub id: Option<Box<str>>,
    verifiers: Vec<(Algorithm, Verifier)>,
}

#[derive(Debug)]
enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the secret has {bytes} bytes; {algorithm} needs at least {min}", 
            algorithm = .algorithm.as_str())]
    SecretShort { bytes: usize, algorithm: Algorithm, min: usize },
    #[error("it is a private key; only its public half belongs here")]
    Private,
    #[error("it has no PEM block `PUBLIC KEY` or `CERTIFICATE`")]
    NotPem,
    #[error("it has {0} keys; more than one belong into a key set (`jwks`)")]
    Several(usize),
    #[error("it is damaged")]
    Damaged,
    #[error("it is a key of another kind than RSA, P-256, P-384 and Ed25519")]
    Unsupported,
    #[error("it is an RSA key of {0} bits; at least 2048 and at most 8192 are needed")]
    RsaBits(usize),
    #[error("none of the `algorithms` is for a key of this kind, which is for {0}")]
    NoAlgorithm(String),
}

impl Key {
    /// A shared secret. Of `allowed`, what it is long enough for; an empty list is all.
    pub fn of_secret(secret: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let asked = allowed.iter().filter_map(|&one| Some((one, one.secret_bytes_min()?)));
        if let Some((algorithm, min)) = asked.into_iter().find(|(_, min)| secret.len() < *min) {
            return Err(KeyFault::SecretShort { bytes: secret.len(), algorithm, min });
        }
        let all = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        let min = |one: Algorithm| one.secret_bytes_min().unwrap_or(usize::MAX);
        if secret.len() < min(Algorithm::HS256) {
            let (algorithm, min) = (Algorithm::HS256, min(Algorithm::HS256));
            return Err(KeyFault::SecretShort { bytes: secret.len(), algorithm, min });
        }
        let fits = |one: &Algorithm| {
            (allowed.is_empty() || allowed.contains(one)) && min(*one) <= secret.len()
        };
        let verifiers: Vec<_> = all
            .into_iter()
            .filter(fits)
            .map(|one| (one, Verifier::Secret(Box::new(hmac::Key::new(hash(one), secret)))))
            .collect();
        some(verifiers, &all)
    }

    /// The one key of a PEM file: a public key or a certificate.
    pub fn of_pem(text: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let mut found = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| KeyFault::Damaged)?;
            match kind {
                SectionKind::PublicKey => {
                    found.push(Self::of_spki(&SubjectPublicKeyInfoDer::from(der), allowed)?);
                }
                SectionKind::Certificate => {
                    found.push(Self::of_certificate(&CertificateDer::from(der), allowed)?);
                }
                SectionKind::PrivateKey
                | SectionKind::RsaPrivateKey
                | SectionKind::EcPrivateKey => {
                    return Err(KeyFault::Private);
                }
                _ => {}
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(KeyFault::NotPem),
            several => Err(KeyFault::Several(several)),
        }
    }

    fn of_certificate(der: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| KeyFault::Damaged)?;
        Self::of_info(certificate.public_key(), allowed)
    }

    fn of_spki(der: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyFault::Damaged)?;
        if !rest.is_empty() {
            return Err(KeyFault::Damaged);
        }
        Self::of_info(&info, allowed)
    }

    fn of_info(info: &SubjectPublicKeyInfo<'_>, allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let raw = info.subject_public_key.data.as_ref();
        match info.parsed().map_err(|_| KeyFault::Damaged)? {
            PublicKey::RSA(key) => Self::of_rsa(key.modulus, key.exponent, allowed),
            PublicKey::EC(_) => {
                let curve = info.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
                match curve.map(|curve| curve.to_id_string()).as_deref() {
                    Some(OID_P256) => Self::of_point(Algorithm::ES256, raw, allowed),
                    Some(OID_P384) => Self::of_point(Algorithm::ES384, raw, allowed),
                    _ => Err(KeyFault::Unsupported),
                }
            }
            _ if info.algorithm.algorithm.to_id_string() == OID_ED25519 => {
                Self::of_ed25519(raw, allowed)
            }
            _ => Err(KeyFault::Unsupported),
        }
    }

    /// An RSA key of its numbers, big end first.
    pub fn of_rsa(n: &[u8], e: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let trim = |bytes: &'_ [u8]| -> Vec<u8> {
            bytes.iter().copied().skip_while(|&byte| byte == 0).collect()
        };
        let (n, e) = (trim(n), trim(e));
        let first = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = n.len() * 8 - first;
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(KeyFault::RsaBits(bits));
        }
        let components = RsaPublicKeyComponents { n: &n, e: &e };
        let of = |one: Algorithm, parameters: &'static RsaParameters| {
            let key = components.to_parsed_public_key(parameters);
            Ok((one, Verifier::Public(key.map_err(|_| KeyFault::Damaged)?)))
        };
        let asked = |one: &Algorithm| allowed.is_empty() || allowed.contains(one);
        let verifiers = RSA.iter().filter(|(one, _)| asked(one)).map(|&(one, it)| of(one, it));
        some(verifiers.collect::<Result<_, _>>()?, &RSA.map(|(one, _)| one))
    }

    /// An elliptic curve's point, uncompressed or compressed (SEC 1, section 2.3).
    pub fn of_point(
        algorithm: Algorithm,
        point: &[u8],
        allowed: &[Algorithm],
    ) -> Result<Self, KeyFault> {
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
            _ => return Err(KeyFault::Unsupported),
        };
        Self::of_public(algorithm, verification, point, allowed)
    }

    pub fn of_ed25519(raw: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        Self::of_public(Algorithm::EdDsa, &signature::ED25519, raw, allowed)
    }

    fn of_public(
        algorithm: Algorithm,
        verification: &'static dyn VerificationAlgorithm,
        raw: &[u8],
        allowed: &[Algorithm],
    ) -> Result<Self, KeyFault> {
        let key = ParsedPublicKey::new(verification, raw).map_err(|_| KeyFault::Damaged)?;
        let is_asked = allowed.is_empty() || allowed.contains(&algorithm);
        let verifiers = is_asked.then_some((algorithm, Verifier::Public(key)));
        some(verifiers.into_iter().collect(), &[algorithm])
    }

    pub fn with_id(self, id: Option<&str>) -> Self {
        Self { id: id.map(Into::into), ..self }
    }

    /// This key for one algorithm only; `None` when it is not for that.
    pub fn only(mut self, algorithm: Algorithm) -> Option<Self> {
        self.verifiers.retain(|(one, _)| *one == algorithm);
        (!self.verifiers.is_empty()).then_some(self)
    }

    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(one, _)| *one == algorithm)
    }

    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.verifiers.iter().map(|(one, _)| *one)
    }

    /// Whether this key has made `signature` over `signed`, by `algorithm`.
    pub fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verifier = self.verifiers.iter().find(|(one, _)| *one == algorithm);
        verifier.is_some_and(|(_, verifier)| match verifier {
            Verifier::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(signed, signature).is_ok(),
        })
    }
}

fn some(verifiers: Vec<(Algorithm, Verifier)>, all: &[Algorithm]) -> Result<Key, KeyFault> {
    if verifiers.is_empty() {
        let names: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
        return Err(KeyFault::NoAlgorithm(names.join(", ")));
    }
    Ok(Key { id: None, verifiers })
}

fn hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &signature::RSA_PSS_2048_8192_SHA512),
];
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_ED25519: &str = "1.3.101.112";
