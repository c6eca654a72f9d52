//! Why TLS with a server came to nothing, in one word of a closed set.

use rustls::{AlertDescription, CertificateError, Error};
use tidewire_runtime::tls::error::TlsError;

use crate::words::words;

words! {
    /// Why TLS with a server came to nothing. To add one: a line here.
    pub enum Failure {
        /// The certificate is of an authority that is not believed.
        UnknownIssuer = "unknown_issuer",
        /// The certificate is for other names.
        WrongName = "wrong_name",
        /// The certificate has expired.
        Expired = "expired",
        /// The certificate is not right for another reason.
        Certificate = "certificate",
        /// The server wants a certificate of ours, or another one.
        ClientCertificate = "client_certificate",
        /// The server ended it for another reason.
        Alert = "alert",
        /// What the server says is not TLS.
        NotTls = "not_tls",
        /// Server and edge share no version, cipher or key exchange, or the server speaks no HTTP/1.1.
        NothingShared = "nothing_shared",
        /// The server broke the protocol.
        Violation = "violation",
        /// The server ended its stream in the middle of it.
        Eof = "eof",
        /// The connection broke.
        Broken = "broken",
        /// It took longer than `timeout.connect`.
        Timeout = "timeout",
        /// A fault of ours.
        Internal = "internal",
    }
}

impl Failure {
    pub fn of(error: &TlsError) -> Self {
        match error {
            TlsError::ServerCertificate(error) => Self::of_certificate(error),
            TlsError::ServerAlert(alert) => Self::of_alert(*alert),
            TlsError::ServerNotTls => Self::NotTls,
            TlsError::NothingShared(_) | TlsError::NoProtocol => Self::NothingShared,
            TlsError::Violation(_) | TlsError::TooBig(_) => Self::Violation,
            TlsError::ServerEof => Self::Eof,
            TlsError::Io(_) => Self::Broken,
            TlsError::Internal(_) => Self::Internal,
            // Of handshakes with clients, and so of none here.
            TlsError::PlainHttp
            | TlsError::NotTls
            | TlsError::NoCertificate(_)
            | TlsError::ClientCertificate(_)
            | TlsError::Alert(_)
            | TlsError::Silent
            | TlsError::Eof => Self::Internal,
        }
    }

    fn of_certificate(error: &Error) -> Self {
        use CertificateError as E;
        match error {
            Error::InvalidCertificate(E::UnknownIssuer) => Self::UnknownIssuer,
            Error::InvalidCertificate(E::NotValidForName | E::NotValidForNameContext { .. }) => {
                Self::WrongName
            }
            Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => Self::Expired,
            _ => Self::Certificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied => Self::ClientCertificate,
            A::ProtocolVersion | A::InsufficientSecurity | A::NoApplicationProtocol => {
                Self::NothingShared
            }
            _ => Self::Alert,
        }
    }
}
