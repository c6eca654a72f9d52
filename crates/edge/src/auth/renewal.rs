//! How a client that is there goes on with a newer token.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use tidewire_auth::identity::Identity;
use tidewire_auth::method::Method;
use tidewire_runtime::clock::unix_seconds;

use super::authority::Check;
use super::examination::{Grant, together};
use crate::endpoint::Renewal;
use crate::service::Edge;

/// Checks the newer tokens of one client.
pub struct TokenRenewal {
    edge: Arc<Edge>,
    route: usize,
    /// Who vouches for it, and what each of them knows.
    parts: RefCell<Vec<(usize, Arc<Identity>)>>,
}

impl TokenRenewal {
    /// For a client of this route; `None` when it has shown nothing that a token could renew.
    pub fn of(edge: &Arc<Edge>, route: usize, grant: &Grant) -> Option<Rc<dyn Renewal>> {
        let parts = &grant.parts;
        if !parts.iter().any(|(auth, _)| method(edge, *auth).is_some()) {
            return None;
        }
        let parts = RefCell::new(parts.clone());
        Some(Rc::new(Self { edge: Arc::clone(edge), route, parts }))
    }
}

impl Renewal for TokenRenewal {
    fn renew(&self, token: &str) -> Result<Arc<Identity>, String> {
        let mut parts = self.parts.borrow().clone();
        let mut why = None;
        let renewed = parts.iter_mut().find_map(|(auth, part)| {
            match method(&self.edge, *auth)?.authenticate_token(token, unix_seconds()) {
                Ok(newer) if newer.subject() == part.subject() => {
                    *part = Arc::new(newer);
                    Some(())
                }
                Ok(_) => {
                    why = Some("the token speaks of somebody else".to_owned());
                    None
                }
                Err(denied) => {
                    why.get_or_insert(denied.to_string());
                    None
                }
            }
        });
        let identity = renewed.and_then(|()| together(&parts));
        let Some(identity) = identity else {
            return Err(why.unwrap_or_else(|| "this token renews nothing".to_owned()));
        };
        if self.edge.revocations.is_revoked(&identity) {
            return Err("revoked".to_owned());
        }
        let access = self.edge.routes.get(self.route).and_then(|route| route.access.as_ref());
        if !access.is_some_and(|access| access.takes(&identity)) {
            return Err("the token lacks what this route asks for".to_owned());
        }
        *self.parts.borrow_mut() = parts;
        Ok(identity)
    }
}

impl fmt::Debug for TokenRenewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRenewal").field("route", &self.route).finish_non_exhaustive()
    }
}

/// The method of an authority that takes tokens.
fn method(edge: &Edge, auth: usize) -> Option<&Method> {
    match &edge.authorities.get(auth)?.check {
        Check::Method(method) if matches!(**method, Method::Jwt(_)) => Some(method),
        _ => None,
    }
}
