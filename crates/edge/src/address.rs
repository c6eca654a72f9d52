//! Where a server listens, as it is written: a host and a port, or the file of a Unix socket.

use crate::written::written_as_text;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(HostPort),
    /// A Unix socket, by its file.
    Unix(PathBuf),
}

/// `host:port` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
    /// The address itself when `host` is one, so that nothing has to be looked up.
    literal: Option<SocketAddr>,
}

/// What is wrong with a written address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("address `{0}` has no port; write it as `{0}:3000`")]
    NoPort(String),
    #[error("address `{0}` is not `host:port`, such as \"10.0.0.2:3000\" or \"app.internal:3000\"")]
    NotAddress(String),
    #[error("address `{0}` is a URL; write host and port only, such as \"10.0.0.2:3000\"")]
    Url(String),
    #[error(
        "address `{0}` is a URL; \
         write host and port only, such as \"10.0.0.2:443\", and `tls = {{}}` in the backend"
    )]
    TlsUrl(String),
    #[error("address `{0}` is a file; write such as \"unix:{1}\" for a Unix socket")]
    Path(String, String),
    #[error("address `{0}` names no file; write such as \"unix:/run/app.sock\"")]
    NoPath(String),
    #[error(
        "address `{0}` is too long for a Unix socket; its path may have {UNIX_PATH_BYTES_MAX} bytes"
    )]
    LongPath(String),
}

impl Address {
    /// The host and port, when it is not a Unix socket.
    pub fn tcp(&self) -> Option<&HostPort> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix(_) => None,
        }
    }

    /// The same host, and another port; a Unix socket has none.
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Tcp(address) => Self::Tcp(address.with_port(port)),
            Self::Unix(path) => Self::Unix(path.clone()),
        }
    }

    /// What a request that is the edge's own names as its host. A Unix socket has none, and
    /// "localhost" is what others say of one.
    pub fn host_header(&self) -> String {
        self.tcp().map_or_else(|| "localhost".to_owned(), ToString::to_string)
    }

    /// Has a path that is relative start from `dir`.
    pub fn start_from(&mut self, dir: &Path) {
        if let Self::Unix(path) = self {
            *path = dir.join(&*path);
        }
    }

    /// Whether a path is longer than a Unix socket can have.
    pub fn is_too_long(&self) -> bool {
        matches!(self, Self::Unix(path) if path.as_os_str().len() > UNIX_PATH_BYTES_MAX)
    }
}

impl HostPort {
    /// The addresses to try, in order; looked up now unless it is a literal one.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(literal) = self.literal {
            return Ok(vec![literal]);
        }
        let found: Vec<_> =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host, and another port.
    pub fn with_port(&self, port: u16) -> Self {
        let literal = self.literal.map(|it| SocketAddr::new(it.ip(), port));
        Self { host: self.host.clone(), port, literal }
    }

    /// The address, when nothing has to be looked up.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.literal
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), literal: Some(address) }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.into())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let own = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(AddressError::NoPath(own())),
                length if length > UNIX_PATH_BYTES_MAX => Err(AddressError::LongPath(own())),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        // As others write it.
        let path = text.strip_prefix("unix@").unwrap_or(text);
        if path.starts_with(['/', '.']) || path.len() < text.len() {
            return Err(AddressError::Path(own(), path.to_owned()));
        }
        text.parse().map(Self::Tcp)
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with("https://") || text.starts_with("wss://") {
            return Err(AddressError::TlsUrl(text.to_owned()));
        }
        if text.contains("://") {
            return Err(AddressError::Url(text.to_owned()));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let (host, port) = match text.rsplit_once(':') {
            Some(split) => split,
            None if !text.is_empty() && text.chars().all(is_name) => {
                return Err(AddressError::NoPort(text.to_owned()));
            }
            None => return Err(AddressError::NotAddress(text.to_owned())),
        };
        let port = port.parse::<u16>().ok().filter(|&port| port > 0);
        match port {
            Some(port) if !host.is_empty() && host.chars().all(is_name) => {
                Ok(Self { host: host.to_owned(), port, literal: None })
            }
            _ => Err(AddressError::NotAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.literal {
            Some(literal) => literal.fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

written_as_text!(
    Address,
    pattern = "^unix:.|:[0-9]+$",
    "`host:port`, such as 10.0.0.2:3000, [::1]:3000 or app.internal:3000, or the file of a Unix socket, such as unix:/run/app.sock."
);
written_as_text!(
    HostPort,
    pattern = ":[0-9]+$",
    "`host:port`, such as 10.0.0.2:3000, [::1]:3000 or app.internal:3000."
);

/// What the kernel takes, without the zero behind it.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_or_a_file() {
        for text in
            ["10.0.0.2:3000", "[::1]:80", "app.internal:3000", "localhost:1", "unix:/run/app.sock"]
        {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn what_is_not_an_address_is_told_apart() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("10.0.0.2"), AddressError::NoPort("10.0.0.2".into()));
        assert_eq!(error("http://a:80"), AddressError::Url("http://a:80".into()));
        assert_eq!(error("wss://a:443"), AddressError::TlsUrl("wss://a:443".into()));
        for text in ["", ":80", "a:0", "a:99999", "a b:80", "::1"] {
            assert_eq!(error(text), AddressError::NotAddress(text.into()));
        }
        assert_eq!(error("unix:"), AddressError::NoPath("unix:".into()));
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(error(&long), AddressError::LongPath(long));
        for (text, path) in [("/run/a", "/run/a"), ("./a", "./a"), ("unix@/run/a", "/run/a")] {
            assert_eq!(error(text), AddressError::Path(text.into(), path.into()));
        }
    }

    #[test]
    fn a_relative_path_starts_where_it_is_said_to() {
        let started = |text: &str| {
            let mut address: Address = text.parse().unwrap();
            address.start_from(Path::new("/etc/tidewire"));
            address.to_string()
        };
        assert_eq!(started("unix:app.sock"), "unix:/etc/tidewire/app.sock");
        assert_eq!(started("unix:/run/app.sock"), "unix:/run/app.sock");
        assert_eq!(started("a:80"), "a:80");
    }
}
