//! A server's certificate with those of its issuers: for which names, until when, in which order.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::date::Date;
use super::fault::Fault;

/// What is known of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The host names that it is for, in lower case, `*.` in some.
    pub names: Vec<String>,
    pub not_before: Date,
    pub not_after: Date,
    /// As it is in the certificate, without leading zeros.
    pub serial: Vec<u8>,
}

/// The certificate that clients see, and that those behind it are its issuers, in their order.
/// `public_key` is that of the private key, as the certificate has it.
pub fn check(
    chain: &[CertificateDer<'static>],
    public_key: Option<&[u8]>,
    now: Date,
    warnings: &mut Vec<Fault>,
) -> Result<Leaf, Fault> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (position, der) in chain.iter().enumerate() {
        let Ok((_, certificate)) = parse_x509_certificate(der) else {
            return Err(Fault::BadCertificate(position));
        };
        parsed.push(certificate);
    }
    let first = parsed.first().ok_or(Fault::NoCertificate)?;
    if let Some(key) = public_key {
        let place = parsed.iter().position(|one| one.public_key().raw == key);
        match place {
            Some(0) => {}
            Some(position) => return Err(Fault::LeafNotFirst(position)),
            None => return Err(Fault::KeyMismatch),
        }
    }
    in_order(&parsed)?;
    let leaf = Leaf {
        names: names(first),
        not_before: first.validity().not_before.into(),
        not_after: first.validity().not_after.into(),
        serial: first.raw_serial().iter().copied().skip_while(|&byte| byte == 0).collect(),
    };
    if leaf.not_after < now {
        warnings.push(Fault::Expired(leaf.not_after));
    } else if leaf.not_before > now {
        warnings.push(Fault::NotYetValid(leaf.not_before));
    }
    for (position, issuer) in parsed.iter().enumerate().skip(1) {
        let on = Date::from(issuer.validity().not_after);
        if on < now {
            warnings.push(Fault::IssuerExpired { position, on });
        }
    }
    Ok(leaf)
}

/// TLS 1.3 leaves clients to sort it (RFC 8446, section 4.4.2); those of TLS 1.2 need not.
fn in_order(chain: &[X509Certificate<'_>]) -> Result<(), Fault> {
    for (position, pair) in chain.windows(2).enumerate() {
        let [subject, issuer] = pair else { continue };
        if subject.issuer().as_raw() != issuer.subject().as_raw() {
            let issuer = subject.issuer().to_string();
            return Err(Fault::ChainBroken { position: position + 1, issuer });
        }
    }
    Ok(())
}

/// The names in the certificate's list or, when it has no list, its common name.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let listed = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<&str> = match &listed {
        Some(list) => list.value.general_names.iter().filter_map(dns_name).collect(),
        None => {
            let names = certificate.subject().iter_common_name();
            names.filter_map(|name| name.as_str().ok()).collect()
        }
    };
    names.into_iter().map(str::to_ascii_lowercase).collect()
}

fn dns_name<'n>(name: &GeneralName<'n>) -> Option<&'n str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}
