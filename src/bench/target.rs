//! What to connect to: the URL, the headers sent with it, and the addresses to connect from.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use tidewire_runtime::units::Period;

use super::tls::{Tls, TlsOptions};

/// A `ws://` or `wss://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Ws,
    Wss,
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

    /// Subprotocols to offer, such as `chat` or `chat, bearer, {token}`
    #[arg(long, value_name = "NAMES")]
    subprotocol: Option<String>,

    /// File of tokens, one a line: each connection has the next one for its `{token}`
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Address to connect from; may be repeated, connections take turns. One address has about
    /// 28,000 ports: for more connections give several, such as 127.0.0.2 and 127.0.0.3
    #[arg(long = "source", value_name = "ADDRESS")]
    sources: Vec<IpAddr>,

    /// How long connecting and upgrading one connection may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    connect_timeout: Period,

    #[command(flatten, next_help_heading = "TLS")]
    tls: TlsOptions,
}

/// A resolved URL and all that is needed to open connections to it.
pub struct Target {
    url: Url,
    connecting: Connecting,
    address: SocketAddr,
    tokens: Vec<String>,
    tls: Option<Tls>,
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
        let tls = match url.scheme {
            Scheme::Wss => Some(Tls::new(&connecting.tls, &url.host)?),
            Scheme::Ws => None,
        };
        let tokens = connecting.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        if tokens.is_empty() && connecting.uses_tokens(url) {
            bail!("`{{token}}` stands for a line of a file of tokens: name it with --tokens");
        }
        Ok(Self { url: url.clone(), connecting: connecting.clone(), address, tokens, tls })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// TLS, if the URL is `wss://`.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
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
        let Url { scheme, host, port, path, .. } = &self.url;
        let path = self.fill(path, number);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let host = if *port == scheme.default_port() { host } else { format!("{host}:{port}") };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        if let Some(subprotocol) = &self.connecting.subprotocol {
            let subprotocol = self.fill(subprotocol, number);
            request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        for Header { name, value } in &self.connecting.headers {
            let value = self.fill(value, number);
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request
    }

    /// `text` with what stands for connection `number` put in.
    fn fill<'a>(&self, text: &'a str, number: usize) -> Cow<'a, str> {
        if !text.contains('{') {
            return Cow::Borrowed(text);
        }
        let filled = text.replace("{i}", &number.to_string());
        let token = number.checked_rem(self.tokens.len()).map(|index| &self.tokens[index]);
        Cow::Owned(match token {
            Some(token) => filled.replace(TOKEN, token),
            None => filled,
        })
    }
}

impl Url {
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::Wss
    }
}

impl Connecting {
    pub fn has_tls_options(&self) -> bool {
        self.tls != TlsOptions::default()
    }

    fn uses_tokens(&self, url: &Url) -> bool {
        let values = self.headers.iter().map(|header| &header.value);
        values.chain(&self.subprotocol).chain([&url.path]).any(|text| text.contains(TOKEN))
    }
}

fn read_tokens(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--tokens {}: cannot be read", file.display()))?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        bail!("--tokens {}: there is no token in it", file.display());
    }
    if let Some(index) = tokens.iter().position(|token| token.contains(|c: char| c.is_control())) {
        bail!("--tokens {}: token {} has a control character", file.display(), index + 1);
    }
    Ok(tokens.into_iter().map(str::to_owned).collect())
}

const TOKEN: &str = "{token}";

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write it as ws://127.0.0.1:8080/ws/echo";
        let (scheme, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (Scheme::Ws, rest),
            Some(("wss", rest)) => (Scheme::Wss, rest),
            _ => return Err(format!("not a WebSocket URL; {example}")),
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(format!("a WebSocket URL has no space and no `#`; {example}"));
        }
        let path_start = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_start);
        let (host, port) = split_port(authority)
            .ok_or_else(|| format!("`{authority}` is not a host and port; {example}"))?;
        let port = port.unwrap_or(scheme.default_port());
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}");
        Ok(Self { text: text.to_owned(), scheme, host: host.to_owned(), port, path })
    }
}

/// `"[::1]:80"` is `("::1", Some(80))`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok()?),
        None if port.is_empty() => None,
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
        check("wss://a/x", Some(("a", 443, "/x")));
        check("wss://a:8443", Some(("a", 8443, "/")));
        for wrong in [
            "",
            "a",
            "http://a/",
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
