//! The `[hub]` table.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidewire_runtime::units::{Period, Size};
use tidewire_wire::ws::close::CloseCode;

use crate::broker::url::BrokerUrl;

/// How this node's hub behaves. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// The name of this server: in `{node}`, in what clients of `tidewire.v1` are told, and in
    /// logs. Default: the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What carries messages between nodes: `"memory"` for one process, or
    /// `"redis://user:password@host:port/db"`.
    pub broker: BrokerUrl,
    /// Goes before each topic, with a colon, to make the name of its channel at the broker. Nodes
    /// that should hear each other have the same one.
    pub prefix: String,
    /// The biggest message that a client may send; one that sends more is closed with 1009.
    pub max_message: Size,
    /// The most fragments that one message may come in; a client that sends more is closed with
    /// 1009.
    pub max_fragments: u32,
    /// The bytes that may wait for one client that reads slower than its topic speaks. Passing it
    /// closes the client, so that one slow reader does not hold memory for all. Each piece that
    /// waits counts for 128 bytes more, which it takes. At least `max_message`.
    pub queue: Size,
    /// The close code for a client that was too slow: 1013 ("try again later") or 1008 ("policy").
    pub slow_close: SlowClose,
    /// How long a client may say nothing before it is pinged. `"0s"` sends no pings.
    pub ping: Period,
    /// How long a client that was pinged may stay silent before it is closed as gone.
    pub pong: Period,
    /// How long a client may send no message before it is closed, although it answers pings.
    /// `"0s"`, the default, allows for ever.
    pub idle: Period,
    /// How long before the end of its credential a client of `tidewire.v1` is told of it, so that
    /// it can send a newer one. `"0s"` tells nobody.
    pub renew_notice: Period,
    /// How long a client may take to answer our Close before its connection is dropped.
    pub close_timeout: Period,
    /// How long a topic without clients stays subscribed at the broker, so that a page that is
    /// loaded again costs nothing.
    pub unsubscribe_delay: Period,
    /// How long the broker may take to answer before it counts as away. A client waits as long at
    /// most for its topic's subscription.
    pub broker_timeout: Period,
    /// The bytes of messages that may wait for the broker. When half are used, clients that send
    /// are not read from; a message that does not fit is refused and its sender is told.
    pub broker_queue: Size,
    /// The bytes of messages that may wait for one worker. What does not fit is dropped for the
    /// clients of that worker, counted and logged.
    pub worker_queue: Size,
    /// What a client hears when its messages do not reach other nodes, as the broker is away.
    /// `"notice"`: a short JSON text, and another one when the broker is back, with the number of
    /// messages concerned. `"close"`: it is closed with 1013. `"quiet"`: nothing.
    pub away: Away,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            node: None,
            broker: BrokerUrl::Memory,
            prefix: "tidewire".to_owned(),
            max_message: Size(64 << 10),
            max_fragments: 1024,
            queue: Size(1 << 20),
            slow_close: SlowClose::TryAgainLater,
            ping: Period::from_secs(25),
            pong: Period::from_secs(10),
            idle: Period::from_secs(0),
            renew_notice: Period::from_secs(30),
            close_timeout: Period::from_secs(5),
            unsubscribe_delay: Period::from_secs(2),
            broker_timeout: Period::from_secs(2),
            broker_queue: Size(64 << 20),
            worker_queue: Size(64 << 20),
            away: Away::Notice,
        }
    }
}

/// A value that is well formed and yet cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubConfigFault {
    #[error("`node` is empty or has control characters; leave it out to use the host's name")]
    Node,
    #[error("`prefix` is empty, longer than 64 bytes, or has control characters")]
    Prefix,
    #[error("`max_message` is 0, so that no client could say anything")]
    MaxMessage,
    #[error("`max_fragments` is 0; 1 allows messages in one piece only")]
    MaxFragments,
    #[error(
        "`queue` ({queue}) is smaller than `max_message` ({max_message}): one message would \
             close every client that does not read at once"
    )]
    Queue { queue: Size, max_message: Size },
    #[error("`pong` is 0 and `ping` is not: every client would be closed at its first ping")]
    Pong,
    #[error("`broker_timeout` is below 100ms, which a healthy broker may take now and then")]
    BrokerTimeout,
}

impl HubConfigFault {
    /// The key that it is about.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Prefix => "prefix",
            Self::MaxMessage => "max_message",
            Self::MaxFragments => "max_fragments",
            Self::Queue { .. } => "queue",
            Self::Pong => "pong",
            Self::BrokerTimeout => "broker_timeout",
        }
    }
}

impl HubConfig {
    /// All that is wrong with the values together.
    pub fn faults(&self) -> Vec<HubConfigFault> {
        let (queue, max_message) = (self.queue, self.max_message);
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        let checks = [
            (self.node.as_deref().is_none_or(is_name), HubConfigFault::Node),
            (is_name(&self.prefix) && self.prefix.len() <= 64, HubConfigFault::Prefix),
            (max_message.0 > 0, HubConfigFault::MaxMessage),
            (self.max_fragments > 0, HubConfigFault::MaxFragments),
            (queue >= max_message, HubConfigFault::Queue { queue, max_message }),
            (!self.pong.0.is_zero() || self.ping.0.is_zero(), HubConfigFault::Pong),
            (self.broker_timeout >= Period::from_millis(100), HubConfigFault::BrokerTimeout),
        ];
        checks.into_iter().filter(|(is_fine, _)| !is_fine).map(|(_, fault)| fault).collect()
    }

    /// The name of this server.
    pub fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(|| {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            if name.is_empty() { "node".to_owned() } else { name }
        })
    }
}

/// What a client hears when the broker is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    Notice,
    Close,
    Quiet,
}

/// The close code of a client that was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClose {
    TryAgainLater,
    Policy,
}

impl SlowClose {
    pub fn code(self) -> CloseCode {
        match self {
            Self::TryAgainLater => CloseCode::TRY_AGAIN_LATER,
            Self::Policy => CloseCode::POLICY,
        }
    }
}

impl Serialize for SlowClose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.code().as_u16())
    }
}

impl<'de> Deserialize<'de> for SlowClose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer)? {
            1013 => Ok(Self::TryAgainLater),
            1008 => Ok(Self::Policy),
            other => Err(serde::de::Error::custom(format_args!(
                "{other} is not a close code for slow clients; write 1013 or 1008"
            ))),
        }
    }
}

impl JsonSchema for SlowClose {
    fn schema_name() -> Cow<'static, str> {
        "SlowClose".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "enum": [1013, 1008],
            "description": "1013 (try again later) or 1008 (policy violation).",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let config: HubConfig = toml::from_str(text).unwrap();
        let keys = config.faults().iter().map(HubConfigFault::key).collect::<Vec<_>>();
        assert_eq!(keys, expected, "{text}");
    }

    #[test]
    fn the_defaults_are_fine_and_read_back() {
        check("", &[]);
        let text = toml::to_string(&HubConfig::default()).unwrap();
        assert_eq!(toml::from_str::<HubConfig>(&text).unwrap(), HubConfig::default());
    }

    #[test]
    fn contradictions_are_found_together() {
        check("queue = '1KiB'\nprefix = ''\npong = '0s'", &["prefix", "queue", "pong"]);
        check("ping = '0s'\npong = '0s'", &[]);
        check("max_message = '0B'\nmax_fragments = 0", &["max_message", "max_fragments"]);
        check("node = ''\nbroker_timeout = '1ms'", &["node", "broker_timeout"]);
    }

    #[test]
    fn bad_values_and_unknown_keys_are_refused() {
        let message = |text| toml::from_str::<HubConfig>(text).unwrap_err().message().to_owned();
        assert!(message("broker = 'rediss://h'").contains("not supported yet"));
        assert!(message("slow_close = 1000").contains("write 1013 or 1008"));
        assert!(message("qeue = '1MiB'").contains("unknown field `qeue`"));
        assert!(message("away = 'x'").contains("`notice`, `close`, `quiet`"));
    }
}
