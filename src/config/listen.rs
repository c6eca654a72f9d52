//! Where clients connect.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidewire_edge::head_limits::HttpConfig;
use tidewire_edge::limits::quota::ArrivalLimitsConfig;
use tidewire_edge::network::Network;

use tidewire_runtime::listener::{Address, ListenOptions};
use tidewire_runtime::tcp_options::TcpOptions;

use super::one_or_many::OneOrMany;
use super::proxies::{ProxyProtocolConfig, TrustedProxiesConfig};
use super::tls::TlsConfig;
use super::unix::UnixConfig;

/// Addresses on which clients are accepted alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Its name, by which routes refer to it; unique.
    pub name: String,
    /// One address or a list of them: `0.0.0.0:80` is every IPv4 address of the machine, `[::]:80`
    /// every IPv6 address, and `unix:/run/tidewire/edge.sock` a Unix socket. Port 0 is a port that
    /// the system chooses.
    pub bind: OneOrMany<BindAddress>,
    /// Who may connect to its Unix sockets.
    #[serde(default)]
    pub unix: UnixConfig,
    /// When the kernel gives up a connection whose client is gone without a word.
    #[serde(default)]
    pub tcp: TcpOptions,
    /// How many connections the kernel holds for a worker that has not come to them yet; it takes
    /// no more than `net.core.somaxconn`.
    #[serde(default = "backlog")]
    pub backlog: u32,
    /// Send every request to https at this port, 443 as a rule, with a 308 to the same host and
    /// path. No route gets a request of this listener; ACME challenges are answered.
    pub https_redirect: Option<u16>,
    /// Speak TLS here; without it, what is said can be read on the way.
    pub tls: Option<TlsConfig>,
    /// Balancers that say in front of each connection whose it is, by the PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// Proxies that say in each request where its client is.
    pub trusted_proxies: Option<TrustedProxiesConfig>,
    /// How large the head of a request may be.
    #[serde(default)]
    pub http: HttpConfig,
    /// The addresses and networks whose connections are taken; all when neither this nor
    /// `allow_file` is set. Others are closed before anything is read, and before TLS.
    pub allow: Option<OneOrMany<Network>>,
    /// The addresses and networks whose connections are closed, also when they are allowed.
    pub deny: Option<OneOrMany<Network>>,
    /// A file with more to allow: one a line, `#` begins a comment. It is read again when it
    /// changes, and at SIGHUP; while something in it is wrong, what was read before holds.
    pub allow_file: Option<PathBuf>,
    /// A file with more to deny.
    pub deny_file: Option<PathBuf>,
    /// How many connections there may be, and how fast they may come, before a route is known.
    #[serde(default)]
    pub limits: ArrivalLimitsConfig,
}

fn backlog() -> u32 {
    ListenOptions::default().backlog
}

/// An address of this machine, with its port, or the file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindAddress(pub Address);

/// What is wrong with a written address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindAddressError {
    #[error("`{0}` has no address; write \"0.0.0.0:{1}\" for IPv4, \"[::]:{1}\" for IPv6, or both")]
    NoHost(String, u16),
    #[error("`{0}` has no port; write it with one, such as \"{1}:80\"")]
    NoPort(String, String),
    #[error("`{0}` is a name; write an address of this machine, such as \"127.0.0.1:8080\"")]
    Name(String),
    #[error("`{0}` names no file; write such as \"unix:/run/tidewire/edge.sock\"")]
    NoPath(String),
    #[error("`{0}` is too long for a Unix socket; its path may have {PATH_BYTES_MAX} bytes")]
    LongPath(String),
    #[error("`{0}` is not an address and a port; write such as \"0.0.0.0:80\" or \"[::]:80\"")]
    NotAddress(String),
}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, BindAddressError> {
        if let Ok(address) = text.parse() {
            return Ok(Self(Address::Tcp(address)));
        }
        let own = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(BindAddressError::NoPath(own())),
                length if length > PATH_BYTES_MAX => Err(BindAddressError::LongPath(own())),
                _ => Ok(Self(Address::Unix(path.into()))),
            };
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            let host = SocketAddr::new(address, 0).to_string();
            let host = host.strip_suffix(":0").unwrap_or(&host).to_owned();
            return Err(BindAddressError::NoPort(own(), host));
        }
        let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        Err(match split {
            Some(("" | "*", port)) => BindAddressError::NoHost(own(), port),
            Some((host, _)) if host.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                BindAddressError::Name(own())
            }
            _ => BindAddressError::NotAddress(own()),
        })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for BindAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BindAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for BindAddress {
    fn schema_name() -> Cow<'static, str> {
        "BindAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^unix:.|:[0-9]+$",
            "description": "An address of this machine and a port, such as 0.0.0.0:80 or [::]:80, or the file of a Unix socket, such as unix:/run/edge.sock."
        })
    }
}

/// The kernel takes 107, of which the name that a socket has while it gets its rights needs some.
const PATH_BYTES_MAX: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let parsed = text.parse::<BindAddress>();
        let said = parsed.map_or_else(|error| error.to_string(), |address| address.to_string());
        assert!(said.contains(expected), "{text}: {said}");
    }

    #[test]
    fn addresses_have_a_port() {
        check("0.0.0.0:80", "0.0.0.0:80");
        check("[::]:80", "[::]:80");
        check("127.0.0.1:0", "127.0.0.1:0");
        check("unix:/run/edge.sock", "unix:/run/edge.sock");
    }

    #[test]
    fn what_is_not_an_address_is_told_apart() {
        check("unix:", "names no file");
        check(&format!("unix:/{}", "x".repeat(90)), "too long for a Unix socket");
        check(":80", "write \"0.0.0.0:80\" for IPv4");
        check("*:80", "write \"0.0.0.0:80\" for IPv4");
        check("10.0.0.1", "such as \"10.0.0.1:80\"");
        check("::1", "such as \"[::1]:80\"");
        check("[::1]", "such as \"[::1]:80\"");
        check("localhost:80", "is a name");
        check("80", "is not an address");
        check("", "is not an address");
        check("0.0.0.0:99999", "is not an address");
    }
}
