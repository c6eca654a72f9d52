//! What to connect to: the URL, the headers sent with it, and the addresses to connect from.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use tidewire_runtime::units::Period;

/// A `ws://` URL, in which `{i}` stands for the number of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    host: String,
    port: u16,
    path: String,
}

/// A request header, written `Name: value`.
#[derive(Clone, Debug)]
pub struct Header {
    name: String,
    value: String,
}

/// How to connect; the same for every job.
#[derive(clap::Args, Clone, Debug)]
pub struct Connecting {
    /// Header sent with every upgrade, such as `Authorization: Bearer ...`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<Header>,

    /// Subprotocol to offer
    #[arg(long, value_name = "NAME")]
    subprotocol: Option<String>,

    /// Address to connect from; may be repeated, connections take turns. One address has about
    /// 28,000 ports: for more connections give several, such as 127.0.0.2 and 127.0.0.3
    #[arg(long = "source", value_name = "ADDRESS")]
    sources: Vec<IpAddr>,

    /// How long connecting and upgrading one connection may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    connect_timeout: Period,
}

/// A resolved URL and all that is needed to open connections to it.
pub struct Target {
    url: Url,
    connecting: Connecting,
    address: SocketAddr,
}

impl Target {
    /// Resolves the host, once for all connections.
    pub async fn resolve(url: &Url, connecting: &Connecting) -> anyhow::Result<Self> {
        let address = tokio::net::lookup_host((url.host.as_str(), url.port))
            .await
            .with_context(|| format!("cannot resolve `{}`", url.host))?
            .next()
            .with_context(|| format!("`{}` has no address", url.host))?;
        for source in &connecting.sources {
            if source.is_ipv4() != address.is_ipv4() {
                bail!("--source {source} cannot reach {address}: they are of different families");
            }
        }
        Ok(Self { url: url.clone(), connecting: connecting.clone(), address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect_timeout(&self) -> Duration {
        self.connecting.connect_timeout.0
    }

    /// Where connection `number` connects from, if that was asked for.
    pub fn source(&self, number: usize) -> Option<SocketAddr> {
        let sources = &self.connecting.sources;
        let source = sources.get(number.checked_rem(sources.len())?)?;
        Some(SocketAddr::new(*source, 0))
    }

    /// The upgrade request of connection `number` (RFC 6455, section 4.1).
    pub fn request(&self, number: usize, key: &str) -> String {
        let Url { host, port, path, .. } = &self.url;
        let path = path.replace("{i}", &number.to_string());
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let host = if *port == DEFAULT_PORT { host } else { format!("{host}:{port}") };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        if let Some(subprotocol) = &self.connecting.subprotocol {
            request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        for Header { name, value } in &self.connecting.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request
    }
}

const DEFAULT_PORT: u16 = 80;

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("wss://") {
            return Err("wss:// is not measured yet; use the ws:// address behind the TLS \
                        terminator, such as ws://127.0.0.1:8080/ws/echo"
                .to_owned());
        }
        let example = "write it as ws://127.0.0.1:8080/ws/echo";
        let Some(rest) = text.strip_prefix("ws://") else {
            return Err(format!("not a WebSocket URL; {example}"));
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(format!("a WebSocket URL has no space and no `#`; {example}"));
        }
        let path_start = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_start);
        let (host, port) = split_port(authority)
            .ok_or_else(|| format!("`{authority}` is not a host and port; {example}"))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}");
        Ok(Self { text: text.to_owned(), host: host.to_owned(), port, path })
    }
}

/// `"[::1]:80"` is `("::1", 80)`.
fn split_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return None,
    };
    let is_named = !host.is_empty() && !host.contains('@');
    is_named.then_some((host, port))
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
        let (name, value) = (name.trim(), value.trim());
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(format!("`{name}` is not a header name"));
        }
        if value.contains(|c: char| c.is_control()) {
            return Err(format!("the value of `{name}` has a control character"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, u16, &str)>) {
        let url = text.parse::<Url>().ok();
        let parts = url.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str()));
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn a_url_is_a_host_a_port_and_a_path() {
        check("ws://a", Some(("a", 80, "/")));
        check("ws://a:8080/ws/{i}?x=1", Some(("a", 8080, "/ws/{i}?x=1")));
        check("ws://a?x=1", Some(("a", 80, "/?x=1")));
        check("ws://[::1]:9/x", Some(("::1", 9, "/x")));
        check("ws://[::1]", Some(("::1", 80, "/")));
        for wrong in [
            "",
            "a",
            "http://a/",
            "wss://a/",
            "ws://",
            "ws:///x",
            "ws://a:x/",
            "ws://a:/",
            "ws://u@a/",
            "ws://[::1/x",
            "ws://[::1]x",
            "ws://a/ b",
            "ws://a/#b",
            "ws://a/\r\nX: y",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_header_cannot_smuggle_another() {
        assert!("Origin: http://a".parse::<Header>().is_ok());
        for wrong in ["Origin", ": x", "a b: c", "A: b\r\nC: d"] {
            assert!(wrong.parse::<Header>().is_err(), "{wrong:?}");
        }
    }
}
