//! On whose behalf a server is called.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Request, StatusCode, header};

use crate::backend::{Backend, Lease};
use crate::server::ServerId;
use crate::stick::Shown;
use crate::stick::session::Learner;

/// What is known of a request when a server is chosen for it, and called.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client's connection; `None` when the edge asks for itself.
    pub way: Option<Way>,
    pub preference: Preference,
    /// What the client has shown of where it belongs; `None` when the edge asks for itself.
    shown: Option<Shown>,
}

/// A client's connection: from where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where the client is.
    pub client: SocketAddr,
    /// Which of our addresses it has called.
    pub local: SocketAddr,
}

/// What of a request decides which server it gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preference {
    /// The server that it sticks to.
    pub stuck: Option<ServerId>,
    /// The hash of what the backend balances by.
    pub key: Option<u64>,
}

impl Caller {
    /// The caller of a client's `request`, rebuilt already, that is for `backend`. What the edge has
    /// put into it the time before, and no server is to see, is taken out.
    pub fn of<B>(way: Way, request: &mut Request<B>, backend: &Backend) -> Self {
        let shown = backend.stick.read(backend, request);
        let key = Preference::key(way.client.ip(), request, backend);
        Self {
            way: Some(way),
            preference: Preference { stuck: shown.server, key },
            shown: Some(shown),
        }
    }

    /// The edge itself.
    pub fn edge() -> Self {
        Self { way: None, preference: Preference::default(), shown: None }
    }

    /// Takes note of the answer that the server of `lease` gives, and has the client come to it
    /// again. What is to be looked at in its body is returned.
    pub fn answered(
        &self,
        lease: &Lease,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<Box<Learner>> {
        let shown = self.shown.as_ref()?;
        let backend = lease.backend();
        backend.stick.mark(shown, lease.server(), status, headers);
        let is_readable =
            status == StatusCode::OK && !headers.contains_key(header::CONTENT_ENCODING);
        (backend.stick.sessions.is_some() && shown.begins_session && is_readable)
            .then(|| Box::new(Learner::new(backend.clone(), lease.server().id)))
    }
}

impl Preference {
    fn key<B>(client: IpAddr, request: &Request<B>, backend: &Backend) -> Option<u64> {
        backend.key.as_ref()?.of(client, request.uri(), request.headers())
    }
}
