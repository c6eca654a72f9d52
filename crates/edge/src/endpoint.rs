//! WebSockets that end in this process. The binary introduces whoever serves them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tidewire_auth::identity::Identity;
use tidewire_auth::live::Live;
use tidewire_runtime::conn::Upgraded;

use crate::end::End;
use crate::path::Captures;

/// A handshake that is whole and right, on its way to an endpoint.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// What the route's pattern took out of the path.
    pub captures: &'a Captures,
    /// The subprotocols that the client offers, in its order; those that are not ASCII left out.
    pub subprotocols: Vec<&'a str>,
    /// Who the client is, when the route asks for that. The WebSocket ends when it lapses.
    pub live: Option<Live>,
    /// Checks the tokens by which the client goes on beyond the end of its identity; `None` when
    /// nothing that it has shown can be renewed by a token.
    pub renewal: Option<Rc<dyn Renewal>>,
}

/// Checks a newer token of a client that is there already.
pub trait Renewal: fmt::Debug {
    /// Who the client is from now on. The error is for the client: it says what is wrong with the
    /// token, and nothing of the token itself. A token that speaks of somebody else is wrong.
    fn renew(&self, token: &str) -> Result<Arc<Identity>, String>;
}

/// One place where WebSockets end, on one worker.
pub trait Endpoint {
    /// Decides before the 101 whether the client is let in. May wait, within the `server` timeout.
    fn admit<'a>(&'a self, arrival: Arrival<'a>) -> AdmitFuture<'a>;
}

pub type AdmitFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Admission>, Refused>> + 'a>>;

/// A client that is let in and has its 101 yet to get. Dropped, it is as if it had never come.
pub trait Admission {
    /// The subprotocol for the 101.
    fn subprotocol(&self) -> Option<&'static str>;

    /// Takes the connection over, in a task of its own. `ended` is told once how it ended.
    fn start(self: Box<Self>, upgraded: Upgraded, ended: Ended);
}

/// Told once how a WebSocket ended, and what passed over it.
pub type Ended = Box<dyn FnOnce(End, Passed)>;

/// What passed over a WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub messages_in: u64,
    pub messages_out: u64,
}

/// Why a client is not let in.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    pub detail: String,
}
