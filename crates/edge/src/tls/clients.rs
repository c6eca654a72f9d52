//! Certificates of clients: whose are taken, and which are revoked.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::{parse_x509_certificate, x509::X509Version};

use super::date::Date;
use super::fault::{Fault, Finding};
use super::pem;
use super::sources::{ClientCertMode, ClientSources, Item};

/// Reads the files, and makes of them what says whether a client's certificate is right. `None`
/// when something is wrong, which is among the findings.
pub fn load(
    sources: &ClientSources,
    provider: &Arc<CryptoProvider>,
    now: Date,
    findings: &mut Vec<Finding>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    let mut lists = Vec::new();
    let before = findings.len();
    for (index, file) in sources.ca.iter().enumerate() {
        let read = pem::read(&file.path).and_then(|bytes| authorities(&bytes, &mut roots));
        findings.extend(read.err().map(|fault| Finding { item: Item::Ca(index), fault }));
    }
    let mut warnings = Vec::new();
    for (index, file) in sources.crl.iter().enumerate() {
        let item = Item::Crl(index);
        let read = pem::read(&file.path).and_then(|bytes| {
            let mut warn = |fault| warnings.push(Finding { item, fault });
            let found = revoked(&bytes, now, &mut warn)?;
            lists.extend(found.into_iter().map(|list| (index, list)));
            Ok(())
        });
        findings.extend(read.err().map(|fault| Finding { item, fault }));
    }
    let is_whole = findings.len() == before;
    findings.append(&mut warnings);
    if !is_whole {
        return None;
    }
    let roots = Arc::new(roots);
    // A list that is out of date says nothing: as with OpenSSL, its issuer's clients are refused
    // rather than let in with what may be stolen.
    let builder = |lists: Vec<CertificateRevocationListDer<'static>>| {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(lists)
            .enforce_revocation_expiration()
    };
    for (index, list) in &lists {
        if builder(vec![list.clone()]).build().is_err() {
            findings.push(Finding { item: Item::Crl(*index), fault: Fault::BadCrl });
            return None;
        }
    }
    let mut builder = builder(lists.into_iter().map(|(_, list)| list).collect());
    if sources.mode == ClientCertMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let built = builder.build().map_err(|_| Fault::NoCertificate);
    built.map_err(|fault| findings.push(Finding { item: Item::Ca(0), fault })).ok()
}

fn authorities(bytes: &[u8], roots: &mut RootCertStore) -> Result<(), Fault> {
    for (position, der) in pem::certificates(bytes)?.into_iter().enumerate() {
        let (_, parsed) =
            parse_x509_certificate(&der).map_err(|_| Fault::BadCertificate(position))?;
        // Before version 3 there was no way to say it.
        if parsed.version() == X509Version::V3 && !parsed.is_ca() {
            return Err(Fault::NotCa(position));
        }
        roots.add(der.clone()).map_err(|_| Fault::BadCertificate(position))?;
    }
    Ok(())
}

fn revoked(
    bytes: &[u8],
    now: Date,
    warn: &mut impl FnMut(Fault),
) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let lists = pem::revocation_lists(bytes)?;
    for der in &lists {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| Fault::BadCrl)?;
        if let Some(next) = list.next_update().map(Date::from).filter(|next| *next < now) {
            warn(Fault::CrlExpired(next));
        }
    }
    Ok(lists.into_iter().map(CertificateRevocationListDer::from).collect())
}
