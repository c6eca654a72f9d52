//! Credentials that are right, and are not accepted any more.
//!
//! ```text
//!   admin, other nodes ──> Revocations::add ──┬─> new clients: is_revoked, before the 101
//!                                             └─> changes ──> Lives of each worker: the WebSocket ends
//! ```
//!
//! What is known only grows until it may be forgotten, and adding is the same in any order: two
//! revocations of the same thing make one that begins and ends with the later of each. So nodes
//! that have told each other what they know, know the same.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::identity::{Credential, Identity};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The token of this id (`jti`).
    TokenId(Box<str>),
    /// All that was issued to this subject (`sub`) until then.
    Subject(Box<str>),
}

/// That something is revoked: since when, and until when it has to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revocation {
    #[serde(flatten)]
    pub of: Revoked,
    /// When it was revoked, in seconds since 1970. What is issued to a subject later is good.
    pub at: u64,
    /// When it may be forgotten, in seconds since 1970: nothing that it speaks of lives longer.
    pub until: u64,
}

/// The revocations that a process knows of. Read without a lock.
#[derive(Debug)]
pub struct Revocations {
    known: ArcSwap<Known>,
    max: usize,
    changed: watch::Sender<u64>,
}

/// What came of adding revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many said something that was not known.
    pub new: usize,
    /// How many were not taken, as there is no room.
    pub refused: usize,
}

type Known = HashMap<Revoked, Revocation, foldhash::fast::RandomState>;

impl Default for Revocations {
    fn default() -> Self {
        Self::new(REVOCATIONS_MAX)
    }
}

impl Revocations {
    /// Has room for `max`. A full one refuses: forgetting an older one would let somebody in whom
    /// somebody has locked out.
    pub fn new(max: usize) -> Self {
        Self { known: ArcSwap::default(), max, changed: watch::Sender::new(0) }
    }

    /// Adds what is not known yet, and forgets what may be. `now` is in seconds since 1970.
    pub fn add(&self, news: &[Revocation], now: u64) -> Added {
        if !self.has_news(news, now) {
            return Added::default();
        }
        let mut added = Added::default();
        self.known.rcu(|known| {
            let mut next = Known::clone(known);
            next.retain(|_, one| one.until > now);
            added = Added::default();
            for one in news.iter().filter(|one| one.until > now) {
                let has_room = next.len() < self.max;
                match next.get_mut(&one.of) {
                    Some(old) if old.covers(one) => {}
                    Some(old) => {
                        old.at = old.at.max(one.at);
                        old.until = old.until.max(one.until);
                        added.new += 1;
                    }
                    None if has_room => {
                        next.insert(one.of.clone(), one.clone());
                        added.new += 1;
                    }
                    None => added.refused += 1,
                }
            }
            next
        });
        if added.new > 0 {
            self.changed.send_modify(|version| *version += 1);
        }
        added
    }

    /// Adding copies the table, so what says nothing new does not come so far.
    fn has_news(&self, news: &[Revocation], now: u64) -> bool {
        let known = self.known.load();
        let is_new = |one: &Revocation| !known.get(&one.of).is_some_and(|old| old.covers(one));
        news.iter().any(|one| one.until > now && is_new(one))
    }

    /// Those that are not to be forgotten by `now`, in no order.
    pub fn all(&self, now: u64) -> Vec<Revocation> {
        self.known.load().values().filter(|one| one.until > now).cloned().collect()
    }

    /// How many are not to be forgotten by `now`.
    pub fn len(&self, now: u64) -> usize {
        self.known.load().values().filter(|one| one.until > now).count()
    }

    /// Whether one of the credentials of `identity` is revoked.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let known = self.known.load();
        !known.is_empty() && identity.credentials().any(|credential| is_revoked(&known, credential))
    }

    /// Another number after each change.
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Tells when there are new ones.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// As [`Revocations::all`], shared, with those that are to be forgotten.
    pub fn snapshot(&self) -> Arc<HashMap<Revoked, Revocation, foldhash::fast::RandomState>> {
        self.known.load_full()
    }
}

impl Revocation {
    /// Whether `other` says nothing that this does not say.
    fn covers(&self, other: &Self) -> bool {
        debug_assert_eq!(self.of, other.of);
        self.at >= other.at && self.until >= other.until
    }
}

impl Revoked {
    /// The id or the name.
    pub fn name(&self) -> &str {
        match self {
            Self::TokenId(name) | Self::Subject(name) => name,
        }
    }
}

/// A [`Revoked`] that is only looked for: no copy of a name for each look.
#[derive(Hash)]
enum Sought<'a> {
    TokenId(&'a str),
    Subject(&'a str),
}

impl Equivalent<Revoked> for Sought<'_> {
    fn equivalent(&self, key: &Revoked) -> bool {
        match (self, key) {
            (Self::TokenId(name), Revoked::TokenId(known))
            | (Self::Subject(name), Revoked::Subject(known)) => **name == **known,
            _ => false,
        }
    }
}

fn is_revoked(known: &Known, credential: &Credential) -> bool {
    let is_token = || {
        let id = credential.token_id.as_deref();
        id.is_some_and(|id| known.contains_key(&Sought::TokenId(id)))
    };
    let since = || known.get(&Sought::Subject(credential.subject.as_deref()?)).map(|one| one.at);
    // What does not say when it was issued could be old.
    let is_old = |at| credential.issued.is_none_or(|issued| issued <= at);
    is_token() || since().is_some_and(is_old)
}

/// Most revocations that are remembered, unless the configuration says otherwise.
pub const REVOCATIONS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn identity(subject: &str, token_id: &str, issued: Option<u64>) -> Identity {
        let credential = Credential {
            auth: "users".into(),
            subject: Some(subject.into()),
            token_id: Some(token_id.into()),
            issued,
            expires: None,
        };
        Identity::new(credential, Map::new())
    }

    fn subject(name: &str, at: u64, until: u64) -> Revocation {
        Revocation { of: Revoked::Subject(name.into()), at, until }
    }

    fn token(id: &str, at: u64, until: u64) -> Revocation {
        Revocation { of: Revoked::TokenId(id.into()), at, until }
    }

    #[test]
    fn a_token_is_revoked_for_good_and_a_subject_up_to_that_second() {
        let known = Revocations::default();
        known.add(&[token("t1", 100, 900), subject("ann", 100, 900)], 100);
        let check = |name, id, issued, expected| {
            assert_eq!(known.is_revoked(&identity(name, id, issued)), expected, "{name} {id}");
        };
        check("bob", "t1", Some(200), true);
        check("bob", "t2", Some(50), false);
        check("ann", "t2", Some(100), true);
        check("ann", "t2", Some(101), false);
        check("ann", "t2", None, true);
        // A name is not an id.
        check("t1", "ann", Some(50), false);
    }

    #[test]
    fn a_second_credential_that_is_revoked_is_enough() {
        let known = Revocations::default();
        known.add(&[token("t2", 100, 900)], 100);
        let both = identity("ann", "t1", Some(1)).and(identity("office", "t2", Some(1)));
        assert!(known.is_revoked(&both));
    }

    #[test]
    fn adding_is_the_same_in_any_order() {
        let news = [subject("ann", 5, 90), subject("ann", 9, 50), token("t", 1, 80)];
        let mut results = Vec::new();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let known = Revocations::default();
            for index in order {
                known.add(&news[index..=index], 10);
            }
            assert_eq!(known.add(&news, 10), Added::default());
            let mut all = known.all(10);
            all.sort_by(|one, other| one.of.cmp(&other.of));
            results.push(all);
        }
        assert_eq!(results[0], [token("t", 1, 80), subject("ann", 9, 90)]);
        assert!(results.windows(2).all(|two| two[0] == two[1]));
    }

    #[test]
    fn what_is_over_is_forgotten_and_not_taken() {
        let known = Revocations::default();
        assert_eq!(known.add(&[token("a", 1, 10)], 10), Added::default());
        known.add(&[token("a", 1, 10)], 5);
        assert_eq!((known.len(9), known.len(10)), (1, 0));
        known.add(&[token("b", 1, 20)], 10);
        assert_eq!(known.snapshot().len(), 1);
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let known = Revocations::new(2);
        let news = [token("a", 1, 99), token("b", 1, 99), token("c", 1, 99)];
        assert_eq!(known.add(&news, 1), Added { new: 2, refused: 1 });
        assert_eq!(known.add(&[token("a", 2, 99)], 1), Added { new: 1, refused: 0 });
        assert_eq!(known.len(1), 2);
    }

    #[test]
    fn changes_are_told_only_when_there_is_something_new() {
        let known = Revocations::default();
        let mut changes = known.changes();
        known.add(&[token("a", 1, 99)], 1);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        known.add(&[token("a", 1, 99)], 1);
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn a_revocation_is_written_as_it_is_asked_for() {
        let written = serde_json::to_value(token("t1", 1, 2)).unwrap();
        assert_eq!(written, json!({ "token_id": "t1", "at": 1, "until": 2 }));
        let read: Revocation = serde_json::from_value(written).unwrap();
        assert_eq!(read, token("t1", 1, 2));
    }
}
