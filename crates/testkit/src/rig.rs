//! What most tests of the edge begin with: an edge before one server that does as its script says.

use crate::backend::Backend;
use crate::http::{Request, Response};
use crate::peer::Peer;
use crate::tidewire::{Tidewire, edge};
use crate::websocket::WebSocket;

/// An edge before one server.
#[derive(Debug)]
pub struct Rig {
    pub server: Backend,
    pub edge: Tidewire,
}

impl Rig {
    #[track_caller]
    pub fn new(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        Self::with(script, "")
    }

    /// With `more` behind the edge's configuration.
    #[track_caller]
    pub fn with(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, more: &str) -> Self {
        let server = Backend::start(script);
        let edge = Tidewire::run(&edge(&[server.address()], more));
        Self { server, edge }
    }

    /// With one worker, so that what a thread needs once is needed once: for tests that measure.
    #[track_caller]
    pub fn with_one_worker(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        let server = Backend::start(script);
        let edge = Tidewire::run(&format!("workers = 1\n{}", edge(&[server.address()], "")));
        Self { server, edge }
    }

    /// A connection to the edge.
    #[track_caller]
    pub fn connect(&self) -> Peer {
        Peer::connect(self.edge.address())
    }

    /// The answer to a request of this text.
    #[track_caller]
    pub fn answer(&self, text: &str) -> Response {
        let mut peer = self.connect();
        peer.send(text);
        peer.response()
    }

    /// A WebSocket on `/ws`.
    #[track_caller]
    pub fn open(&self) -> WebSocket {
        WebSocket::connect(self.edge.address(), "/ws")
    }
}
