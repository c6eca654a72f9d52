//! A certificate that comes from an ACME authority: not there at first, swapped in when it is, and
//! in its place what the authority is shown that asks for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::date::Date;
use super::resolver::ByName;
use super::sources::UnknownSni;
use crate::challenge::{self, Challenges};

/// The certificate of some names, once there is one.
pub struct AcmeCertificate {
    /// In lower case, sorted.
    names: Vec<String>,
    challenges: Arc<Challenges>,
    current: ArcSwapOption<Held>,
    /// Whether the log has heard of a client that came before the certificate.
    has_refused: AtomicBool,
}

struct Held {
    certified: Arc<CertifiedKey>,
    not_after: Date,
}

impl AcmeCertificate {
    pub fn new(names: &[String], challenges: Arc<Challenges>) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let (current, has_refused) = (ArcSwapOption::empty(), AtomicBool::new(false));
        Self { names, challenges, current, has_refused }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// New handshakes get this one.
    pub fn install(&self, certified: Arc<CertifiedKey>, not_after: Date) {
        self.current.store(Some(Arc::new(Held { certified, not_after })));
        self.has_refused.store(false, Ordering::Relaxed);
    }

    /// Until when the certificate is valid; `None` while there is none.
    pub fn not_after(&self) -> Option<Date> {
        self.current.load().as_ref().map(|held| held.not_after)
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let held = self.current.load();
        if held.is_none() && !self.has_refused.swap(true, Ordering::Relaxed) {
            let names = self.names.join(",");
            tracing::warn!(names, "TLS: clients are refused until there is a certificate");
        }
        held.as_ref().map(|held| Arc::clone(&held.certified))
    }
}

/// Keys are in here.
impl fmt::Debug for AcmeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The certificates of a listener of which one comes from an authority.
#[derive(Debug)]
pub struct WithAcme {
    pub acme: Arc<AcmeCertificate>,
    /// Those in files, if there are any.
    pub files: Option<Arc<ByName>>,
    pub unknown: UnknownSni,
}

impl ResolvesServerCert for WithAcme {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        // Nobody but an authority offers it, and it is shown nothing else (RFC 8737, section 3).
        if hello.alpn().is_some_and(|mut offered| offered.any(|it| it == challenge::ALPN)) {
            return self.acme.challenges.certificate(name.as_deref()?);
        }
        if name.is_some_and(|name| self.acme.names.contains(&name)) {
            return self.acme.certified();
        }
        match (&self.files, self.unknown) {
            (Some(files), _) => files.resolve(hello),
            (None, UnknownSni::Default) => self.acme.certified(),
            (None, UnknownSni::Refused) => None,
        }
    }
}
