//! Which of the routes that match takes a request, when some of them ask who the client is.
//!
//! The routes are tried in their order, and a client that one of them does not let in may be for
//! the next one that asks, too. But it is not for one that asks nothing: `/*` is written for what
//! is left, and not for those who have been refused at `/admin/*`. A route that says `auth = []`
//! takes them all the same.

use tidewire_auth::method::Found;

use super::access::Access;
use super::denial::Denial;
use super::examination::{Examination, Grant};
use crate::route::Route;

/// What stands before the routes, for one request.
pub struct Gate<'r> {
    examination: Examination<'r>,
    /// The first route that did not take the client, and why none did.
    refused: Option<(usize, Denial)>,
}

impl<'r> Gate<'r> {
    pub fn new(examination: Examination<'r>) -> Self {
        Self { examination, refused: None }
    }

    /// Whether this route has nothing to say to a client that has been refused already.
    pub fn passes_over(&self, route: &Route) -> bool {
        self.refused.is_some() && route.access.is_none()
    }

    /// The grant for a route with this access. `None` when the next route is to be tried.
    pub async fn admit(&mut self, route: usize, access: &Access) -> Option<Option<Grant>> {
        if access.auths.is_empty() {
            return Some(None);
        }
        let denial = match self.examination.admit(access).await {
            Ok(grant) => return Some(Some(grant)),
            Err(denial) => denial,
        };
        self.refused = Some(match self.refused.take() {
            None => (route, denial),
            Some((first, before)) => (first, before.or(denial)),
        });
        None
    }

    /// The credentials that are to be taken out of a request that a route of this access has taken.
    pub fn into_found(self, access: Option<&Access>) -> Vec<Found> {
        self.examination.into_found(access)
    }

    /// The first route that did not take the client, and why none did. `None` when no route was
    /// for such a request.
    pub fn into_refused(self) -> Option<(usize, Denial)> {
        self.refused
    }
}
