//! Why a TLS handshake came to nothing, in one word of a closed set.

use tidewire_runtime::tls::error::TlsError;

use crate::words::words;

words! {
    /// Why a TLS handshake came to nothing. To add one: a line here.
    pub enum Failure {
        /// Plain HTTP came.
        PlainHttp = "plain_http",
        /// What came is neither TLS nor HTTP.
        NotTls = "not_tls",
        /// Client and listener share no version, cipher or key exchange.
        NothingShared = "nothing_shared",
        /// No certificate has the name that the client asks for (`strict_sni`).
        UnknownName = "unknown_name",
        /// The client speaks nothing of `alpn`.
        NoProtocol = "no_protocol",
        /// The client's certificate is missing, or not accepted.
        ClientCertificate = "client_certificate",
        /// The client ended it, such as for not trusting the certificate.
        Alert = "alert",
        /// The client broke the protocol.
        Violation = "violation",
        /// The client ended its stream in the middle of it.
        Eof = "eof",
        /// The connection broke.
        Broken = "broken",
        /// It took longer than `client_hs`.
        Timeout = "timeout",
        /// The process drains.
        Drain = "drain",
        /// A fault of ours.
        Internal = "internal",
    }
}

impl Failure {
    /// `None` when nothing had begun: the client came and left without a word.
    pub fn of(error: &TlsError) -> Option<Self> {
        Some(match error {
            TlsError::Silent => return None,
            TlsError::PlainHttp => Self::PlainHttp,
            TlsError::NotTls => Self::NotTls,
            TlsError::NothingShared(_) => Self::NothingShared,
            TlsError::NoCertificate(_) => Self::UnknownName,
            TlsError::NoProtocol => Self::NoProtocol,
            TlsError::ClientCertificate(_) => Self::ClientCertificate,
            TlsError::Alert(_) => Self::Alert,
            TlsError::Violation(_) | TlsError::TooBig(_) => Self::Violation,
            TlsError::Eof => Self::Eof,
            TlsError::Io(_) => Self::Broken,
            TlsError::Internal(_) => Self::Internal,
            // Of handshakes with servers, and so of none here.
            TlsError::ServerCertificate(_)
            | TlsError::ServerAlert(_)
            | TlsError::ServerEof
            | TlsError::ServerNotTls => Self::Internal,
        })
    }
}
