//! Lookups in the DNS: the addresses of a name, and the records of a service.
//!
//! All that a look needs is asked at once, each question with its own time to be answered. What is
//! answered counts, whatever is not: [`Known`] says what is taken for that.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::sync::Semaphore;

use super::known::{Addresses, Known, Missed, Question};
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
pub struct Resolver {
    resolver: TokioResolver,
    /// The time that each question has.
    timeout: Duration,
    known: Known,
}

/// What the name servers have said.
#[derive(Debug)]
pub struct Answer {
    pub looked: Looked,
    /// What they have not said.
    pub missed: Option<Missed>,
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
        // Those of the system may be asked for several names, one after the other, until there is
        // one in a domain of its search list.
        let names = if nameservers.peek().is_none() { SEARCHED } else { 1 };
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
        options.max_active_requests = QUESTIONS_AT_ONCE;
        Ok(Self { resolver: builder.build()?, timeout: timeout * names, known: Known::default() })
    }

    /// The servers at the addresses of `name`, all on `port`.
    ///
    /// # Errors
    /// When the name servers have not said anything, or not that there is nothing.
    pub async fn addresses(&mut self, name: &str, port: u16) -> Result<Answer, Missed> {
        let answers = self.ask(Question::both(name)).await;
        let missed = self.known.take(answers)?;
        let (addresses, life) = self.known.of(name);
        let server = |address| Found { address: SocketAddr::new(address, port), record: None };
        Answer::of(addresses.into_iter().map(server).collect(), life, missed)
    }

    /// The servers that the records of a service name.
    ///
    /// # Errors
    /// As [`Resolver::addresses`].
    pub async fn service(&mut self, name: &ServiceName) -> Result<Answer, Missed> {
        let question = Question::new(&name.0, RecordType::SRV);
        let lookup = match self.lookup(&question).await {
            Ok(Some(lookup)) => lookup,
            Ok(None) => return Answer::of(Vec::new(), Duration::ZERO, None),
            Err(error) => return Err(Missed::one(question, error)),
        };
        let records: Vec<&SRV> = lookup.answers().iter().filter_map(service_record).collect();
        let targets: Vec<String> = records.iter().map(|it| it.target.to_ascii()).collect();
        // Where no host was answered, the records were all the same: their hosts are as before.
        let missed = self.hosts(&targets, &lookup).await.unwrap_or_else(Some);
        let mut life = life(lookup.answers());
        let mut found = Vec::new();
        for (record, target) in records.into_iter().zip(&targets) {
            let (addresses, host_life) = self.known.of(target);
            life = life.min(host_life);
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
        Answer::of(found, life, missed)
    }

    /// Has the addresses of all hosts known; those that have come with `lookup` are not asked for.
    async fn hosts(&mut self, names: &[String], lookup: &Lookup) -> Result<Option<Missed>, Missed> {
        let mut come = addresses_with(lookup);
        let questions: BTreeSet<Question> =
            names.iter().flat_map(|name| Question::both(name)).collect();
        let (come, to_ask): (Vec<_>, Vec<_>) = questions
            .into_iter()
            .map(|question| (come.remove(&question), question))
            .partition(|(come, _)| come.is_some());
        let mut answers = self.ask(to_ask.into_iter().map(|(_, question)| question)).await;
        answers.extend(come.into_iter().filter_map(|(come, question)| Some((question, Ok(come?)))));
        self.known.take(answers)
    }

    /// Asks for addresses, many at once: one after the other, each question would cost the time of
    /// all that come after it.
    async fn ask(
        &self,
        questions: impl IntoIterator<Item = Question>,
    ) -> Vec<(Question, Result<Addresses, NetError>)> {
        let turns = Semaphore::new(QUESTIONS_AT_ONCE);
        let turns = &turns;
        let ask = |question: Question| async move {
            let _turn = turns.acquire().await;
            let answer = self.lookup(&question).await;
            let addresses = answer.map(|it| it.map_or_else(Addresses::none, |it| addresses(&it)));
            (question, addresses)
        };
        join_all(questions.into_iter().map(ask)).await
    }

    /// The answer to a question, or `None` when it is that there is nothing.
    async fn lookup(&self, question: &Question) -> Result<Option<Lookup>, NetError> {
        let asked = self.resolver.lookup(&*question.name, question.kind);
        // The resolver asks again when it was not answered, which takes its time again.
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(lookup)) => Ok(Some(lookup)),
            Ok(Err(error)) if error.is_no_records_found() => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(NetError::Timeout),
        }
    }
}

impl Answer {
    /// That there is nothing is only true when all was answered.
    fn of(found: Vec<Found>, life: Duration, missed: Option<Missed>) -> Result<Self, Missed> {
        match missed {
            Some(missed) if found.is_empty() => Err(missed),
            Some(missed) => {
                Ok(Self { looked: Looked::Found(found, life.min(PART_LIFE)), missed: Some(missed) })
            }
            None if found.is_empty() => Ok(Self { looked: Looked::Nothing, missed: None }),
            None => Ok(Self { looked: Looked::Found(found, life), missed: None }),
        }
    }
}

impl Addresses {
    /// That there is none: how long that is true is said in a way that few name servers get right.
    fn none() -> Self {
        Self { all: Vec::new(), life: Duration::MAX }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// A record that names a server: `.` says that there is no such service here.
fn service_record(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(record) if !record.target.is_root() => Some(record),
        _ => None,
    }
}

fn addresses(lookup: &Lookup) -> Addresses {
    let all = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
    Addresses { all: all.collect(), life: life(lookup.answers()) }
}

/// The addresses of hosts that a name server has sent along. All of a kind, or none of it
/// (RFC 2181, section 9): the other kind may have been left out for want of room.
fn addresses_with(lookup: &Lookup) -> HashMap<Question, Addresses> {
    let mut come = HashMap::<_, Addresses>::new();
    for record in lookup.additionals() {
        let Some(address) = record.data.ip_addr() else { continue };
        let question = Question::new(&record.name.to_ascii(), record.record_type());
        let of_host = come.entry(question).or_insert_with(Addresses::none);
        of_host.all.push(address);
        of_host.life = of_host.life.min(Duration::from_secs(record.ttl.into()));
    }
    come
}

/// How long all of these records are true.
fn life(records: &[Record]) -> Duration {
    let shortest = records.iter().map(|record| record.ttl).min();
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

/// How many questions are under way at a time. `dnsmasq` takes 150 of all who ask it.
const QUESTIONS_AT_ONCE: usize = 64;

/// A search list has up to six domains; more than this are hardly ever asked.
const SEARCHED: u32 = 4;

/// How long it is until what was missed is asked for again, at most.
const PART_LIFE: Duration = Duration::from_secs(5);

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
