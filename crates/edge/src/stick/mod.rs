//! Stickiness: a client gets the server again that it had before.
//!
//! ```text
//!   request ──Stick::read──> the server that it sticks to ──> Preference ──> Backend::lease
//!   answer  ──Stick::mark──> a cookie, for the next time
//!           ──Learner──────> the session that the server names in it
//! ```
//!
//! What it sticks to is asked first; which server a client without one gets is the backend's
//! `balance`. To send clients by a hash of what they have anyway, no table and no cookie is needed:
//! that is a `balance`, too.

pub mod cookie;
pub mod session;
pub mod token;

use std::time::Instant;

use http::{HeaderMap, Request, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::secret::Secret;

use self::cookie::{InsertConfig, Inserted, PrefixConfig, Prefixed};
use self::session::{SessionConfig, Sessions};
use self::token::{Signer, Token};
use crate::backend::Backend;
use crate::balance::key::parameter;
use crate::server::{Server, ServerId};

/// How clients get the server again that they had before. Without any of these they do not, unless
/// `balance` goes by something that stays the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickConfig {
    /// A cookie that the edge gives to clients, also with a 101, and takes out of their requests.
    pub insert: Option<InsertConfig>,
    /// A cookie that servers set: the edge puts a mark in front of its value, and takes it off again
    /// before a server sees it.
    pub prefix: Option<PrefixConfig>,
    /// A session that the server names in its first answer and clients name in their query, such as
    /// those of Socket.IO.
    pub session: Option<SessionConfig>,
    /// What cookies are signed with, at least 16 bytes. Without it, each process draws one of its
    /// own: after a restart, and at another edge, clients get another server.
    pub secret: Option<Secret>,
}

/// The stickiness of a backend.
pub struct Stick {
    backend: String,
    signer: Signer,
    inserted: Option<Inserted>,
    prefixed: Option<Prefixed>,
    pub sessions: Option<Sessions>,
}

/// What a request has shown of where it belongs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// The server that it sticks to.
    pub server: Option<ServerId>,
    /// The server that the edge's own cookie is of.
    cookie: Option<ServerId>,
    /// Whether the answer may name a session.
    pub begins_session: bool,
    is_tls: bool,
}

impl Stick {
    pub fn new(config: &StickConfig, backend: &str) -> Self {
        Self {
            backend: backend.to_owned(),
            signer: Signer::new(config.secret.as_ref()),
            inserted: config.insert.as_ref().map(Inserted::new),
            prefixed: config.prefix.as_ref().map(|prefix| Prefixed::new(&prefix.cookie)),
            sessions: config.session.as_ref().map(Sessions::new),
        }
    }

    /// The token of a server.
    pub fn token(&self, server: &str) -> Token {
        self.signer.token(&self.backend, server)
    }

    /// Which server a request sticks to; the edge's marks are taken out of it. A session goes
    /// before a cookie: a client has it from a server, and a cookie perhaps from long before.
    pub fn read<B>(&self, backend: &Backend, request: &mut Request<B>) -> Shown {
        let mut shown = Shown::default();
        let server_of = |token: &[u8]| backend.server_of(token);
        if let Some(inserted) = &self.inserted {
            shown.is_tls = is_tls(request.headers());
            shown.cookie = inserted.take_out(request.headers_mut(), server_of);
            shown.server = shown.cookie;
        }
        if let Some(prefixed) = &self.prefixed {
            shown.server = prefixed.take_off(request.headers_mut(), server_of).or(shown.server);
        }
        if let Some(sessions) = &self.sessions {
            let session = parameter(request.uri(), &sessions.query).filter(|it| !it.is_empty());
            shown.begins_session = session.is_none();
            let server = session.and_then(|it| sessions.server_of(&it, Instant::now()));
            shown.server = server.or(shown.server);
        }
        shown
    }

    /// Writes into the head of `server`'s answer what has the client come to it again.
    pub fn mark(
        &self,
        shown: &Shown,
        server: &Server,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) {
        if let Some(prefixed) = &self.prefixed {
            prefixed.put_on(headers, &self.token(&server.name));
        }
        if let Some(inserted) = &self.inserted
            && shown.cookie != Some(server.id)
        {
            inserted.put_in(headers, &self.token(&server.name), shown.is_tls);
            if status != StatusCode::SWITCHING_PROTOCOLS {
                Inserted::keep_private(headers);
            }
        }
    }
}

/// Whether the client has come by TLS, to this edge or to one before it that is trusted.
fn is_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_session_goes_before_a_cookie() {
        let config = json!({
            "name": "nodes",
            "server": [{ "name": "a", "address": "127.0.0.1:1" },
                       { "name": "b", "address": "127.0.0.1:2" }],
            "stick": { "insert": { "cookie": "c" }, "session": { "query": "sid" } },
        });
        let config = serde_json::from_value(config).unwrap();
        let backend = Arc::new(Backend::new(0, &config, &Default::default()));
        let [a, b] = [0, 1].map(|seat| backend.servers()[seat].id);
        let sessions = backend.stick.sessions.as_ref().unwrap();
        sessions.remember(b"known", b, Instant::now());
        let read = |uri: &str| {
            let cookie = format!("c={}", backend.stick.token("a").as_str());
            let mut request =
                Request::get(uri).header("cookie", cookie).body(()).expect("it is right");
            backend.stick.read(&backend, &mut request).server
        };
        assert_eq!(read("/?sid=known"), Some(b));
        assert_eq!([read("/?sid=other"), read("/")], [Some(a); 2]);
    }
}
