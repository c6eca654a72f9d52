//! Sessions that servers name in the body of an answer, and clients in the query of their next
//! requests.
//!
//! Socket.IO begins with plain requests ("polling"). Its first answer is
//! `0{"sid":"hJxGsvBTLYQ","upgrades":...}`, and from then on each request has `sid=hJxGsvBTLYQ` in
//! its query, the WebSocket's handshake, too. Only the server that made a session knows it, and a
//! client that keeps no cookies shows nothing else. So the edge reads the first bytes of such
//! answers and remembers which server has made which session. SignalR does the same with
//! `connectionToken` and `id`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

use crate::backend::Backend;
use crate::server::ServerId;

/// Sessions that are known by a parameter of the query, as those of Socket.IO and SignalR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// The parameter by which clients name their session: `sid` for Socket.IO, `id` for SignalR.
    pub query: String,
    /// The member of the JSON in the first answer by which the server names it: `connectionToken`
    /// for SignalR. Without it, it is called as in the query.
    pub field: Option<String>,
    /// How long a session that nobody asks for is remembered, at least; twice that at most.
    #[serde(default = "five_minutes")]
    pub expire: Period,
    /// Most sessions that are remembered, of all clients; those not asked for the longest are
    /// forgotten first.
    #[serde(default = "hundred_thousand")]
    pub max_sessions: u32,
}

fn five_minutes() -> Period {
    Period::from_secs(300)
}

fn hundred_thousand() -> u32 {
    100_000
}

/// Which server has made which session.
#[derive(Debug)]
pub struct Sessions {
    pub query: Box<str>,
    /// What stands before a session's name in an answer: `"sid":"`.
    before: Box<[u8]>,
    expire: Duration,
    most: usize,
    /// Of sessions, only the hash is kept. Its seed is this process's: nobody can make two names
    /// meet.
    hasher: RandomState,
    generations: Mutex<Generations>,
}

/// What was asked for since the last turn, and what was before that. When `young` is full or old
/// enough, it becomes `old`, and what was old is forgotten: no list to keep in order, and nothing to
/// look through.
#[derive(Debug)]
struct Generations {
    young: HashMap<u64, ServerId>,
    old: HashMap<u64, ServerId>,
    turned: Instant,
}

impl Sessions {
    pub fn new(config: &SessionConfig) -> Self {
        let field = config.field.as_ref().unwrap_or(&config.query);
        Self {
            query: config.query.as_str().into(),
            before: format!("\"{field}\":\"").into_bytes().into(),
            expire: config.expire.0,
            most: (config.max_sessions as usize).div_ceil(2),
            hasher: RandomState::new(),
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
                turned: Instant::now(),
            }),
        }
    }

    /// The server that has made the session.
    pub fn server_of(&self, session: &[u8], now: Instant) -> Option<ServerId> {
        let key = self.hasher.hash_one(session);
        let mut generations = self.generations();
        generations.grow_old(self.expire, now);
        if let Some(server) = generations.young.get(&key) {
            return Some(*server);
        }
        let server = generations.old.remove(&key)?;
        generations.insert(key, server, self.most, now);
        Some(server)
    }

    /// Remembers which server has made a session. Whoever said so first is right: a name that
    /// another server only repeats, since a client had it do so, takes the session from nobody.
    pub fn remember(&self, session: &[u8], server: ServerId, now: Instant) {
        let key = self.hasher.hash_one(session);
        let mut generations = self.generations();
        generations.grow_old(self.expire, now);
        let known = generations.young.get(&key).copied().or_else(|| generations.old.remove(&key));
        generations.insert(key, known.unwrap_or(server), self.most, now);
    }

    /// Sessions that are remembered.
    pub fn len(&self) -> usize {
        let generations = self.generations();
        generations.young.len() + generations.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that an answer begins to tell of with these bytes.
    fn find<'a>(&self, answer: &'a [u8]) -> Found<'a> {
        let Some(at) = answer.windows(self.before.len()).position(|it| *it == *self.before) else {
            return Found::NotYet;
        };
        let value = &answer[at + self.before.len()..];
        match value.iter().position(|byte| !is_of_session(*byte)) {
            Some(end) if value[end] == b'"' && end > 0 => Found::Session(&value[..end]),
            Some(_) => Found::Never,
            None => Found::NotYet,
        }
    }
}

impl Generations {
    fn grow_old(&mut self, expire: Duration, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age >= expire {
            self.turn(now);
        }
        // Nobody has asked for anything in all that time.
        if age >= expire * 2 {
            self.old = HashMap::new();
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.turned = now;
    }

    fn insert(&mut self, key: u64, server: ServerId, most: usize, now: Instant) {
        if self.young.len() >= most && !self.young.contains_key(&key) {
            self.turn(now);
        }
        self.young.insert(key, server);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found<'a> {
    Session(&'a [u8]),
    NotYet,
    Never,
}

/// Looks into the beginning of an answer for the session that it names.
#[derive(Debug)]
pub struct Learner {
    backend: Arc<Backend>,
    server: ServerId,
    /// What there was of the answer so far.
    begun: Vec<u8>,
}

impl Learner {
    pub fn new(backend: Arc<Backend>, server: ServerId) -> Self {
        Self { backend, server, begun: Vec::new() }
    }

    /// Looks at what comes next; true when there is nothing more to look for. What is found is
    /// remembered before the client can know it.
    pub fn is_done_with(&mut self, bytes: &[u8]) -> bool {
        let Some(sessions) = &self.backend.stick.sessions else { return true };
        let room = LOOK_BYTES_MAX - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match sessions.find(&self.begun) {
            Found::Session(session) => {
                sessions.remember(session, self.server, Instant::now());
                true
            }
            Found::NotYet => self.begun.len() >= LOOK_BYTES_MAX,
            Found::Never => true,
        }
    }
}

/// Names of sessions are base64, UUIDs and the like; what has other bytes is not taken for one.
fn is_of_session(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~+/=:".contains(&byte)
}

/// As far into an answer is looked. That of Socket.IO names its session in the first 32 bytes, that
/// of SignalR in the first 160.
const LOOK_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Server, ServerConfig};

    fn sessions(config: &str) -> Sessions {
        Sessions::new(&serde_json::from_str(config).unwrap())
    }

    fn server() -> ServerId {
        let config = r#"{ "name": "a", "address": "127.0.0.1:1" }"#;
        let config: ServerConfig = serde_json::from_str(config).unwrap();
        Server::new(&config, Duration::ZERO).id
    }

    #[test]
    fn sessions_are_found_where_servers_put_them() {
        let socket_io = sessions(r#"{ "query": "sid" }"#);
        let signal_r = sessions(r#"{ "query": "id", "field": "connectionToken" }"#);
        let check = |sessions: &Sessions, answer: &str, expected: Found<'_>| {
            assert_eq!(sessions.find(answer.as_bytes()), expected, "{answer}");
        };
        let session = |name: &'static str| Found::Session(name.as_bytes());
        check(
            &socket_io,
            r#"0{"sid":"lv_VI97HAXpY-AAC","upgrades":[]}"#,
            session("lv_VI97HAXpY-AAC"),
        );
        check(&socket_io, r#"96:0{"sid":"abc","upgrades":[]}2:40"#, session("abc"));
        check(&socket_io, r#"{"sid":"5b7f-11"}"#, session("5b7f-11"));
        check(&socket_io, r#"0{"xsid":"abc"}"#, Found::NotYet);
        check(&socket_io, r#"0{"sid":"ab"#, Found::NotYet);
        check(&socket_io, r#"0{"sid":""}"#, Found::Never);
        check(&socket_io, r#"0{"sid":"a b"}"#, Found::Never);
        check(&socket_io, r#"0{"sid":"a\"b"}"#, Found::Never);
        check(
            &signal_r,
            r#"{"negotiateVersion":1,"connectionId":"x","connectionToken":"y=="}"#,
            session("y=="),
        );
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten() {
        let sessions = sessions(r#"{ "query": "sid", "expire": "10s" }"#);
        let (start, server) = (Instant::now(), server());
        let after = |seconds| start + Duration::from_secs(seconds);
        sessions.remember(b"asked", server, after(0));
        sessions.remember(b"silent", server, after(0));
        for seconds in [9, 18, 27, 36] {
            assert_eq!(sessions.server_of(b"asked", after(seconds)), Some(server), "{seconds}");
        }
        assert_eq!(sessions.server_of(b"silent", after(36)), None);
        assert_eq!(sessions.server_of(b"other", after(36)), None);
        // Twice the time at most, also when nobody has asked for anything.
        sessions.remember(b"alone", server, after(50));
        assert_eq!(sessions.server_of(b"alone", after(71)), None);
    }

    #[test]
    fn a_session_is_whose_it_was_first() {
        let sessions = sessions(r#"{ "query": "sid", "expire": "10s" }"#);
        let (start, maker, echo) = (Instant::now(), server(), server());
        sessions.remember(b"abc", maker, start);
        sessions.remember(b"abc", echo, start);
        let later = start + Duration::from_secs(15);
        sessions.remember(b"abc", echo, later);
        assert_eq!(sessions.server_of(b"abc", later), Some(maker));
    }

    #[test]
    fn there_are_never_more_than_may_be() {
        let sessions = sessions(r#"{ "query": "sid", "max_sessions": 100 }"#);
        let (now, server) = (Instant::now(), server());
        sessions.remember(b"asked", server, now);
        for number in 0..1000_u32 {
            sessions.remember(&number.to_be_bytes(), server, now);
            assert!(sessions.len() <= 100);
            if number % 20 == 0 {
                assert_eq!(sessions.server_of(b"asked", now), Some(server));
            }
        }
        assert_eq!(sessions.server_of(&0_u32.to_be_bytes(), now), None);
        assert_eq!(sessions.server_of(&999_u32.to_be_bytes(), now), Some(server));
    }

    #[test]
    fn an_answer_may_come_in_any_pieces() {
        let config = r#"{ "name": "nodes", "server": [{ "name": "a", "address": "127.0.0.1:1" }],
                          "stick": { "session": { "query": "sid" } } }"#;
        let config = serde_json::from_str(config).unwrap();
        let answer = br#"0{"sid":"lv_VI97HAXpY","upgrades":["websocket"]}"#;
        for cut in 0..=answer.len() {
            let backend = Arc::new(Backend::new(0, &config, &Default::default()));
            let server = backend.servers()[0].id;
            let mut learner = Learner::new(Arc::clone(&backend), server);
            let (first, second) = answer.split_at(cut);
            let is_done = learner.is_done_with(first) || learner.is_done_with(second);
            assert!(is_done, "cut at {cut}");
            let sessions = backend.stick.sessions.as_ref().unwrap();
            assert_eq!(sessions.server_of(b"lv_VI97HAXpY", Instant::now()), Some(server));
        }
    }

    #[test]
    fn no_more_is_looked_at_than_the_beginning() {
        let config = r#"{ "name": "nodes", "server": [{ "name": "a", "address": "127.0.0.1:1" }],
                          "stick": { "session": { "query": "sid" } } }"#;
        let backend =
            Arc::new(Backend::new(0, &serde_json::from_str(config).unwrap(), &Default::default()));
        let mut learner = Learner::new(Arc::clone(&backend), backend.servers()[0].id);
        let pieces = (0..).map(|_| [b'x'; 100]);
        assert_eq!(pieces.take_while(|piece| !learner.is_done_with(piece)).count(), 5);
        assert!(learner.begun.capacity() <= 2 * LOOK_BYTES_MAX);
    }
}
