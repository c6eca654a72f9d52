//! Why a client's connection ended: one reason, who gave it, and the code on the wire.

use std::io;

use tidewire_wire::ws::close::CloseCode;
use tidewire_wire::{Traffic as Sent, Violation};

use crate::allowance::ClientLimits;
use crate::config::SlowClose;

/// The one reason for which a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client sent a Close, with this code if any.
    Left(Option<CloseCode>),
    /// The client's stream ended without a Close.
    Gone,
    /// The connection failed.
    Broken(io::ErrorKind),
    /// The client broke a rule of the protocol, or passed a limit.
    Violation(Violation),
    /// The client did not take its messages fast enough.
    Slow,
    /// The client did not answer a ping.
    Silent,
    /// The client sent no message for too long.
    Idle,
    /// The connection was as old as one may become.
    Aged,
    /// The client's credential has ended.
    Expired,
    /// The client's credential was revoked.
    Revoked,
    /// The broker is away and clients are to be closed then.
    BrokerAway,
    /// The node drains.
    Drained,
    /// The worker stopped before the client could be told.
    Stopped,
    /// A fault of ours.
    Panicked,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Client,
    Server,
    Network,
}

impl By {
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Network => "network",
        }
    }
}

impl Close {
    /// One word for logs and metric labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Left(_) => "left",
            Self::Gone => "gone",
            Self::Broken(_) => "broken",
            Self::Violation(_) => "violation",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Aged => "aged",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::BrokerAway => "broker_away",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
        }
    }

    /// Whether what a client still says is not published. Where there is a pace, being closed must
    /// not be a way around it; who is drained has done nothing wrong.
    pub(crate) fn ends_publishing(&self, limits: &ClientLimits) -> bool {
        match self {
            Self::Expired | Self::Revoked => true,
            Self::Drained => false,
            _ => limits.has_pace(Sent::Messages) || limits.has_pace(Sent::Bytes),
        }
    }

    pub fn by(&self) -> By {
        match self {
            Self::Left(_) | Self::Gone | Self::Violation(_) => By::Client,
            Self::Broken(_) | Self::Silent => By::Network,
            Self::Slow | Self::Idle | Self::BrokerAway => By::Server,
            Self::Aged | Self::Expired | Self::Revoked => By::Server,
            Self::Drained | Self::Stopped | Self::Panicked => By::Server,
        }
    }

    /// The code on the wire: the client's, or ours. None when there was no Close.
    pub fn code(&self, slow: SlowClose) -> Option<CloseCode> {
        match self {
            Self::Left(code) => *code,
            Self::Gone | Self::Broken(_) | Self::Panicked => None,
            Self::Violation(violation) => Some(violation.close_code()),
            Self::Slow => Some(slow.code()),
            Self::Silent | Self::Idle | Self::Aged | Self::Drained | Self::Stopped => {
                Some(CloseCode::GOING_AWAY)
            }
            Self::Expired => Some(CloseCode::UNAUTHORIZED),
            Self::Revoked => Some(CloseCode::FORBIDDEN),
            Self::BrokerAway => Some(CloseCode::TRY_AGAIN_LATER),
        }
    }

    /// The reason on the wire, in words for whoever looks into a browser's console.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Violation(violation) => violation.to_string(),
            Self::Slow => "too slow for its messages".to_owned(),
            Self::Silent => "no answer to a ping".to_owned(),
            Self::Idle => "no message for too long".to_owned(),
            Self::Aged => "as old as it may become".to_owned(),
            Self::Expired => "token expired".to_owned(),
            Self::Revoked => "revoked".to_owned(),
            Self::BrokerAway => "messages do not reach other servers".to_owned(),
            Self::Drained | Self::Stopped => "the server goes away".to_owned(),
            Self::Left(_) | Self::Gone | Self::Broken(_) | Self::Panicked => String::new(),
        }
    }
}

/// How a client's connection ended, and what it was: for its one log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEnd {
    pub close: Close,
    /// The close code that was sent or received.
    pub code: Option<CloseCode>,
    pub traffic: Traffic,
    /// Messages of the client that did not, or may not have, reached other nodes, and of which it
    /// was not told that all is well again.
    pub undelivered: u32,
}

/// What went through a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages handed to the client: written, or queued for it.
    pub messages_out: u64,
    /// Bytes read, frames and all.
    pub bytes_in: u64,
    /// Bytes that the kernel took.
    pub bytes_out: u64,
}
