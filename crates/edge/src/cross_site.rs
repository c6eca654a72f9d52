//! What a request may do because of the page that sent it: asked before credentials, so that no
//! page of a stranger can try those of its visitors.

use http::Response;
use http::request::Parts;

use crate::answer::Body;
use crate::cors::{Cors, Marks, Ruled};
use crate::origin::{OriginConfig, Refused, Transport, Verdict};
use crate::route::{Target, host_of};

/// A route's rules for pages of other sites.
#[derive(Debug, Default)]
pub struct CrossSite {
    pub origin: OriginConfig,
    /// `None` leaves plain HTTP to the servers.
    pub cors: Option<Cors>,
}

/// A request that goes no further.
#[derive(Debug)]
pub struct Stopped {
    pub response: Response<Body>,
    /// For the log, when its page was refused.
    pub refused: Option<Refused>,
}

impl CrossSite {
    /// What the answer to `request` is to be marked with, or the answer itself: to a preflight, or
    /// to what its page must not ask of this `target`.
    pub fn check(
        &self,
        request: &Parts,
        is_websocket: bool,
        target: &Target,
        transport: Transport,
    ) -> Result<Marks, Box<Stopped>> {
        let headers = &request.headers;
        let host = host_of(&request.uri, headers);
        if is_websocket && target.takes_websockets() {
            let checked = self.origin.check_handshake(headers, host, transport);
            return checked.map(|()| Marks::default()).map_err(|refused| {
                Box::new(Stopped { response: refused.answer(headers), refused: Some(refused) })
            });
        }
        let Some(cors) = &self.cors else { return Ok(Marks::default()) };
        let verdict = self.origin.judge(headers, host, transport);
        match cors.rule(request, verdict, &self.origin) {
            Ruled::GoesOn(marks) => Ok(marks),
            Ruled::Answered(response) => {
                let refused = match verdict {
                    Verdict::Refused(refused) => Some(refused),
                    Verdict::Absent | Verdict::Same | Verdict::Allowed => None,
                };
                Err(Box::new(Stopped { response: *response, refused }))
            }
        }
    }
}
