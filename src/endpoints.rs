//! Introduces the edge and the hub, who do not know each other: a hub route as an endpoint.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tidewire_auth::identity::Identity;
use tidewire_edge::end::{End, Party, Reason};
use tidewire_edge::endpoint::{self, AdmitFuture, Arrival, Ended, Endpoint, Passed, Refused};
use tidewire_edge::limits::Limits;
use tidewire_edge::limits::frame::OverRate;
use tidewire_hub::admission::{Admission, Refusal};
use tidewire_hub::allowance::{self, ClientLimits};
use tidewire_hub::close::{ClientEnd, Close};
use tidewire_hub::pass::{Applicant, Renew};
use tidewire_hub::route::HubRoute;
use tidewire_hub::shard::Shard;
use tidewire_runtime::conn::Upgraded;
use tidewire_wire::Violation;
use tidewire_wire::ws::close::CloseCode;

/// A hub route on one worker.
pub struct HubEndpoint {
    pub shard: Rc<Shard>,
    pub route: Arc<HubRoute>,
}

impl Endpoint for HubEndpoint {
    fn admit<'a>(&'a self, arrival: Arrival<'a>) -> AdmitFuture<'a> {
        Box::pin(self.let_in(arrival))
    }
}

impl HubEndpoint {
    async fn let_in(&self, arrival: Arrival<'_>) -> Result<Box<dyn endpoint::Admission>, Refused> {
        let captures = arrival.captures;
        let capture =
            |name: &str| Some(captures.iter().find(|(known, _)| known == name)?.1.as_str());
        let topic = self.route.config.topic(capture).map_err(|error| Refused {
            status: StatusCode::BAD_REQUEST,
            detail: error.to_string(),
        })?;
        let route = Arc::clone(&self.route);
        let renewal = arrival.renewal.map(|renewal| Rc::new(HubRenewal(renewal)) as Rc<dyn Renew>);
        let applicant =
            Applicant { subprotocols: &arrival.subprotocols, live: arrival.live, renewal };
        match self.shard.admit(topic, route, applicant).await {
            Ok(admission) => Ok(Box::new(HubAdmission(admission))),
            Err(refusal @ Refusal::Forbidden) => {
                Err(Refused { status: StatusCode::FORBIDDEN, detail: refusal.to_string() })
            }
            Err(refusal @ (Refusal::Draining | Refusal::Busy)) => Err(Refused {
                status: StatusCode::SERVICE_UNAVAILABLE,
                detail: refusal.to_string(),
            }),
        }
    }
}

/// The limits of a route, as far as they are about what the hub's clients send.
pub fn client_limits(limits: &Limits) -> ClientLimits {
    let client = &limits.client;
    ClientLimits {
        rules: client.rules,
        messages: client.messages,
        bytes: client.bytes,
        control: client.control,
        over_rate: match client.over_rate {
            OverRate::Slow => allowance::OverRate::Slow,
            OverRate::Close => allowance::OverRate::Close,
        },
        lifetime: limits.lifetime,
    }
}

/// The edge's check of a newer token, for the hub.
#[derive(Debug)]
struct HubRenewal(Rc<dyn endpoint::Renewal>);

impl Renew for HubRenewal {
    fn renew(&self, token: &str) -> Result<Arc<Identity>, String> {
        self.0.renew(token)
    }
}

struct HubAdmission(Admission);

impl endpoint::Admission for HubAdmission {
    fn subprotocol(&self) -> Option<&'static str> {
        self.0.subprotocol()
    }

    fn start(self: Box<Self>, upgraded: Upgraded, ended: Ended) {
        self.0.start(upgraded, Box::new(move |end| ended(reason(&end), passed(&end))));
    }
}

/// A hub client's end in the words that all connections share.
fn reason(end: &ClientEnd) -> End {
    let (by, reason) = match end.close {
        Close::Left(_) => (Party::Client, Reason::Close),
        Close::Gone => (Party::Client, Reason::Eof),
        Close::Broken(_) => (Party::Client, Reason::Broken),
        Close::Violation(violation) if violation.close_code() == CloseCode::TOO_BIG => {
            (Party::Client, Reason::TooBig)
        }
        Close::Violation(Violation::OpcodeRefused(_)) => (Party::Client, Reason::Opcode),
        Close::Violation(Violation::TooFast(_)) => (Party::Client, Reason::Rate),
        Close::Violation(_) => (Party::Client, Reason::BadFrame),
        Close::Slow => (Party::Client, Reason::Slow),
        Close::Silent => (Party::Client, Reason::PingTimeout),
        Close::Idle => (Party::Client, Reason::IdleTimeout),
        Close::Aged => (Party::Edge, Reason::Lifetime),
        Close::Expired => (Party::Edge, Reason::Expired),
        Close::Revoked => (Party::Edge, Reason::Revoked),
        Close::BrokerAway => (Party::Edge, Reason::BrokerAway),
        Close::Drained | Close::Stopped => (Party::Edge, Reason::Drain),
        Close::Panicked => (Party::Edge, Reason::Internal),
    };
    End::by(by, reason).with_code(end.code.map(|code| code.as_u16()))
}

fn passed(end: &ClientEnd) -> Passed {
    let traffic = &end.traffic;
    Passed {
        bytes_in: traffic.bytes_in,
        bytes_out: traffic.bytes_out,
        messages_in: traffic.messages_in,
        messages_out: traffic.messages_out,
    }
}
