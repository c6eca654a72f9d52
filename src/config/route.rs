//! Which requests go where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_edge::auth::access::Satisfy;
use tidewire_edge::auth::claims::ClaimValues;
use tidewire_edge::cors::CorsConfig;
use tidewire_edge::host::HostPattern;
use tidewire_edge::limits::LimitsConfig;
use tidewire_edge::network::Network;
use tidewire_edge::origin::OriginConfig;
use tidewire_edge::path::PathPattern;
use tidewire_edge::pings::PingConfig;
use tidewire_edge::redirect::{RedirectConfig, RespondConfig};
use tidewire_edge::rules::text_pattern::TextPattern;
use tidewire_edge::static_files::StaticConfig;
use tidewire_hub::route::TopicRoute;

use super::one_or_many::OneOrMany;
use super::rule::HeaderEditsConfig;

/// Takes the requests that match all that is set in it, and has exactly one target: `backend`,
/// `hub`, `static`, `redirect` or `respond`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name in logs and metrics; unique. Made of host and path when it is not set.
    pub name: Option<String>,
    /// The listeners whose requests it takes, by name; all of them when it is not set.
    pub listen: Option<OneOrMany<String>>,
    /// The hosts that it takes; every host when it is not set.
    pub host: Option<OneOrMany<HostPattern>>,
    /// The paths that it takes: literal segments, `{name}` for one segment, a final `*` for the
    /// rest. A route that holds somebody up (by `auth`, `allow`, `deny`, `origin` or `limits`, or
    /// with a `respond` of 400 and above) also takes other spellings of them that some servers
    /// take for the same, such as `//admin` and `/admin%2Fx`.
    #[serde(default = "any_path")]
    pub path: PathPattern,
    /// The methods that it takes; all of them when it is not set.
    pub method: Option<OneOrMany<String>>,
    /// Headers that a request must have, each with one of these values. Of a repeated header each
    /// value counts.
    #[serde(default)]
    pub header: BTreeMap<String, OneOrMany<TextPattern>>,
    /// Parameters that a request must have in its query, each with one of these values,
    /// percent-decoded.
    #[serde(default)]
    pub query: BTreeMap<String, OneOrMany<TextPattern>>,
    /// Cookies that a request must have, each with one of these values.
    #[serde(default)]
    pub cookie: BTreeMap<String, OneOrMany<TextPattern>>,
    /// The addresses and networks whose requests it takes; those of others may be for a later
    /// route. To refuse them, see `allow`.
    pub address: Option<OneOrMany<Network>>,
    /// Set to `true`, it takes only what comes by TLS; `false`, only what does not.
    pub tls: Option<bool>,
    /// Set to `true`, it takes only WebSocket handshakes; `false`, only other requests.
    pub websocket: Option<bool>,
    /// It takes only WebSocket handshakes that offer one of these subprotocols, perhaps beside
    /// others.
    pub subprotocol: Option<OneOrMany<TextPattern>>,
    /// The addresses and networks that it is for; 403 answers all others. Everybody when neither
    /// this nor `allow_file` is set.
    pub allow: Option<OneOrMany<Network>>,
    /// The addresses and networks that are answered 403, also when they are allowed.
    pub deny: Option<OneOrMany<Network>>,
    /// A file with more to allow: one a line, `#` begins a comment. It is read again when it
    /// changes, and at SIGHUP; while something in it is wrong, what was read before holds.
    pub allow_file: Option<PathBuf>,
    /// A file with more to deny.
    pub deny_file: Option<PathBuf>,
    /// Whom it takes: clients for whom these `[[auth]]` vouch, by name. Whom it does not take may
    /// be for a later route that has `auth`, too, and is for none that has not; in the end there is
    /// a 401 or 403. An empty list takes everybody, also whom an earlier route has refused.
    pub auth: Option<OneOrMany<String>>,
    /// How many of them must vouch for a client, when there are several.
    #[serde(default)]
    pub satisfy: Satisfy,
    /// Claims that a client must have, each with its value, or with a list of which it must have
    /// one. A claim that is a list has its elements, `scope` those between its spaces.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimValues>,
    /// Whose pages may open WebSockets here. By default, those of this site and no others.
    #[serde(default)]
    pub origin: OriginConfig,
    /// Has the edge answer the CORS of plain HTTP, for the sites that `origin` allows. Without it,
    /// plain HTTP and its preflights go to the target as they are.
    pub cors: Option<CorsConfig>,
    /// What clients and servers may do here, and how much of it. What is not set is as in
    /// `[limits]`.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Has the edge ping clients or servers that say nothing, in WebSockets to a backend. Nobody is
    /// pinged by default.
    #[serde(default)]
    pub ping: PingConfig,
    /// The path that its servers get, with `{name}` and `{*}` for what its `path` captures.
    pub rewrite: Option<String>,
    /// What is changed of the headers that its servers get.
    pub request_header: Option<HeaderEditsConfig>,
    /// What is changed of the headers of answers to those whom it takes, also of a 101.
    pub response_header: Option<HeaderEditsConfig>,
    /// Target: the name of the backend whose servers answer.
    pub backend: Option<String>,
    /// Target: a topic of this node's hub. Needs `[hub]`.
    pub hub: Option<TopicRoute>,
    /// Target: files of a directory, or a page that is part of the program.
    #[serde(rename = "static")]
    pub static_files: Option<StaticConfig>,
    /// Target: another place, to which the client is sent.
    pub redirect: Option<RedirectConfig>,
    /// Target: a fixed answer.
    pub respond: Option<RespondConfig>,
}

impl RouteConfig {
    /// Whether it holds somebody up whom a later route may take: by who they are, from where they
    /// come, by what they do, or by a refusal.
    pub fn is_guard(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| !auth.0.is_empty())
            || self.allow.is_some()
            || self.allow_file.is_some()
            || self.deny.is_some()
            || self.deny_file.is_some()
            || self.origin != OriginConfig::default()
            || self.limits != LimitsConfig::default()
            || self.respond.as_ref().is_some_and(|respond| respond.status >= 400)
    }
}

/// The keys of a route that are targets.
pub const TARGETS: [&str; 5] = ["backend", "hub", "static", "redirect", "respond"];

fn any_path() -> PathPattern {
    "/*".parse().expect("`/*` is a path pattern")
}
