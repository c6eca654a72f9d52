//! On whose behalf a server is called.

use std::net::{IpAddr, SocketAddr};

use http::Request;

use crate::backend::Backend;

/// What is known of a request when a server is chosen for it, and called.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client's connection; `None` when the edge asks for itself.
    pub way: Option<Way>,
    pub preference: Preference,
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
#[derive(Clone, Debug, Default)]
pub struct Preference {}

impl Caller {
    /// The caller of a client's `request`, rebuilt already, that is for `backend`.
    pub fn of<B>(way: Way, request: &Request<B>, backend: &Backend) -> Self {
        Self { way: Some(way), preference: Preference::of(way.client.ip(), request, backend) }
    }

    /// The edge itself.
    pub fn edge() -> Self {
        Self { way: None, preference: Preference::default() }
    }
}

impl Preference {
    fn of<B>(_client: IpAddr, _request: &Request<B>, _backend: &Backend) -> Self {
        Self {}
    }
}
