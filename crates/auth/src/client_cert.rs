//! The client's certificate of the TLS handshake, which has been verified there.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientCertConfig, SubjectFrom};
use crate::identity::{Credential, Identity};
use crate::jwt::claims::is_name;
use crate::method::{Accepted, Denied, Found, Presented};

/// The method `client_cert` of an `[[auth]]`.
#[derive(Debug)]
pub struct ClientCert {
    auth: Box<str>,
    subject: SubjectFrom,
}

impl ClientCert {
    pub fn new(auth: &str, config: &ClientCertConfig) -> Self {
        Self { auth: auth.into(), subject: config.subject }
    }

    pub fn authenticate(&self, presented: &Presented<'_>, now: u64) -> Result<Accepted, Denied> {
        let Some(der) = presented.certificate else {
            return Err(Denied::Missing("a client certificate is needed"));
        };
        let wrong = || Denied::Invalid("the client certificate cannot be used".into());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| wrong())?;
        let names = Names::of(&certificate).ok_or_else(wrong)?;
        let subject = names.subject(self.subject).ok_or_else(|| {
            Denied::Invalid("the client certificate does not name its owner".into())
        })?;
        let end = u64::try_from(certificate.validity().not_after.timestamp());
        let end = end.map_err(|_| wrong())?;
        // The handshake may be of a session that began while it was valid.
        if now > end {
            return Err(Denied::Invalid("the client certificate has expired".into()));
        }
        let issued = u64::try_from(certificate.validity().not_before.timestamp()).ok();
        let mut claims = names.claims();
        claims.insert("sub".into(), subject.into());
        claims.insert("serial".into(), certificate.raw_serial_as_string().into());
        let fingerprint = hex(&Sha256::digest(der));
        claims.insert("fingerprint".into(), fingerprint.clone().into());
        let credential = Credential {
            auth: self.auth.clone(),
            subject: Some(subject.into()),
            token_id: Some(fingerprint.into()),
            issued,
            expires: Some(end),
        };
        let identity = Identity::new(credential, claims);
        Ok(Accepted { identity, found: Found::Certificate, is_passed_on: false })
    }

    pub fn auth(&self) -> &str {
        &self.auth
    }
}

/// The names that a certificate gives its owner.
struct Names<'c> {
    common: Option<&'c str>,
    dns: Vec<&'c str>,
    uris: Vec<&'c str>,
    emails: Vec<&'c str>,
}

impl<'c> Names<'c> {
    /// `None` when it cannot be said who that is: a name that is not text, or two common names.
    fn of(certificate: &'c X509Certificate<'_>) -> Option<Self> {
        let mut commons = certificate.subject().iter_common_name();
        let common = match (commons.next(), commons.next()) {
            (None, _) => None,
            (Some(name), None) => Some(name.as_str().ok().filter(|name| is_name(name))?),
            (Some(_), Some(_)) => return None,
        };
        let mut names = Self { common, dns: Vec::new(), uris: Vec::new(), emails: Vec::new() };
        let alternatives = certificate.subject_alternative_name().ok()?;
        let all = alternatives.map_or(&[][..], |found| &found.value.general_names);
        for name in all {
            let (list, name) = match name {
                GeneralName::DNSName(name) => (&mut names.dns, *name),
                GeneralName::URI(name) => (&mut names.uris, *name),
                GeneralName::RFC822Name(name) => (&mut names.emails, *name),
                _ => continue,
            };
            list.push(Some(name).filter(|name| is_name(name))?);
        }
        Some(names)
    }

    fn subject(&self, from: SubjectFrom) -> Option<&'c str> {
        match from {
            SubjectFrom::Cn => self.common,
            SubjectFrom::SanDns => self.dns.first().copied(),
            SubjectFrom::SanUri => self.uris.first().copied(),
            SubjectFrom::SanEmail => self.emails.first().copied(),
        }
    }

    fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        if let Some(common) = self.common {
            claims.insert("cn".into(), common.into());
        }
        for (name, list) in [("dns", &self.dns), ("uri", &self.uris), ("email", &self.emails)] {
            if !list.is_empty() {
                claims.insert(name.into(), list.clone().into());
            }
        }
        claims
    }
}

/// Lower case, without colons.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
