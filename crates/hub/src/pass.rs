//! What a client may do and until when: its identity, the end of it, its renewal.
//!
//! ```text
//!   Held ──renew_notice before its end──> told ──its end──> Close 3000
//!    ^                                      │
//!    └──{"tidewire":"renew","token":".."}───┘   the same subject, by the method of its handshake
//! ```
//!
//! Only clients of routes that ask for an identity, or that say who may publish, have one.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use serde::Deserialize;
use tidewire_auth::identity::Identity;
use tidewire_auth::live::{Call, Live};
use tidewire_runtime::deadline::{NEVER, TICK, Tick, ticks};

use crate::admission::Refusal;
use crate::permission::allows;
use crate::route::TopicRoute;
use crate::topic::Topic;

/// Checks a newer token of a client that is there already.
pub trait Renew: fmt::Debug {
    /// Who the client is from now on. The error is for the client.
    fn renew(&self, token: &str) -> Result<Arc<Identity>, String>;
}

/// Who a client is, as far as that is asked for.
#[derive(Debug, Default)]
pub struct Applicant<'a> {
    /// The subprotocols that it offers, best first.
    pub subprotocols: &'a [&'a str],
    pub live: Option<Live>,
    /// Checks the tokens by which it goes on beyond the end of its identity.
    pub renewal: Option<Rc<dyn Renew>>,
}

#[derive(Debug)]
pub(crate) struct Pass {
    live: Option<Live>,
    renewal: Option<Rc<dyn Renew>>,
    may_publish: Cell<bool>,
    denied: Cell<Denied>,
    attempts: Cell<Attempts>,
    /// The end of which the client has been told that it comes.
    told: Cell<Option<u64>>,
}

/// What has to be done about a client's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before that tick.
    Wait(Tick),
    /// Tell the client that it has so many seconds left, and look again at that tick.
    Tell { seconds: u64, expires: u64, until: Tick },
    /// It has ended.
    Expired,
}

impl Pass {
    /// The pass of a client of `topic`; `None` when it needs none.
    pub(crate) fn issue(
        route: &TopicRoute,
        topic: &Topic,
        live: Option<Live>,
        renewal: Option<Rc<dyn Renew>>,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let identity = live.as_ref().map(Live::identity);
        let rights = Rights::of(route, topic, identity.as_deref());
        if !rights.may_subscribe {
            return Err(Refusal::Forbidden);
        }
        if live.is_none() && rights.may_publish {
            return Ok(None);
        }
        Ok(Some(Box::new(Self {
            live,
            renewal,
            may_publish: Cell::new(rights.may_publish),
            denied: Cell::default(),
            attempts: Cell::default(),
            told: Cell::new(None),
        })))
    }

    pub(crate) fn may_publish(&self) -> bool {
        self.may_publish.get()
    }

    /// When it ends, in seconds since 1970.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.live.as_ref().and_then(Live::expires)
    }

    /// As [`Live::poll_call`].
    pub(crate) fn poll_call(&self, cx: &Context<'_>) -> Option<Call> {
        self.live.as_ref()?.poll_call(cx)
    }

    /// What has to be done now. `notice` is how long before the end the client is told of it; zero
    /// is never.
    pub(crate) fn look(&self, now: Tick, notice: Duration) -> Due {
        let Some(live) = &self.live else { return Due::Wait(NEVER) };
        let (Some(expires), Some(left)) = (live.expires(), live.left()) else {
            return Due::Wait(NEVER);
        };
        let due = due(now, left, notice, self.told.get() == Some(expires));
        match due {
            Some((true, until)) => {
                self.told.set(Some(expires));
                let seconds = left.as_millis().div_ceil(1000) as u64;
                Due::Tell { seconds, expires, until }
            }
            Some((false, until)) => Due::Wait(until),
            None => Due::Expired,
        }
    }

    /// A message was not published, for want of the right to. How many there were, when it is time
    /// to tell the client.
    pub(crate) fn note_denied(&self, now: Tick) -> Option<u32> {
        let mut denied = self.denied.get();
        let must_tell = denied.note(now);
        self.denied.set(denied);
        must_tell.then_some(denied.count)
    }

    /// Takes a newer token; `Ok` is its end. Whatever is wrong with it, the client keeps what it
    /// has.
    pub(crate) fn renew(
        &self,
        text: &[u8],
        now: Tick,
        route: &TopicRoute,
        topic: &Topic,
    ) -> Result<Option<u64>, String> {
        let mut attempts = self.attempts.get();
        let may_try = attempts.take(now);
        self.attempts.set(attempts);
        if !may_try {
            return Err("too many attempts; wait a few seconds".to_owned());
        }
        let (Some(live), Some(renewal)) = (&self.live, &self.renewal) else {
            return Err(NOTHING_TO_RENEW.to_owned());
        };
        let request = RenewRequest::parse(text)?;
        let identity = renewal.renew(&request.token)?;
        let old = live.identity();
        if identity.subject().is_none() || identity.subject() != old.subject() {
            return Err("the token is not of the same subject".to_owned());
        }
        let rights = Rights::of(route, topic, Some(&identity));
        if !rights.may_subscribe {
            return Err("who has this token may not subscribe to this topic".to_owned());
        }
        live.renew(identity).map_err(|error| error.to_string())?;
        self.may_publish.set(rights.may_publish);
        self.denied.take();
        Ok(live.expires())
    }
}

struct Rights {
    may_subscribe: bool,
    may_publish: bool,
}

impl Rights {
    fn of(route: &TopicRoute, topic: &Topic, identity: Option<&Identity>) -> Self {
        let may = |patterns: &Option<Vec<_>>| {
            patterns.as_ref().is_none_or(|patterns| allows(patterns, topic, identity))
        };
        Self { may_subscribe: may(&route.subscribe), may_publish: may(&route.publish) }
    }
}

/// Whether to tell the client, and when to look again; `None` when it is over.
fn due(now: Tick, left: Duration, notice: Duration, is_told: bool) -> Option<(bool, Tick)> {
    if left.is_zero() {
        return None;
    }
    let at = |left| now.saturating_add(ticks(left));
    match left.checked_sub(notice).filter(|before| !before.is_zero()) {
        _ if is_told || notice.is_zero() => Some((false, at(left))),
        Some(before) => Some((false, at(before))),
        None => Some((true, at(left))),
    }
}

/// Messages that were not published. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Denied {
    count: u32,
    /// When to tell the next time.
    from: Tick,
}

impl Denied {
    fn note(&mut self, now: Tick) -> bool {
        self.count = self.count.saturating_add(1);
        let must_tell = self.count == 1 || now >= self.from;
        if must_tell {
            self.from = now.saturating_add(ticks(DENIED_EVERY));
        }
        must_tell
    }
}

/// How often a client may try to renew. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    used: u32,
    /// Up to when uses have been forgotten.
    since: Tick,
}

impl Attempts {
    fn take(&mut self, now: Tick) -> bool {
        let forgotten = now.saturating_sub(self.since) / ticks(ATTEMPT_EVERY);
        self.used = self.used.saturating_sub(forgotten);
        self.since =
            if self.used == 0 { now } else { self.since + forgotten * ticks(ATTEMPT_EVERY) };
        let may_try = self.used < ATTEMPTS_MAX;
        self.used += u32::from(may_try);
        may_try
    }
}

/// A client's message for the hub itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewRequest<'a> {
    #[serde(borrow, rename = "tidewire")]
    _tidewire: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
}

impl<'a> RenewRequest<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, String> {
        if text.len() > RENEW_BYTES_MAX {
            return Err(format!("more than {RENEW_BYTES_MAX} bytes"));
        }
        // What serde says could show a part of the token.
        serde_json::from_slice(text).map_err(|_| {
            r#"expected {"tidewire":"renew","token":"..."} and nothing else"#.to_owned()
        })
    }
}

/// Whether a client's text is for the hub: an object whose first member is `"tidewire":"renew"`.
/// Spaces may be between, as some encoders write them: a token that is taken for a message would
/// reach everybody.
pub(crate) fn is_renewal(text: &[u8]) -> bool {
    let mut rest = text;
    [&b"{"[..], b"\"tidewire\"", b":", b"\"renew\""].into_iter().all(|token| {
        match rest.trim_ascii_start().strip_prefix(token) {
            Some(after) => {
                rest = after;
                true
            }
            None => false,
        }
    })
}

pub(crate) const NOTHING_TO_RENEW: &str = "there is nothing that a token could renew";

/// How often a client that goes on publishing without the right to is told so.
const DENIED_EVERY: Duration = Duration::from_secs(5);

/// Attempts at once, and how long it takes until there is another one.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_EVERY: Duration = Duration::from_secs(5);

const RENEW_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(TICK.as_millis() == 100, "notices and attempts are counted in ticks");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_hub_is_told_from_messages() {
        let check =
            |text: &str, expected| assert_eq!(is_renewal(text.as_bytes()), expected, "{text}");
        check(r#"{"tidewire":"renew","token":"x"}"#, true);
        check(" {\n \"tidewire\" : \"renew\" , \"token\": \"x\"}", true);
        check(r#"{"tidewire":"renew""#, true);
        check(r#"{"tidewire":"renewal"}"#, false);
        check(r#"{"token":"x","tidewire":"renew"}"#, false);
        check(r#"say {"tidewire":"renew"}"#, false);
        check("", false);
    }

    #[test]
    fn a_request_is_read_strictly() {
        let token =
            |text: &str| RenewRequest::parse(text.as_bytes()).ok().map(|it| it.token.into());
        let good = r#"{"tidewire":"renew","token":"a\u002eb"}"#;
        assert_eq!(token(good), Some("a.b".to_owned()));
        for text in [
            r#"{"tidewire":"renew"}"#,
            r#"{"tidewire":"renew","token":1}"#,
            r#"{"tidewire":"renew","token":"a","token":"b"}"#,
            r#"{"tidewire":"renew","token":"a","x":1}"#,
            r#"{"tidewire":"renew","token":"a"} "a""#,
        ] {
            assert_eq!(token(text), None, "{text}");
        }
        let long = format!(r#"{{"tidewire":"renew","token":"{}"}}"#, "x".repeat(RENEW_BYTES_MAX));
        assert_eq!(token(&long), None);
        let error = RenewRequest::parse(br#"{"tidewire":"renew","token":secret}"#).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_client_is_told_once_before_the_end() {
        let (ms, notice) = (Duration::from_millis, Duration::from_secs(30));
        assert_eq!(due(100, ms(60_000), notice, false), Some((false, 400)));
        assert_eq!(due(400, ms(30_000), notice, false), Some((true, 700)));
        assert_eq!(due(400, ms(5_000), notice, false), Some((true, 450)));
        assert_eq!(due(400, ms(30_000), notice, true), Some((false, 700)));
        assert_eq!(due(100, ms(60_000), Duration::ZERO, false), Some((false, 700)));
        assert_eq!(due(700, ms(0), notice, true), None);
    }

    #[test]
    fn attempts_are_few_at_once_and_come_back() {
        let mut attempts = Attempts::default();
        let mut count = |now| (0..10).filter(|_| attempts.take(now)).count();
        assert_eq!(count(1_000), 3);
        assert_eq!(count(1_049), 0);
        assert_eq!(count(1_050), 1);
        assert_eq!(count(1_099), 0);
        assert_eq!(count(9_000), 3);
    }

    #[test]
    fn a_client_that_goes_on_is_told_now_and_then() {
        let mut denied = Denied::default();
        let told: Vec<Tick> = (0..120).filter(|&now| denied.note(now)).collect();
        assert_eq!((told, denied.count), (vec![0, 50, 100], 120));
    }
}
