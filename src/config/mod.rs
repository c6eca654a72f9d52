//! What a person writes: its types, and the way from the text to them.
//!
//! ```text
//!   text ──> tree ──> environment ──> reading ──> Config ──> plan
//!     (syntax)  (what is not set)  (keys and values)    (names, bounds, contradictions)
//! ```
//!
//! Each step reports all that it finds and hands on what is left, so that one run shows all that
//! is wrong. To add a key: a documented field beside the code that obeys it. The reference page,
//! the schema and the starting file are made from the types.

pub mod admin;
pub mod bounds;
pub mod deserialize;
pub mod diagnostic;
pub mod drain;
pub mod editor;
pub mod environment;
pub mod fault;
pub mod listen;
pub mod log;
pub mod one_or_many;
pub mod place;
pub mod process;
pub mod proxies;
pub mod reading;
pub mod reference;
pub mod revocation;
pub mod route;
pub mod rule;
pub mod sample;
pub mod schema;
pub mod secrets;
pub mod starting;
pub mod suggest;
pub mod syntax;
pub mod tls;
pub mod tree;
pub mod unix;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::config::AuthConfig;
use tidewire_edge::backend::BackendConfig;
use tidewire_edge::limits::LimitsConfig;
use tidewire_edge::timeout::Timeouts;
use tidewire_hub::config::HubConfig;

use self::admin::AdminConfig;
use self::drain::DrainConfig;
use self::listen::ListenConfig;
use self::log::LogConfig;
use self::process::ProcessConfig;
use self::revocation::RevocationConfig;
use self::route::RouteConfig;
use self::rule::RuleConfig;
use crate::acme::config::AcmeConfig;

/// The configuration of a node, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that carry connections; one per core when it is not set.
    pub workers: Option<u32>,
    /// Where clients connect.
    pub listen: Vec<ListenConfig>,
    /// What is done about requests before a route is chosen for them.
    pub rule: Vec<RuleConfig>,
    /// Which requests go where: the first route that matches takes the request, and 404 answers
    /// what none takes.
    pub route: Vec<RouteConfig>,
    /// What clients and servers may do, on routes that say nothing else.
    pub limits: LimitsConfig,
    /// Servers that are alike, for routes to refer to.
    pub backend: Vec<BackendConfig>,
    /// How clients say who they are, for routes to refer to.
    pub auth: Vec<AuthConfig>,
    /// This node's hub, which `hub` routes lead to. Without it, the node is an edge only.
    pub hub: Option<HubConfig>,
    /// Certificates from an authority that issues them by itself. Without it, there are none but
    /// those in files.
    pub acme: Option<AcmeConfig>,
    /// How long each wait may take.
    pub timeout: Timeouts,
    /// Credentials that are not accepted any more.
    pub revocation: RevocationConfig,
    /// Health, readiness, metrics and revocations, over HTTP. Without it, there are none.
    pub admin: Option<AdminConfig>,
    /// What the process may do on its machine.
    pub process: ProcessConfig,
    /// What is written to the log.
    pub log: LogConfig,
    /// How the node ends when it is told to.
    pub drain: DrainConfig,
}
