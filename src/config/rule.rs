//! What is done about a request before a route is chosen for it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_edge::host::HostPattern;
use tidewire_edge::network::Network;
use tidewire_edge::path::PathPattern;
use tidewire_edge::redirect::RedirectConfig;
use tidewire_edge::rules::text_pattern::TextPattern;

use super::one_or_many::OneOrMany;

/// Says what is done about the requests for which a condition holds. Rules are asked in their
/// order, before a route is chosen, until one denies, redirects or names the route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name in logs and metrics; unique. `rule#1` is the first one that has none.
    pub name: Option<String>,
    /// The requests that it is about; all of them when it is not set.
    pub when: Option<ConditionConfig>,
    /// What is done about them.
    pub then: ThenConfig,
}

/// A condition on requests: all that is set in it must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionConfig {
    /// The listeners by which they come, by name.
    pub listen: Option<OneOrMany<String>>,
    /// Their hosts, without port: a name, or `*.` and a name for all below it.
    pub host: Option<OneOrMany<HostPattern>>,
    /// Their paths: literal segments, `{name}` for one segment, a final `*` for the rest.
    pub path: Option<OneOrMany<PathPattern>>,
    /// Their methods.
    pub method: Option<OneOrMany<String>>,
    /// Headers that they have, each with one of these values. Of a repeated header each value
    /// counts.
    pub header: BTreeMap<String, OneOrMany<TextPattern>>,
    /// Parameters that their query has, each with one of these values, percent-decoded.
    pub query: BTreeMap<String, OneOrMany<TextPattern>>,
    /// Cookies that they have, each with one of these values.
    pub cookie: BTreeMap<String, OneOrMany<TextPattern>>,
    /// Where their clients are: addresses and networks.
    pub address: Option<OneOrMany<Network>>,
    /// `true` for those that come by TLS, `false` for others.
    pub tls: Option<bool>,
    /// `true` for WebSocket handshakes, `false` for other requests.
    pub websocket: Option<bool>,
    /// WebSocket handshakes that offer one of these subprotocols, perhaps beside others.
    pub subprotocol: Option<OneOrMany<TextPattern>>,
    /// At least one of these conditions holds, too.
    pub any: Vec<ConditionConfig>,
    /// Each of these conditions holds, too.
    pub all: Vec<ConditionConfig>,
    /// This condition does not hold.
    pub not: Option<Box<ConditionConfig>>,
}

/// What is done: one of `deny`, `redirect` and `route`, which ends it, or changes, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThenConfig {
    /// Answers with this status, 400 to 599, and asks no server. A path is denied in every spelling
    /// that a server could take for it.
    pub deny: Option<u16>,
    /// The text of that answer, `text/plain`.
    pub body: Option<String>,
    /// Sends the client elsewhere. In `to`, captures of the rule's path may stand, too: `{name}`,
    /// and `{*}` for what its star takes.
    pub redirect: Option<RedirectConfig>,
    /// The name of the only route that may take them. What that route asks for must hold as well.
    pub route: Option<String>,
    /// The path that servers get, with `{name}` and `{*}` for what the rule's path captures. The
    /// query stays as it is, and so does what routes see.
    pub rewrite: Option<String>,
    /// What is changed of the headers that servers get.
    pub request_header: HeaderEditsConfig,
    /// What is changed of the headers of answers, whoever gives them, also of a 101.
    pub response_header: HeaderEditsConfig,
}

/// What is changed of headers. In values `{client.address}`, `{host}`, `{method}`, `{path}`,
/// `{query}`, `{scheme}` and the captures of the path stand for those of the request; `{{` is `{`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderEditsConfig {
    /// Headers that are taken away, before others are set.
    pub remove: Vec<String>,
    /// Headers that are set to a value, in place of what was there.
    pub set: BTreeMap<String, String>,
    /// Headers that are added to those that are there.
    pub add: BTreeMap<String, String>,
}

/// The keys of [`ThenConfig`] that end it.
pub const DECISIONS: [&str; 3] = ["deny", "redirect", "route"];
