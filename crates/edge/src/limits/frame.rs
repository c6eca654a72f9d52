//! Limits on the frames of one direction of a tunnel.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::byte_rate::ByteRate;
use tidewire_runtime::rate::{Pace, Rate};
use tidewire_runtime::units::Size;
use tidewire_wire::ws::judge::{self, Allowed, Rules};
use tidewire_wire::ws::message;

use super::profile::Profile;

/// Limits on the frames of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FrameLimitsConfig {
    /// `"strict"`: whoever sends frames that break RFC 6455 is closed with 1002, and no byte of
    /// them is passed on. `"any"`: that is left to the other side.
    pub framing: Option<Framing>,
    /// The biggest frame; whoever sends a bigger one is closed with 1009 before it is passed on.
    pub max_frame: Option<Size>,
    /// The biggest message, all of its fragments together; whoever sends more is closed with 1009
    /// before it is passed on. Compressed messages count as they are on the wire.
    pub max_message: Option<Size>,
    /// The most fragments of a message, also when they are empty; one more is closed with 1009.
    pub max_fragments: Option<u32>,
    /// The kinds of messages that pass, `"text"` and `"binary"`; another one is closed with 1003.
    pub opcodes: Option<Vec<MessageOpcode>>,
    /// How many messages may come in a time. That many may come at once.
    pub messages: Option<Rate>,
    /// How many bytes may come in a time. That many may come at once.
    pub bytes: Option<ByteRate>,
    /// How many pings, pongs and Closes may come in a time. That many may come at once.
    pub control: Option<Rate>,
    /// What is done about more: `"slow"` reads no further until the rate allows it, `"close"`
    /// closes with 1008.
    pub over_rate: Option<OverRate>,
}

/// Whether frames must be as RFC 6455 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// They must.
    Strict,
    /// That is between the two sides.
    Any,
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageOpcode {
    Text,
    Binary,
}

/// What is done about those who send faster than they may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverRate {
    /// They are not read from until the rate allows it.
    #[default]
    Slow,
    /// They are closed with 1008.
    Close,
}

/// Limits on the frames of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// What each frame is held to.
    pub rules: Rules,
    pub messages: Option<Pace>,
    pub bytes: Option<Pace>,
    pub control: Option<Pace>,
    pub over_rate: OverRate,
}

/// Who sends the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

impl FrameLimits {
    /// What holds for frames of `sender`: `own` before `general` before the profile.
    pub fn resolve(
        own: &FrameLimitsConfig,
        general: &FrameLimitsConfig,
        profile: Profile,
        sender: Sender,
    ) -> Self {
        let usual = Usual::of(profile, sender);
        let size = |own: Option<Size>, general: Option<Size>, usual| {
            bound(own.or(general).map_or(usual, |size| size.0))
        };
        let fragments = own.max_fragments.or(general.max_fragments).unwrap_or(usual.fragments);
        let framing = match own.framing.or(general.framing).unwrap_or(usual.framing) {
            Framing::Strict => judge::Framing::Strict,
            Framing::Any => judge::Framing::Any,
        };
        let opcodes = own.opcodes.as_ref().or(general.opcodes.as_ref());
        let allowed = |opcode| match opcodes.is_none_or(|some| some.contains(&opcode)) {
            true => Allowed::Yes,
            false => Allowed::No,
        };
        let rules = Rules {
            framing,
            limits: message::Limits {
                frame_bytes_max: size(own.max_frame, general.max_frame, usual.frame),
                message_bytes_max: size(own.max_message, general.max_message, usual.message),
                fragments_max: if fragments == 0 { u32::MAX } else { fragments },
            },
            text: allowed(MessageOpcode::Text),
            binary: allowed(MessageOpcode::Binary),
        };
        let bytes = own.bytes.or(general.bytes);
        let bytes = bytes.map_or((usual.bytes, SECOND), |rate| (rate.size.0, rate.per));
        let rate = |own: Option<Rate>, general: Option<Rate>, usual: u32| {
            let rate = own.or(general).map_or((usual, SECOND), |rate| (rate.count, rate.per));
            pace((rate.0.into(), rate.1))
        };
        Self {
            rules,
            messages: rate(own.messages, general.messages, usual.messages),
            bytes: pace(bytes),
            control: rate(own.control, general.control, usual.control),
            over_rate: own.over_rate.or(general.over_rate).unwrap_or_default(),
        }
    }

    /// Whether nothing is limited, so that nothing need be looked at.
    pub fn are_off(&self) -> bool {
        self.rules == Rules::NONE && !self.have_pace()
    }

    /// Whether there is any rate to hold to.
    #[inline]
    pub fn have_pace(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some() || self.control.is_some()
    }
}

/// The values of a profile; 0 is no limit.
struct Usual {
    framing: Framing,
    frame: u64,
    message: u64,
    fragments: u32,
    messages: u32,
    bytes: u64,
    control: u32,
}

impl Usual {
    const OFF: Self = Self {
        framing: Framing::Any,
        frame: 0,
        message: 0,
        fragments: 0,
        messages: 0,
        bytes: 0,
        control: 0,
    };

    /// The table is in docs/limits.md, too.
    const fn of(profile: Profile, sender: Sender) -> Self {
        match (profile, sender) {
            (Profile::Off, _) => Self::OFF,
            (Profile::Default, _) => {
                Self { framing: Framing::Strict, fragments: 65_536, control: 500, ..Self::OFF }
            }
            (Profile::Strict, Sender::Client) => Self {
                framing: Framing::Strict,
                frame: 1 << 20,
                message: 1 << 20,
                fragments: 1024,
                messages: 100,
                bytes: 1 << 20,
                control: 20,
            },
            (Profile::Strict, Sender::Server) => Self {
                framing: Framing::Strict,
                frame: 16 << 20,
                message: 16 << 20,
                fragments: 1024,
                control: 100,
                ..Self::OFF
            },
        }
    }
}

fn bound(bytes: u64) -> u64 {
    if bytes == 0 { u64::MAX } else { bytes }
}

/// So many in a time, all of which may come at once; `None` for 0, which is no limit.
fn pace((count, per): (u64, Duration)) -> Option<Pace> {
    Pace::new(count, per, count)
}

const SECOND: Duration = Duration::from_secs(1);
