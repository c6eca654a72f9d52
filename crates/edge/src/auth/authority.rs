//! An `[[auth]]` at run time: who vouches for clients.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::header::HeaderName;
use tidewire_auth::forward::Forward;
use tidewire_auth::method::Method;
use tidewire_auth::template::ClaimTemplate;

use crate::backend::Backend;

/// Who vouches for clients. Shared by all workers.
#[derive(Debug)]
pub struct Authority {
    /// Its name in logs and metrics.
    pub name: String,
    pub check: Check,
    /// What servers hear of those for whom it vouches.
    pub headers: Vec<(HeaderName, ClaimTemplate)>,
}

/// How it finds out.
#[derive(Debug)]
pub enum Check {
    Method(Arc<Method>),
    Forward(Box<Asked>),
}

/// A service that is asked.
#[derive(Debug)]
pub struct Asked {
    pub forward: Forward,
    pub backend: Arc<Backend>,
    /// Whether its last answer was one; a change is logged.
    pub is_right: AtomicBool,
}

impl Authority {
    /// The headers of servers that only this edge sets.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let taken = match &self.check {
            Check::Method(_) => &[][..],
            Check::Forward(asked) => asked.forward.response_headers(),
        };
        self.headers.iter().map(|(name, _)| name).chain(taken)
    }
}
