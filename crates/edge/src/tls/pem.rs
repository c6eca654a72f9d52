//! Files of certificates, keys and revocation lists: read, and taken apart.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::fault::{FILE_BYTES_MAX, Fault};

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => Err(Fault::TooLong),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        kind => Fault::Unreadable(kind),
    }
}

/// Whether every user of the machine can read a file.
pub fn is_world_readable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// The certificates of a file, at least one.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let sections = sections(bytes)?;
    let has_key = sections.iter().any(|(kind, _)| is_key(*kind)) || is_encrypted(bytes);
    let certificates: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    match certificates.as_slice() {
        [] if has_key => Err(Fault::KeyNotCertificate),
        [] => Err(Fault::NoCertificate),
        _ => Ok(certificates),
    }
}

/// The one private key of a file.
pub fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    // Before the sections: in the old form, the key's own lines are what cannot be read.
    if is_encrypted(bytes) {
        return Err(Fault::EncryptedKey);
    }
    let mut sections = sections(bytes)?;
    let has_certificate = sections.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    sections.retain(|(kind, _)| is_key(*kind));
    match sections.len() {
        0 if has_certificate => return Err(Fault::CertificateNotKey),
        0 => return Err(Fault::NoKey),
        1 => {}
        several => return Err(Fault::SeveralKeys(several)),
    }
    let key = sections.pop().and_then(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    key.ok_or(Fault::NoKey)
}

/// The revocation lists of a file, at least one.
pub fn revocation_lists(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    // Authorities publish them in DER.
    if bytes.starts_with(&DER_SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    let sections = sections(bytes)?.into_iter();
    let lists: Vec<_> =
        sections.filter(|(kind, _)| *kind == SectionKind::Crl).map(|(_, der)| der).collect();
    if lists.is_empty() { Err(Fault::NoCrl) } else { Ok(lists) }
}

fn sections(bytes: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, Fault> {
    if bytes.starts_with(&DER_SEQUENCE) {
        return Err(Fault::IsDer);
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| {
        Fault::NotPem(match error {
            pem::Error::MissingSectionEnd { .. } => "a section has no end",
            pem::Error::IllegalSectionStart { .. } => "a section's first line is broken",
            _ => "a section is not base64",
        })
    })
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// PKCS#8's own form, or the older one with a header (RFC 1421, section 4.6.1.1).
fn is_encrypted(bytes: &[u8]) -> bool {
    const MARKS: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    MARKS.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == *mark))
}

/// How DER begins that is longer than 255 bytes, as all of these are.
const DER_SEQUENCE: [u8; 2] = [0x30, 0x82];
