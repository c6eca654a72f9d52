//! What a node runs: a [`Config`] whose names are found and whose contradictions are excluded.
//!
//! A plan is valid or is not built; the only way to one is from a text. What cannot be in it (a
//! route without a target, a backend without servers) its types do not have.

mod access;
pub mod acme;
mod addresses;
pub mod auth;
mod backends;
mod balance;
pub mod belongings;
mod conditions;
mod covering;
mod cross_site;
mod discovery;
mod ejection;
mod frame_limits;
mod header_edits;
mod heads;
mod health;
mod https;
mod hub;
mod limits;
mod listeners;
mod moving;
mod names;
mod outward;
mod pings;
pub mod process;
mod proxies;
mod reach;
mod revocation;
mod routes;
mod rules;
mod server_addresses;
mod server_tls;
mod sockets;
mod summary;
mod targets;
mod templates;
mod timeouts;
mod tls;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidewire_auth::secret::Secret;
use tidewire_edge::address_rules::AddressRules;
use tidewire_edge::arrival::Arrivals;
use tidewire_edge::auth::access::Access;
use tidewire_edge::backend::BackendConfig;
use tidewire_edge::cross_site::CrossSite;
use tidewire_edge::discovery::Discovery;
use tidewire_edge::https_policy::HttpsPolicy;
use tidewire_edge::limits::Limits;
use tidewire_edge::limits::quota::Quotas;
use tidewire_edge::pings::Pings;
use tidewire_edge::redirect::{RedirectConfig, RespondConfig};
use tidewire_edge::route::Matcher;
use tidewire_edge::rules::Rule;
use tidewire_edge::rules::changes::Changes;
use tidewire_edge::server_tls::ServerTls;
use tidewire_edge::static_files::Builtin;
use tidewire_edge::timeout::Timeouts;
use tidewire_edge::tls::Tls;
use tidewire_hub::config::HubConfig;
use tidewire_hub::route::TopicRoute;
use tidewire_runtime::listener::{Address, ListenOptions};
use tidewire_runtime::units::Period;
use tidewire_wire::http::framing::HeadLimits;

use self::acme::{AcmePlan, AcmeWanted};
use self::auth::AuthPlan;
use self::process::ProcessPlan;
use crate::config::Config;
use crate::config::admin::MetricsAccess;
use crate::config::diagnostic::{Diagnostic, Report, Severity};
use crate::config::environment::{self, Lookup};
use crate::config::log::LogConfig;
use crate::config::place::Place;
use crate::config::reading::{Completeness, Reader};
use crate::config::schema::Schema;
use crate::config::secrets;
use crate::config::syntax;
use crate::config::tree::Node;

/// All that a node needs to know to run.
#[derive(Debug)]
pub struct Plan {
    pub workers: NonZeroUsize,
    /// At least one.
    pub listeners: Vec<ListenerPlan>,
    /// In the order in which they are asked.
    pub rules: Vec<Rule>,
    /// In the order in which they are tried.
    pub routes: Vec<RoutePlan>,
    pub backends: Vec<BackendPlan>,
    pub auths: Vec<AuthPlan>,
    pub timeouts: Timeouts,
    /// Set when a listener wants a certificate of an authority.
    pub acme: Option<AcmePlan>,
    /// Set at least when a route leads to the hub.
    pub hub: Option<HubConfig>,
    pub revocation: RevocationPlan,
    /// Where health and metrics are; `None` is nowhere.
    pub admin: Option<AdminPlan>,
    pub process: ProcessPlan,
    pub log: LogConfig,
    /// The time that connections have to end when the node is told to.
    pub drain_deadline: Period,
}

/// What is kept of revocations.
#[derive(Clone, Debug)]
pub struct RevocationPlan {
    pub file: Option<PathBuf>,
    pub max: usize,
    pub default_for: Duration,
}

/// Where operators ask, and what they must show to change something.
#[derive(Clone, Debug)]
pub struct AdminPlan {
    pub bind: SocketAddr,
    pub token: Option<Secret>,
    /// Who may see the metrics.
    pub metrics: MetricsAccess,
}

/// Addresses on which clients are accepted alike.
#[derive(Debug)]
pub struct ListenerPlan {
    pub name: String,
    /// At least one.
    pub bind: Vec<Address>,
    pub sockets: ListenOptions,
    pub https: HttpsPolicy,
    pub head_limits: HeadLimits,
    pub tls: Option<Arc<Tls>>,
    pub arrivals: Arrivals,
    pub addresses: AddressRules,
    pub quotas: Quotas,
}

/// Which requests go where.
#[derive(Debug)]
pub struct RoutePlan {
    /// Unique, for logs and metrics.
    pub name: String,
    pub matcher: Matcher,
    /// Whom it takes; `None` is everybody whom no earlier route has refused.
    pub access: Option<Access>,
    pub target: TargetPlan,
    pub cross_site: CrossSite,
    pub addresses: AddressRules,
    pub limits: Limits,
    pub pings: Pings,
    pub changes: Changes,
    /// See [`tidewire_edge::route::Route`].
    pub is_guard: bool,
}

/// What takes the requests of a route.
#[derive(Debug)]
pub enum TargetPlan {
    /// The backend of this index.
    Backend(usize),
    Hub(TopicRoute),
    /// Files of a directory that is there.
    Dir(PathBuf),
    Page(Builtin),
    Redirect(RedirectConfig),
    Respond(RespondConfig),
}

/// A backend that can be used: it has servers with names of their own, and one of them a weight, or
/// finds them.
#[derive(Debug)]
pub struct BackendPlan {
    pub config: BackendConfig,
    /// How more servers are found.
    pub discovery: Option<Discovery>,
    /// How TLS is spoken to the servers.
    pub tls: Option<ServerTls>,
}

impl BackendPlan {
    /// Takes out how more servers are found, and with it what is said of the backend.
    pub fn search(&mut self) -> Option<(Discovery, BackendConfig)> {
        Some((self.discovery.take()?, self.config.clone()))
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Refused(Report),
}

/// A text that is to become a plan.
#[derive(Clone, Copy)]
pub struct Source<'s> {
    /// How it is called in findings.
    pub name: &'s str,
    pub text: &'s str,
    /// The directory that relative paths in it start from.
    pub dir: &'s Path,
    /// Where `${NAME}` is looked up.
    pub environment: Lookup<'s>,
}

impl Plan {
    /// The plan of a file, and the warnings about it. Relative paths start where the file is.
    pub fn load(path: &Path) -> Result<(Self, Report), PlanError> {
        let bytes = read(path).map_err(|error| PlanError::Read { path: path.to_owned(), error })?;
        let name = path.display().to_string();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(PlanError::Refused(not_utf8(&name, &error))),
        };
        let dir = path.parent().unwrap_or(Path::new(""));
        let source =
            Source { name: &name, text: &text, dir, environment: &environment::of_process };
        Self::from_source(&source).map_err(PlanError::Refused)
    }

    /// The plan of a text that is not in a file. Relative paths start from the working directory.
    pub fn from_text(name: &str, text: &str) -> Result<(Self, Report), Report> {
        let environment = &environment::of_process;
        Self::from_source(&Source { name, text, dir: Path::new(""), environment })
    }

    /// The plan of a text, and the warnings about it; or all that is wrong with it.
    pub fn from_source(source: &Source<'_>) -> Result<(Self, Report), Report> {
        let mut findings = Vec::new();
        let mut shown = String::new();
        let plan = build(source, &mut findings, &mut shown);
        let report = Report::new(source.name, &shown, findings);
        match plan {
            Some(plan) if report.count(Severity::Error) == 0 => Ok((plan, report)),
            _ => Err(report),
        }
    }
}

/// The plan; also when there are errors that leave one. `None` comes with an error. `shown` becomes
/// the text as findings may show it.
fn build(source: &Source<'_>, findings: &mut Vec<Diagnostic>, shown: &mut String) -> Option<Plan> {
    let schema = Schema::of_config();
    let (mut tree, errors) = Node::parse(source.text);
    *shown = secrets::masked(source.text, &tree);
    findings.extend(environment::expand(&mut tree, source.text, source.environment));
    let completeness = if errors.is_empty() { Completeness::Whole } else { Completeness::Doubtful };
    let reader = Reader { tree: &mut tree, schema, findings, completeness };
    let config = reader.read();
    if !errors.is_empty() {
        syntax::report(&errors, source.text, &tree, schema, findings);
        return None;
    }
    let mut checks = Checks {
        place: Place::root(&tree),
        tree: &tree,
        dir: source.dir,
        findings,
        acme: AcmeWanted::default(),
    };
    let plan = checks.plan(config?);
    // What stands in for something wrong serves to look further, and is never run.
    tree.is_whole().then_some(plan)
}

/// The checks that need more than one value: what they look at, and what they find.
struct Checks<'c> {
    place: Place<'c>,
    tree: &'c Node,
    dir: &'c Path,
    findings: &'c mut Vec<Diagnostic>,
    /// What listeners have wanted so far.
    acme: AcmeWanted,
}

impl Checks<'_> {
    fn plan(&mut self, mut config: Config) -> Plan {
        config.backend.iter_mut().for_each(|it| it.start_from(self.dir));
        self.timeouts(&config);
        self.general_limits(&config);
        let listeners = self.listeners(&config);
        let acme = self.acme(&config);
        let found = self.backends(&config);
        let auths = self.auths(&config);
        let routes = self.routes(&config);
        let rules = self.rules(&config, &routes);
        self.unasked(&config);
        self.hub(&config);
        let (revocation, admin) = (self.revocation(&config), self.admin(&config));
        let process = self.process(&config);
        let workers = config.workers.and_then(|workers| NonZeroUsize::new(workers as usize));
        let Config { timeout, backend, hub, log, drain, .. } = config;
        Plan {
            workers: workers.unwrap_or_else(one_per_core),
            listeners,
            rules,
            routes,
            backends: backend
                .into_iter()
                .zip(found)
                .map(|(config, (discovery, tls))| BackendPlan { config, discovery, tls })
                .collect(),
            auths,
            timeouts: timeout,
            acme,
            hub,
            revocation,
            admin,
            process,
            log,
            drain_deadline: drain.deadline,
        }
    }

    fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }
}

fn one_per_core() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The bytes of a file, or of standard input for `-`.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path.as_os_str().to_str() {
        Some("-") => io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?,
        _ => File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?,
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it is longer than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// A config of ten thousand routes has a tenth of it; something that never ends has more.
const FILE_BYTES_MAX: u64 = 8 << 20;

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let text = String::from_utf8_lossy(error.as_bytes());
    let start = error.utf8_error().valid_up_to();
    let wrong = Diagnostic::error("the file is not UTF-8 text");
    Report::new(name, &text, vec![wrong.at(start..start + '\u{fffd}'.len_utf8(), "not UTF-8")])
}

#[cfg(test)]
mod tests;
