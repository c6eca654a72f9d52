//! How nodes tell each other what is revoked. Pure: messages and the time in, messages out.
//!
//! ```text
//!   said here ──tell──> everyone adds it
//!   (re)connected, now and then ──hello: digest──> who has another one ──hello back, offer──> adds
//! ```
//!
//! A broker forgets what it has delivered, and delivers nothing to a node that is cut off. So each
//! node says now and then what it knows, as a digest; who knows something else offers what it has
//! and says so. Nodes wait a random moment before they speak, and leave out what another has said
//! meanwhile: a hundred nodes that find their broker again do not say the same a hundred times.
//!
//! Whoever may publish at the broker may say anything here, so nothing is trusted: messages,
//! entries and times have bounds, and what is wrong is dropped. The worst that can be said is a
//! revocation; it can be told from one of an operator by nobody, which is why a broker must not be
//! open to others.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::jwt::claims;
use crate::revocation::{Added, Revocation, Revocations, Revoked};

/// One node's part in the talk about revocations.
#[derive(Debug)]
pub struct Gossip {
    known: Arc<Revocations>,
    random: fastrand::Rng,
    /// When to say a digest, and whether it answers one.
    hello: Option<(Instant, Answers)>,
    /// When to offer all that is known, but for what was heard since that was decided.
    offer: Option<Instant>,
    heard: HashSet<Revocation, foldhash::fast::RandomState>,
    /// What is being offered.
    offered: VecDeque<Bytes>,
    /// The digest, with the version of what is known and the second that it is of.
    digest: Cell<Option<(u64, u64, u64)>>,
}

/// Why a message of another node is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0} bytes; at most {MESSAGE_BYTES_MAX} are taken")]
    TooLong(usize),
    #[error("not a message of this protocol: {0}")]
    NotOurs(String),
    #[error("version {0} is not known here")]
    Version(u32),
    #[error("{0} revocations in one message; at most {ENTRIES_MAX} are taken")]
    TooMany(usize),
    #[error("{0} of its revocations cannot be")]
    Entries(usize),
}

/// Whether a digest is said in answer to another one, which ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Nothing,
    Hello,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hello: Option<Hello>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<Revocation>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    digest: u64,
    answers: bool,
}

impl Gossip {
    pub fn new(known: Arc<Revocations>, random: fastrand::Rng) -> Self {
        let (heard, offered) = (HashSet::default(), VecDeque::new());
        Self { known, random, hello: None, offer: None, heard, offered, digest: Cell::new(None) }
    }

    /// The broker is there, for the first time or again.
    pub fn connected(&mut self, now: Instant) {
        let at = now + self.moment();
        self.hello = Some((at, Answers::Nothing));
    }

    /// The broker is away: nobody would hear.
    pub fn away(&mut self) {
        (self.hello, self.offer) = (None, None);
        self.heard.clear();
        self.offered.clear();
    }

    /// The message that tells of one revocation.
    pub fn tell(one: &Revocation) -> Bytes {
        encode(&Message { version: VERSION, hello: None, revoked: vec![one.clone()] })
    }

    /// Takes in a message of another node. `wall` is the time in seconds since 1970.
    ///
    /// # Errors
    /// What was wrong with it. Revocations in it that are right are taken all the same.
    pub fn hear(&mut self, bytes: &[u8], now: Instant, wall: u64) -> Result<Added, Malformed> {
        let message = decode(bytes)?;
        let count = message.revoked.len();
        let mut news = message.revoked;
        news.retain(|one| can_be(one, wall));
        let added = self.known.add(&news, wall);
        if self.offer.is_some() {
            let known = self.known.snapshot();
            // What is known as more than was said has to be said.
            let is_said = |one: &Revocation| known.get(&one.of) == Some(one);
            self.heard.extend(news.iter().filter(|one| is_said(one)).cloned());
        }
        if let Some(hello) = &message.hello {
            self.hear_hello(hello, now, wall);
        }
        match count - news.len() {
            0 => Ok(added),
            wrong => Err(Malformed::Entries(wrong)),
        }
    }

    fn hear_hello(&mut self, hello: &Hello, now: Instant, wall: u64) {
        if hello.digest == self.digest(wall) {
            // Another node has said what was to be said here.
            if let Some((_, Answers::Hello)) = self.hello {
                self.rest(now);
            }
            return;
        }
        if self.offer.is_none() && self.offered.is_empty() {
            self.heard.clear();
            self.offer = Some(now + self.moment());
        }
        let is_soon = |(at, _): (Instant, Answers)| at <= now + MOMENT_MAX;
        if !hello.answers && !self.hello.is_some_and(is_soon) {
            self.hello = Some((now + self.moment(), Answers::Hello));
        }
    }

    /// When there is something to say.
    pub fn due(&self) -> Option<Instant> {
        let hello = self.hello.map(|(at, _)| at);
        hello.into_iter().chain(self.offer).min()
    }

    /// Appends what is to be said by now. What is long is said piece by piece.
    pub fn speak(&mut self, now: Instant, wall: u64, out: &mut Vec<Bytes>) {
        if let Some((at, answers)) = self.hello
            && at <= now
        {
            let hello = Hello { digest: self.digest(wall), answers: answers == Answers::Hello };
            out.push(encode(&Message { version: VERSION, hello: Some(hello), revoked: vec![] }));
            self.rest(now);
        }
        if self.offer.is_some_and(|at| at <= now) {
            if self.offered.is_empty() {
                self.prepare(wall);
            }
            let count = self.offered.len().min(MESSAGES_AT_ONCE);
            out.extend(self.offered.drain(..count));
            self.offer = (!self.offered.is_empty()).then(|| now + PIECE_EVERY);
        }
    }

    /// Puts what is known and was not heard into messages.
    fn prepare(&mut self, wall: u64) {
        let mut all = self.known.all(wall);
        all.retain(|one| !self.heard.contains(one));
        self.heard = HashSet::default();
        let mut rest = all.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut revoked, mut bytes) = (Vec::new(), 0);
            while bytes < PIECE_BYTES
                && revoked.len() < ENTRIES_MAX
                && let Some(one) = rest.next()
            {
                bytes += one.of.name().len() + ENTRY_BYTES;
                revoked.push(one);
            }
            self.offered.push_back(encode(&Message { version: VERSION, hello: None, revoked }));
        }
    }

    /// Nothing more to say for a while.
    fn rest(&mut self, now: Instant) {
        let pause = HELLO_EVERY.mul_f64(0.75 + self.random.f64() / 2.0);
        self.hello = Some((now + pause, Answers::Nothing));
    }

    fn moment(&mut self) -> Duration {
        MOMENT_MAX.mul_f64(0.1 + 0.9 * self.random.f64())
    }

    /// A number that is the same on nodes that know the same. What ends soon does not count, as
    /// clocks differ a little.
    fn digest(&self, wall: u64) -> u64 {
        let version = self.known.version();
        if let Some((digest, of, at)) = self.digest.get()
            && (of, at) == (version, wall)
        {
            return digest;
        }
        let known = self.known.snapshot();
        let lasting = known.values().filter(|one| one.until > wall + CLOCKS_APART);
        let digest = lasting.fold(0, |sum, one| sum ^ digest_of(one));
        self.digest.set(Some((digest, version, wall)));
        digest
    }
}

/// FNV-1a: versions and machines must agree on it, which hashers of tables do not promise.
#[derive(Debug)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        // The last bytes of what is hashed reach the high bits only so.
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    }
}

fn digest_of(one: &Revocation) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(match one.of {
        Revoked::TokenId(_) => b"t",
        Revoked::Subject(_) => b"s",
    });
    hash.write(&one.at.to_be_bytes());
    hash.write(&one.until.to_be_bytes());
    hash.write(one.of.name().as_bytes());
    hash.finish()
}

fn encode(message: &Message) -> Bytes {
    serde_json::to_vec(message).expect("texts and numbers are always JSON").into()
}

fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Malformed::TooLong(bytes.len()));
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let not_ours = |error: serde_json::Error| Malformed::NotOurs(error.to_string());
    let Version { version } = serde_json::from_slice(bytes).map_err(not_ours)?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let message: Message = serde_json::from_slice(bytes).map_err(not_ours)?;
    match message.revoked.len() {
        0..=ENTRIES_MAX => Ok(message),
        count => Err(Malformed::TooMany(count)),
    }
}

/// Whether a node with a clock that is about right can have said this.
fn can_be(one: &Revocation, wall: u64) -> bool {
    is_name(one.of.name())
        && one.at <= wall.saturating_add(CLOCKS_APART)
        && one.until <= wall.saturating_add(LIFE_MAX.as_secs() + CLOCKS_APART)
}

/// Whether a token's id or a subject can be revoked by this name.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
}

/// Longest name of a token or a subject that can be revoked: as long as there are.
pub const NAME_BYTES_MAX: usize = claims::NAME_BYTES_MAX;

/// The longest time for which something can be revoked.
pub const LIFE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

const VERSION: u32 = 1;

/// How far clocks of nodes may be apart, in seconds.
const CLOCKS_APART: u64 = 60;

const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const ENTRIES_MAX: usize = 1024;

/// A message is not made longer than about this, so that it passes where a client's message does.
const PIECE_BYTES: usize = 8 * 1024;

/// What an entry has besides its name, about.
const ENTRY_BYTES: usize = 64;

const MESSAGES_AT_ONCE: usize = 32;
const PIECE_EVERY: Duration = Duration::from_millis(50);

/// Who answers a hello waits up to so long, so that one can speak for many.
const MOMENT_MAX: Duration = Duration::from_millis(400);

const HELLO_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_000_000;

    fn token(number: u64) -> Revocation {
        let of = Revoked::TokenId(format!("token-{number}").into());
        Revocation { of, at: WALL, until: WALL + 10_000 }
    }

    /// Nodes at a broker that delivers in order, to those that are not cut off, or loses.
    struct Rig {
        nodes: Vec<Gossip>,
        is_cut: Vec<bool>,
        now: Instant,
        said: usize,
    }

    impl Rig {
        fn new(count: u64, seed: u64) -> Self {
            let node = |number| {
                let random = fastrand::Rng::with_seed(seed * 100 + number);
                Gossip::new(Arc::default(), random)
            };
            let nodes: Vec<_> = (0..count).map(node).collect();
            let is_cut = vec![false; nodes.len()];
            let mut rig = Self { nodes, is_cut, now: Instant::now(), said: 0 };
            for index in 0..rig.nodes.len() {
                rig.join(index);
            }
            rig
        }

        fn join(&mut self, index: usize) {
            self.is_cut[index] = false;
            self.nodes[index].connected(self.now);
        }

        fn cut(&mut self, index: usize) {
            self.is_cut[index] = true;
            self.nodes[index].away();
        }

        fn revoke(&mut self, index: usize, one: &Revocation) {
            self.nodes[index].known.add(std::slice::from_ref(one), WALL);
            self.publish(index, &Gossip::tell(one), &mut fastrand::Rng::new(), 0.0);
        }

        fn publish(&mut self, from: usize, message: &Bytes, random: &mut fastrand::Rng, loss: f64) {
            self.said += 1;
            for index in 0..self.nodes.len() {
                let is_there = !self.is_cut[index] && !self.is_cut[from] && index != from;
                if is_there && random.f64() >= loss {
                    self.nodes[index].hear(message, self.now, WALL).unwrap();
                }
            }
        }

        fn run(&mut self, time: Duration, random: &mut fastrand::Rng, loss: f64) {
            let end = self.now + time;
            loop {
                let due = self.nodes.iter().enumerate();
                let next = due.filter_map(|(index, node)| Some((node.due()?, index))).min();
                let Some((at, index)) = next.filter(|(at, _)| *at <= end) else { break };
                self.now = self.now.max(at);
                let mut out = Vec::new();
                self.nodes[index].speak(self.now, WALL, &mut out);
                for message in out {
                    self.publish(index, &message, random, loss);
                }
            }
            self.now = end;
        }

        fn counts(&self) -> Vec<usize> {
            self.nodes.iter().map(|node| node.known.len(WALL)).collect()
        }
    }

    #[test]
    fn who_comes_late_learns_what_was_said() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rig = Rig::new(3, 1);
        rig.cut(2);
        (0..1_000).for_each(|number| rig.revoke(0, &token(number)));
        assert_eq!(rig.counts(), [1_000, 1_000, 0]);
        rig.join(2);
        rig.run(Duration::from_secs(5), &mut random, 0.0);
        assert_eq!(rig.counts(), [1_000; 3]);
    }

    #[test]
    fn who_was_cut_off_is_heard_too() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rig = Rig::new(5, 1);
        rig.cut(0);
        rig.revoke(0, &token(1));
        rig.revoke(1, &token(2));
        rig.join(0);
        rig.run(Duration::from_secs(5), &mut random, 0.0);
        assert_eq!(rig.counts(), [2; 5]);
    }

    #[test]
    fn nodes_that_know_the_same_say_no_more_than_that() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rig = Rig::new(50, 1);
        (0..200).for_each(|number| rig.revoke(0, &token(number)));
        (0..50).for_each(|index| rig.cut(index));
        (0..50).for_each(|index| rig.join(index));
        rig.said = 0;
        rig.run(Duration::from_secs(5), &mut random, 0.0);
        assert_eq!(rig.said, 50);
    }

    #[test]
    fn many_nodes_do_not_offer_the_same_many_times() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rig = Rig::new(50, 1);
        rig.run(Duration::from_secs(2), &mut random, 0.0);
        rig.cut(49);
        (0..100).for_each(|number| rig.revoke(0, &token(number)));
        rig.join(49);
        rig.said = 0;
        rig.run(Duration::from_secs(5), &mut random, 0.0);
        assert_eq!(rig.counts(), [100; 50]);
        assert!(rig.said < 10, "{} messages", rig.said);
    }

    /// Random cuts, revocations and losses; a few minutes later all know all.
    #[test]
    fn in_the_end_all_know_all() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rig = Rig::new(random.u64(2..6), seed);
            let mut count = 0;
            for _ in 0..random.usize(1..40) {
                let index = random.usize(..rig.nodes.len());
                match random.u8(0..4) {
                    0 => rig.cut(index),
                    1 => rig.join(index),
                    2 => {
                        rig.revoke(index, &token(count));
                        count += 1;
                    }
                    _ => {
                        let time = Duration::from_millis(random.u64(0..70_000));
                        rig.run(time, &mut random, 0.3);
                    }
                }
            }
            (0..rig.nodes.len()).for_each(|index| rig.join(index));
            rig.run(Duration::from_secs(1_200), &mut random, 0.2);
            let all = count as usize;
            assert!(rig.counts().iter().all(|&it| it == all), "seed {seed}: {:?}", rig.counts());
        }
    }

    #[test]
    fn what_cannot_be_is_not_taken() {
        let mut gossip = Gossip::new(Arc::default(), fastrand::Rng::with_seed(1));
        let mut check = |text: &str, expected: Result<usize, Malformed>| {
            let heard = gossip.hear(text.as_bytes(), Instant::now(), WALL);
            assert_eq!(heard.map(|added| added.new), expected, "{text}");
        };
        let entry = |name: &str, at: u64, until: u64| {
            format!(
                r#"{{"version":1,"revoked":[{{"subject":"{name}","at":{at},"until":{until}}}]}}"#
            )
        };
        check(&entry("ann", WALL, WALL + 60), Ok(1));
        check(&entry("ann", WALL, WALL + 60), Ok(0));
        check(&entry("old", WALL - 9, WALL - 5), Ok(0));
        check(&entry("", WALL, WALL + 60), Err(Malformed::Entries(1)));
        check(&entry("a\\u0000b", WALL, WALL + 60), Err(Malformed::Entries(1)));
        check(&entry(&"x".repeat(NAME_BYTES_MAX + 1), WALL, WALL + 60), Err(Malformed::Entries(1)));
        check(&entry("far", WALL + 61, WALL + 99), Err(Malformed::Entries(1)));
        check(&entry("long", WALL, u64::MAX), Err(Malformed::Entries(1)));
        check(r#"{"version":2,"new":1}"#, Err(Malformed::Version(2)));
        let is_not_ours =
            |text: &str| matches!(decode(text.as_bytes()).map(|_| ()), Err(Malformed::NotOurs(_)));
        for text in ["", "[]", "null", r#"{"version":1,"x":0}"#, r#"{"version":"1"}"#] {
            assert!(is_not_ours(text), "{text}");
        }
        let long = " ".repeat(MESSAGE_BYTES_MAX + 1);
        check(&long, Err(Malformed::TooLong(long.len())));
        let entries = vec![r#"{"subject":"a","at":1,"until":1}"#; ENTRIES_MAX + 1].join(",");
        let many = format!(r#"{{"version":1,"revoked":[{entries}]}}"#);
        check(&many, Err(Malformed::TooMany(ENTRIES_MAX + 1)));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut gossip = Gossip::new(Arc::default(), fastrand::Rng::with_seed(1));
        for _ in 0..10_000 {
            let mut bytes = Gossip::tell(&token(1)).to_vec();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            let _ = gossip.hear(&bytes, Instant::now(), WALL);
        }
    }

    #[test]
    fn a_message_of_long_names_still_passes() {
        let mut gossip = Gossip::new(Arc::default(), fastrand::Rng::with_seed(1));
        let long = |number: usize| Revocation {
            of: Revoked::Subject(format!("{number}{}", "x".repeat(500)).into()),
            ..token(0)
        };
        gossip.known.add(&(0..2_000).map(long).collect::<Vec<_>>(), WALL);
        gossip.prepare(WALL);
        assert!(gossip.offered.iter().all(|it| it.len() <= 2 * PIECE_BYTES));
        let other = Gossip::new(Arc::default(), fastrand::Rng::with_seed(1));
        let mut other = other;
        for message in &gossip.offered {
            other.hear(message, Instant::now(), WALL).unwrap();
        }
        assert_eq!(other.known.len(WALL), 2_000);
    }
}
