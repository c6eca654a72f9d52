//! What a client is told besides messages, and when: that what it says does not reach other nodes,
//! that it may not say it, that its time is over.
//!
//! ```text
//!   Well ──broker away, client hears of it──> Told ──broker back──> Well
//! ```

use std::borrow::Cow;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Messages do not reach other nodes for now.
    Degraded { why: &'a str, undelivered: u32 },
    /// They do again.
    Restored { undelivered: u32 },
    /// It may not publish to its topic; so many messages were dropped.
    Denied { undelivered: u32 },
    /// Its credential ends in so many seconds.
    Expiring { seconds: u64, expires: u64 },
    /// A newer credential is taken; this is the end of it.
    Renewed { expires: Option<u64> },
    /// A newer credential is not taken.
    RenewalRefused { why: &'a str, expires: Option<u64> },
}

impl Notice<'_> {
    pub fn event(&self) -> &'static str {
        match self {
            Self::Degraded { .. } => "degraded",
            Self::Restored { .. } => "restored",
            Self::Denied { .. } => "denied",
            Self::Expiring { .. } => "expiring",
            Self::Renewed { .. } => "renewed",
            Self::RenewalRefused { .. } => "renewal_refused",
        }
    }

    /// How many of the client's messages did not, or may not have, reached others so far.
    pub fn undelivered(&self) -> Option<u32> {
        match self {
            Self::Degraded { undelivered, .. }
            | Self::Restored { undelivered }
            | Self::Denied { undelivered } => Some(*undelivered),
            Self::Expiring { .. } | Self::Renewed { .. } | Self::RenewalRefused { .. } => None,
        }
    }

    /// How many seconds are left.
    pub fn seconds(&self) -> Option<u64> {
        match self {
            Self::Expiring { seconds, .. } => Some(*seconds),
            _ => None,
        }
    }

    /// When the client's credential ends, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        match self {
            Self::Expiring { expires, .. } => Some(*expires),
            Self::Renewed { expires } | Self::RenewalRefused { expires, .. } => *expires,
            Self::Degraded { .. } | Self::Restored { .. } | Self::Denied { .. } => None,
        }
    }

    /// A sentence for people.
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Degraded { why, .. } => {
                format!("messages may not reach other servers for now: {why}").into()
            }
            Self::Restored { undelivered: 0 } => {
                "messages reach other servers again; some of theirs may have been missed".into()
            }
            Self::Restored { undelivered } => format!(
                "messages reach other servers again; {undelivered} of yours may not have, and \
                 some of theirs may have been missed"
            )
            .into(),
            Self::Denied { .. } => {
                "you may not publish to this topic; what you say is dropped".into()
            }
            Self::Expiring { seconds, .. } => {
                format!("your token expires in {seconds} s; send a newer one").into()
            }
            Self::Renewed { .. } => "your newer token is taken".into(),
            Self::RenewalRefused { why, .. } => {
                format!("your newer token is not taken: {why}").into()
            }
        }
    }
}

/// What one client knows. Pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Messages that did not, or may not have, reached other nodes since the client was told last
    /// that all is well.
    undelivered: u32,
    is_told: bool,
}

impl Standing {
    /// One of its messages is concerned. Whether it has to be told now.
    #[must_use]
    pub fn note_undelivered(&mut self) -> bool {
        self.undelivered = self.undelivered.saturating_add(1);
        !std::mem::replace(&mut self.is_told, true)
    }

    /// The broker went. Whether it has to be told now.
    #[must_use]
    pub fn note_away(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// All is well again. How many messages it has to be told of, if anything.
    #[must_use]
    pub fn note_restored(&mut self) -> Option<u32> {
        let before = std::mem::take(self);
        before.is_told.then_some(before.undelivered)
    }

    pub fn undelivered(&self) -> u32 {
        self.undelivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_once_and_then_how_many() {
        let mut standing = Standing::default();
        assert_eq!(standing.note_restored(), None);
        assert!(standing.note_undelivered());
        assert!(!standing.note_undelivered());
        assert!(!standing.note_away());
        assert_eq!(standing.note_restored(), Some(2));
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn a_client_that_lost_nothing_hears_the_end_of_what_it_heard_begin() {
        let mut standing = Standing::default();
        assert!(standing.note_away());
        assert!(!standing.note_undelivered());
        assert_eq!(standing.note_restored(), Some(1));
        assert!(standing.note_away());
        assert_eq!(standing.note_restored(), Some(0));
    }
}
