//! Which certificate a client gets: by the name that it asks for (SNI), then by what it can check.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::sources::UnknownSni;

/// The certificates of a listener, by name.
#[derive(Debug)]
pub struct ByName {
    exact: HashMap<Box<str>, Alike>,
    /// By what is behind the `*.`.
    wildcard: HashMap<Box<str>, Alike>,
    first: Alike,
    unknown: UnknownSni,
}

/// Certificates for one name, such as one with an RSA and one with an ECDSA key. At least one.
type Alike = Vec<Arc<CertifiedKey>>;

impl ByName {
    /// Of the certificates and the names of each; the first is for clients that name no host.
    /// `None` when there is none.
    pub fn new(
        certificates: &[(Arc<CertifiedKey>, Vec<String>)],
        unknown: UnknownSni,
    ) -> Option<Self> {
        let (default, names) = certificates.first()?;
        let mut by_name =
            Self { exact: HashMap::new(), wildcard: HashMap::new(), first: Vec::new(), unknown };
        for (certificate, names) in certificates {
            for name in names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcard, parent),
                    None => (&mut by_name.exact, name.as_str()),
                };
                let alike = table.entry(name.into()).or_default();
                if !alike.iter().any(|known| Arc::ptr_eq(known, certificate)) {
                    alike.push(Arc::clone(certificate));
                }
            }
        }
        let same_name = names.first().and_then(|name| by_name.find(&name.replacen('*', "x", 1)));
        by_name.first = same_name.cloned().unwrap_or_else(|| vec![Arc::clone(default)]);
        Some(by_name)
    }

    /// Those for a name, in lower case.
    fn find(&self, name: &str) -> Option<&Alike> {
        self.exact.get(name).or_else(|| {
            let (label, parent) = name.split_once('.')?;
            if label.is_empty() { None } else { self.wildcard.get(parent) }
        })
    }

    fn choose(&self, name: Option<&str>) -> Option<&Alike> {
        let name = name.map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| self.find(name));
        match self.unknown {
            UnknownSni::Default => Some(found.unwrap_or(&self.first)),
            UnknownSni::Refused => found,
        }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let alike = self.choose(hello.server_name())?;
        let offered = hello.signature_schemes();
        let fits = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(offered).is_some();
        let is_rsa = |one: &Arc<CertifiedKey>| one.key.algorithm() == SignatureAlgorithm::RSA;
        // A signature by RSA costs us ten of the others. When none fits, rustls says so.
        let best = alike.iter().filter(fits).min_by_key(|one| is_rsa(one));
        best.or_else(|| alike.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rustls::sign::SigningKey;

    use super::*;

    #[derive(Debug)]
    struct NoKey;

    impl SigningKey for NoKey {
        fn choose_scheme(
            &self,
            _: &[rustls::SignatureScheme],
        ) -> Option<Box<dyn rustls::sign::Signer>> {
            None
        }

        fn algorithm(&self) -> SignatureAlgorithm {
            SignatureAlgorithm::ECDSA
        }
    }

    /// Which of these certificates, each with its names, a client gets that asks for `name`.
    fn check(
        certificates: &[&str],
        unknown: UnknownSni,
        name: Option<&str>,
        expected: Option<usize>,
    ) {
        let certificates: Vec<_> = certificates
            .iter()
            .map(|names| {
                let names = names.split_whitespace().map(str::to_owned).collect();
                (Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey))), names)
            })
            .collect();
        let by_name = ByName::new(&certificates, unknown).unwrap();
        let found = by_name.choose(name).map(|alike| {
            certificates.iter().position(|(one, _)| Arc::ptr_eq(one, &alike[0])).unwrap()
        });
        assert_eq!(found, expected, "{name:?}");
    }

    #[test]
    fn an_exact_name_comes_before_a_wildcard_and_that_before_the_default() {
        let certificates = ["first.test", "*.a.test a.test", "b.a.test"];
        let check = |name, expected| {
            check(&certificates, UnknownSni::Default, Some(name), Some(expected));
        };
        check("first.test", 0);
        check("a.test", 1);
        check("x.a.test", 1);
        check("X.A.Test", 1);
        check("b.a.test", 2);
        check("x.b.a.test", 0);
        check(".a.test", 0);
        check("unknown.test", 0);
        check("", 0);
    }

    #[test]
    fn a_strict_listener_has_no_default() {
        let certificates = ["first.test", "*.a.test"];
        let check = |name, expected| check(&certificates, UnknownSni::Refused, name, expected);
        check(Some("first.test"), Some(0));
        check(Some("x.a.test"), Some(1));
        check(Some("a.test"), None);
        check(Some("unknown.test"), None);
        check(None, None);
    }

    #[test]
    fn a_certificate_without_names_can_be_the_default() {
        check(&["", "a.test"], UnknownSni::Default, None, Some(0));
        check(&["", "a.test"], UnknownSni::Default, Some("a.test"), Some(1));
        check(&["*.a.test", "a.test"], UnknownSni::Default, None, Some(0));
    }
}
