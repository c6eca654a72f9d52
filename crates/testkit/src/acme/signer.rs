//! Signs: a root, an authority below it, and what it issues.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyPair, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use super::Mood;

/// A root and an authority below it.
#[derive(Debug)]
pub struct Signer {
    root: CertifiedIssuer<'static, KeyPair>,
    below: CertifiedIssuer<'static, KeyPair>,
}

impl Signer {
    pub fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("root of the testkit"), key())
            .expect("it signs itself");
        let below = CertifiedIssuer::signed_by(authority("authority of the testkit"), key(), &root)
            .expect("the root signs");
        Self { root, below }
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// For the authority's own HTTPS.
    pub fn own(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = key();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.below).expect("the authority signs");
        let chain = vec![certificate.der().clone(), self.below.der().clone()];
        (chain, PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key"))
    }

    /// The chain for a request, whose names must be these; and its public key. Or why not.
    pub fn sign(
        &self,
        csr: &[u8],
        names: &[String],
        mood: &Mood,
    ) -> Result<(String, Vec<u8>), String> {
        // Its signature is verified on the way.
        let csr = CertificateSigningRequestDer::from(csr);
        let mut csr = CertificateSigningRequestParams::from_der(&csr).map_err(|e| e.to_string())?;
        let name = |san: &SanType| match san {
            SanType::DnsName(name) => name.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        let mut asked: Vec<String> = csr.params.subject_alt_names.iter().map(name).collect();
        asked.sort();
        if asked != names {
            return Err(format!("the request is for {asked:?}, the order for {names:?}"));
        }
        let now = SystemTime::now();
        csr.params.not_before = (now - mood.backdated).into();
        csr.params.not_after = (now + mood.lifetime).into();
        let public_key = csr.public_key.der_bytes().to_vec();
        let signed = if mood.signs_another_key {
            csr.params.signed_by(&key(), &self.below)
        } else {
            csr.signed_by(&self.below)
        };
        let leaf = signed.map_err(|error| error.to_string())?.pem();
        Ok((format!("{leaf}{}", self.below.pem()), public_key))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = (SystemTime::now() - Duration::from_secs(86_400)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(365 * 86_400)).into();
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}
