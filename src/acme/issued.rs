//! A certificate with its key, as it is kept: one PEM text, the key first, so that the two are
//! never of different orders.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::names::Names;

/// A certificate that fits its key and its names.
#[derive(Clone)]
pub struct Issued {
    pub certified: Arc<CertifiedKey>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Why a text is no certificate for these names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    #[error("it is not PEM: {0}")]
    Pem(String),
    #[error("it has no certificate")]
    NoCertificate,
    #[error("its certificate cannot be read: {0}")]
    Certificate(String),
    #[error("its key is not the certificate's: {0}")]
    Key(String),
    #[error("its certificate is not for {0}")]
    Name(String),
    #[error("its certificate has ended")]
    Ended,
}

impl Issued {
    /// Reads what [`pem`] has made, and finds out that it can be served now.
    pub fn read(pem: &[u8], names: &Names, now: SystemTime) -> Result<Self, IssuedError> {
        let wrong = |error: rustls_pki_types::pem::Error| IssuedError::Pem(error.to_string());
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(wrong)?;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(wrong)?;
        let first = chain.first().ok_or(IssuedError::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| IssuedError::Certificate(error.to_string()))?;
        let known = names_of(&parsed);
        if let Some(missing) = names.iter().find(|name| !known.iter().any(|it| it == name)) {
            return Err(IssuedError::Name(missing.to_owned()));
        }
        let not_before = time(parsed.validity().not_before.timestamp());
        let not_after = time(parsed.validity().not_after.timestamp());
        if not_after <= now {
            return Err(IssuedError::Ended);
        }
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| IssuedError::Key(error.to_string()))?;
        Ok(Self { certified: Arc::new(certified), not_before, not_after })
    }

    /// Whether both are the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.certified.cert.first() == other.certified.cert.first()
    }
}

/// Without the key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The text that keeps a key and its chain together.
pub fn pem(key: &str, chain: &str) -> Vec<u8> {
    format!("{}\n{}\n", key.trim_end(), chain.trim()).into_bytes()
}

/// The DNS names that a certificate is for, in lower case.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(dns).collect()
}

fn time(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(timestamp.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    fn check(key: &str, chain: &str, names: &[&str], expected: &str) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let names = Names::new(&names).unwrap();
        let read = Issued::read(&pem(key, chain), &names, SystemTime::now());
        let said = read.map_or_else(|error| error.to_string(), |_| "fits".to_owned());
        assert!(said.contains(expected), "{said:?} instead of {expected:?}");
    }

    #[test]
    fn only_what_fits_is_served() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let chain = certificate(&["A.test", "b.test"], &key);
        check(&key.serialize_pem(), &chain, &["b.test", "a.test"], "fits");
        check(&key.serialize_pem(), &chain, &["c.test"], "not for c.test");
        check(&other.serialize_pem(), &chain, &["a.test"], "key is not the certificate's");
        check(&key.serialize_pem(), "", &["a.test"], "no certificate");
        check("", &chain, &["a.test"], "not PEM");
    }

    #[test]
    fn what_has_ended_is_not_served() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let chain = params.self_signed(&key).unwrap().pem();
        check(&key.serialize_pem(), &chain, &["a.test"], "has ended");
    }
}
