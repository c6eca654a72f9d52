//! Why a TLS connection failed, and whose doing it was.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why a handshake, or an open TLS connection, came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The client's: `http://` or `ws://` where it should be `https://` or `wss://`.
    #[error("plain HTTP came, where TLS is spoken")]
    PlainHttp,
    /// The client's, who speaks something else.
    #[error("what came is not TLS")]
    NotTls,
    /// Between both: no version, cipher suite or key exchange that client and listener share.
    #[error("nothing in common: {0}")]
    NothingShared(Error),
    /// Between both: there is no certificate for the name that the client asks for.
    #[error("no certificate for {0:?}, the name that the client asks for")]
    NoCertificate(Box<str>),
    /// Between both: none of the protocols that the client offers by ALPN is spoken here.
    #[error("none of the protocols that the client offers by ALPN is spoken here")]
    NoProtocol,
    /// The client's: it showed no certificate, or one that is not accepted.
    #[error("the client's certificate: {0}")]
    ClientCertificate(Error),
    /// The client's decision, such as that it does not trust our certificate.
    #[error("the client gave up: {0:?}")]
    Alert(AlertDescription),
    /// The client's: it broke the protocol, or what it sent was changed on its way.
    #[error("{0}")]
    Violation(Error),
    /// The client's: it sends what would have to be kept and never gets whole.
    #[error("a handshake message of more than {0} bytes")]
    TooBig(usize),
    /// The client's: it came and left without a word, as a probe of the port does.
    #[error("the client left without a word")]
    Silent,
    /// The client's: it went away.
    #[error("the client ended the connection before the handshake was over")]
    Eof,
    /// The network's, or whoever reset the connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server's: its certificate is not one that may speak for it.
    #[error("the server's certificate {}", of_certificate(.0))]
    ServerCertificate(Error),
    /// The server's decision, such as that it wants a certificate of ours.
    #[error("the server ended it: {}", of_alert(*.0))]
    ServerAlert(AlertDescription),
    /// The server's: it went away.
    #[error("the server ended the connection before the handshake was over")]
    ServerEof,
    /// The server's: it speaks something else on that port.
    #[error("what the server says is not TLS")]
    ServerNotTls,
    /// Ours.
    #[error("{0}")]
    Internal(Error),
}

impl TlsError {
    pub(super) fn new(error: Error) -> Self {
        match error {
            Error::PeerIncompatible(_) => Self::NothingShared(error),
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::NoCertificatesPresented
            | Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_) => Self::ClientCertificate(error),
            Error::AlertReceived(alert) => Self::Alert(alert),
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerSentOversizedRecord
            | Error::DecryptError => Self::Violation(error),
            _ => Self::Internal(error),
        }
    }

    /// What a server's stream of another library failed with.
    pub fn of_server(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::ServerEof;
        }
        match error.downcast::<Error>() {
            Ok(error) => Self::new(error).towards_server(),
            Err(error) => Self::Io(error),
        }
    }

    /// The error as it is when the peer is a server.
    pub(super) fn towards_server(self) -> Self {
        match self {
            Self::ClientCertificate(error) => Self::ServerCertificate(error),
            Self::Alert(alert) => Self::ServerAlert(alert),
            Self::Eof => Self::ServerEof,
            // No record begins so, but such as an HTTP answer does.
            Self::Violation(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                Self::ServerNotTls
            }
            other => other,
        }
    }

    /// Whether it is our doing, and so for an operator to look at.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Internal(_))
    }
}

impl From<TlsError> for io::Error {
    /// As what a data path sees of it: a broken connection, of one kind or the other.
    fn from(error: TlsError) -> Self {
        let kind = match &error {
            TlsError::Io(error) => error.kind(),
            TlsError::Alert(_) | TlsError::ServerAlert(_) => io::ErrorKind::ConnectionAborted,
            TlsError::Eof | TlsError::Silent | TlsError::ServerEof => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// What is wrong with a server's certificate, for who can do something about it.
fn of_certificate(error: &Error) -> String {
    let Error::InvalidCertificate(why) = error else { return format!("is not there: {error}") };
    let days = |from: UnixTime, to: UnixTime| to.as_secs().saturating_sub(from.as_secs()) / DAY;
    match why {
        CertificateError::UnknownIssuer => "is of an issuer that is not believed".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired {} days ago", days(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("is not valid before {} days have passed", days(*time, *not_before) + 1)
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match presented.as_slice() {
                [] => format!("is not for `{expected}`, nor for any other name"),
                names => {
                    let names: Vec<_> = names.iter().map(|name| bare(name)).collect();
                    format!("is not for `{expected}`, but for {}", names.join(", "))
                }
            }
        }
        // Such as after an authority was made anew, under its old name.
        CertificateError::BadSignature => {
            "is signed with another key than its issuer's, or the server has not its key".to_owned()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "is that of an authority, and not of a server".to_owned()
        }
        other => format!("is not valid: {other}"),
    }
}

/// A name as people write it: rustls gives it as it is in its program, `DnsName("tidewire.test")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_matches(|c| matches!(c, '(' | ')' | '"'))
}

/// What an alert of a server means. Those about certificates are about ours.
fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let why = match alert {
        A::CertificateRequired => "it wants a certificate of ours",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => "it does not take our certificate",
        A::HandshakeFailure => "it shares no cipher with us, or wants a certificate of ours",
        A::ProtocolVersion => "it speaks no version that is spoken here",
        A::UnrecognisedName => "it does not know the name",
        A::NoApplicationProtocol => "it does not speak http/1.1",
        _ => return format!("{alert:?}"),
    };
    format!("{why} ({alert:?})")
}

const DAY: u64 = 24 * 60 * 60;
