//! Lookups in the DNS: the addresses of a name, and the records of a service.
//!
//! A lookup is whole or it has failed: a name of which one kind of address could not be asked for
//! would lose the servers of that kind.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::roster::{Found, Looked, ServiceRecord};
use crate::written::written_as_text;

/// A name server: its address, and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

/// The name of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// What is wrong with a written name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{0}` is not an address; write such as \"10.0.0.53\" or \"10.0.0.53:5353\"")]
    NotNameServer(String),
    #[error("`{0}` is not the name of a service; write such as \"_ws._tcp.chat.internal\"")]
    NotService(String),
}

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver {
    resolver: TokioResolver,
}

impl Resolver {
    /// One that asks `nameservers`, or those of the system when there are none.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn new(
        nameservers: impl Iterator<Item = SocketAddr>,
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let mut nameservers = nameservers.map(name_server).peekable();
        let mut builder = match nameservers.peek() {
            None => TokioResolver::builder_tokio()?,
            Some(_) => {
                let config = ResolverConfig::from_parts(None, Vec::new(), nameservers.collect());
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        // How long an answer is true is kept by who asks.
        options.cache_size = 0;
        options.timeout = timeout;
        options.attempts = 1;
        Ok(Self { resolver: builder.build()? })
    }

    /// The servers at the addresses of `name`, all on `port`.
    ///
    /// # Errors
    /// When the name servers have not said all that was asked.
    pub async fn addresses(&self, name: &str, port: u16) -> Result<Looked, NetError> {
        let Some((addresses, life)) = self.hosts(name).await? else { return Ok(Looked::Nothing) };
        let server = |address| Found { address: SocketAddr::new(address, port), record: None };
        Ok(Looked::Found(addresses.into_iter().map(server).collect(), life))
    }

    /// The servers that the records of a service name.
    ///
    /// # Errors
    /// As [`Resolver::addresses`].
    pub async fn service(&self, name: &ServiceName) -> Result<Looked, NetError> {
        let Some(lookup) = answer(self.resolver.lookup(&*name.0, RecordType::SRV).await)? else {
            return Ok(Looked::Nothing);
        };
        let mut life = life(&lookup);
        let mut found = Vec::new();
        for answer in lookup.answers() {
            let RData::SRV(record) = &answer.data else { continue };
            // `.` says that there is no such service here.
            if record.target.is_root() {
                continue;
            }
            let Some((addresses, host_life)) = self.hosts(&record.target.to_ascii()).await? else {
                continue;
            };
            life = life.min(host_life);
            let target = record.target.to_ascii();
            let record_of = || ServiceRecord {
                target: target.trim_end_matches('.').to_owned(),
                priority: record.priority,
                weight: record.weight,
            };
            found.extend(addresses.into_iter().map(|address| Found {
                address: SocketAddr::new(address, record.port),
                record: Some(record_of()),
            }));
        }
        Ok(if found.is_empty() { Looked::Nothing } else { Looked::Found(found, life) })
    }

    /// All addresses of a host, and how long they are true; `None` when it has none.
    async fn hosts(&self, name: &str) -> Result<Option<(Vec<IpAddr>, Duration)>, NetError> {
        let (v4, v6) = tokio::join!(
            self.resolver.lookup(name, RecordType::A),
            self.resolver.lookup(name, RecordType::AAAA)
        );
        let lookups = [answer(v4)?, answer(v6)?];
        let mut addresses = Vec::new();
        let mut shortest = None;
        for lookup in lookups.iter().flatten() {
            addresses.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
            let life = life(lookup);
            shortest = Some(shortest.map_or(life, |shortest: Duration| shortest.min(life)));
        }
        Ok(shortest.filter(|_| !addresses.is_empty()).map(|life| (addresses, life)))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// An answer, or `None` when it says that there is nothing.
fn answer(lookup: Result<Lookup, NetError>) -> Result<Option<Lookup>, NetError> {
    match lookup {
        Ok(lookup) => Ok(Some(lookup)),
        Err(error) if error.is_no_records_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long all records of an answer are true.
fn life(lookup: &Lookup) -> Duration {
    let shortest = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or(0).into())
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    let with_port = |connection: &mut ConnectionConfig| connection.port = address.port();
    config.connections.iter_mut().for_each(with_port);
    config
}

impl FromStr for NameServer {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let with_port = || Some(SocketAddr::new(text.parse().ok()?, DNS_PORT));
        let address = text.parse().ok().or_else(with_port);
        address.map(Self).ok_or_else(|| NameError::NotNameServer(text.to_owned()))
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::NotService(text.to_owned());
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let is_service = labels.len() > 2 && labels[..2].iter().all(|it| it.starts_with('_'));
        let is_name = text.len() <= 253 && labels.iter().all(|label| is_label(label));
        if is_service && is_name { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == DNS_PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(
    NameServer,
    "An address, such as 10.0.0.53, or with a port, such as 10.0.0.53:5353."
);
written_as_text!(ServiceName, "The name of a service, such as _ws._tcp.chat.internal.");

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_addresses_with_a_port_or_without() {
        let shown = |text: &str| text.parse::<NameServer>().map(|it| (it.0.port(), it.to_string()));
        assert_eq!(shown("10.0.0.53"), Ok((53, "10.0.0.53".into())));
        assert_eq!(shown("10.0.0.53:5353"), Ok((5353, "10.0.0.53:5353".into())));
        assert_eq!(shown("[::1]:53"), Ok((53, "::1".into())));
        assert_eq!(shown("::1"), Ok((53, "::1".into())));
        for text in ["", "dns.internal", "10.0.0.53:"] {
            assert_eq!(shown(text), Err(NameError::NotNameServer(text.into())));
        }
    }

    #[test]
    fn services_have_a_service_and_a_protocol() {
        let is_service = |text: &str| text.parse::<ServiceName>().is_ok();
        assert!(is_service("_ws._tcp.chat.internal") && is_service("_ws._tcp.chat.internal."));
        for text in
            ["chat.internal", "_ws.chat.internal", "_ws._tcp", "_ws._tcp.a b", "_ws._tcp..a"]
        {
            assert!(!is_service(text), "{text}");
        }
    }
}
