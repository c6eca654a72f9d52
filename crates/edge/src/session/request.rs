//! A request of a client: the route that takes it, and who answers.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tidewire_auth::live::Live;
use tidewire_auth::method::Found;
use tidewire_wire::ws::handshake::{Classified, Offer, accept_key, classify};

use super::Session;
use crate::access_log::Record;
use crate::answer::{self, Body, close_after};
use crate::arrival::Arrivals;
use crate::auth::credentials::{name_subprotocol, take_all_out};
use crate::auth::denial::{Denial, DenialKind};
use crate::auth::examination::{Examination, Grant, Question};
use crate::auth::gate::Gate;
use crate::auth::renewal::TokenRenewal;
use crate::backend::Backend;
use crate::caller::{Caller, Way};
use crate::client_body::ClientBody;
use crate::cors::Marks;
use crate::cross_site::Stopped;
use crate::door::{Came, Comer, Door};
use crate::endpoint::Arrival;
use crate::exchange::{Exchanged, exchange};
use crate::fault::Fault;
use crate::forward::forward;
use crate::handover::Handover;
use crate::https_policy::HttpsPolicy;
use crate::limits::turned::Turned;
use crate::onward;
use crate::origin::Transport;
use crate::path::Captures;
use crate::route::{self, Route, Target};
use crate::rules::Judgement;
use crate::rules::changes::Made;
use crate::rules::condition::Asked;
use crate::trusted_proxies::Asker;

impl Session {
    /// The answer to a request. The order of the questions is the order of the lines.
    pub(super) async fn route(
        &self,
        record: &mut Record,
        mut parts: Parts,
        body: Incoming,
        judged: &mut Judgement,
    ) -> Response<Body> {
        if let Some(answer) = self.misdirected(&parts) {
            return answer;
        }
        if let Err(answer) = self.arrivals().hear_of(record, &mut parts, self.door()) {
            return *answer;
        }
        if let Some(answer) = self.shard.edge.challenges.answer(&parts.method, parts.uri.path()) {
            return answer;
        }
        let mut classified = classify(&parts.method, parts.version, &parts.headers);
        let is_websocket = !matches!(classified, Classified::NotWebSocket);
        if record.asker.transport() == Transport::Plain
            && let Some(answer) = self.https().redirect(&parts.uri, &parts.headers, is_websocket)
        {
            return close_after(answer);
        }
        *judged = self.judge(record, &parts, &classified);
        if let Some(answer) = judged.answer.take() {
            return if is_websocket { close_after(*answer) } else { *answer };
        }
        let chosen = match self.choose(record, &parts, &classified, judged.route).await {
            Ok(chosen) => chosen,
            Err(response) => return *response,
        };
        let Chosen { index, route, captures, marks, grant, found } = chosen;
        // Known by its Content-Length, before anybody is asked.
        if let Some(max) = route.limits.body.max.filter(|&max| body.size_hint().lower() > max) {
            return close_after(self.fault(&Fault::BodyTooLarge(max), record));
        }
        let asked = self.asked(record, &parts, &classified);
        if let Err(wrong) = judged.change(&route.changes, &asked, &route.matcher.path) {
            return wrong.answer();
        }
        let subprotocol = take_all_out(&found, &mut parts, &mut classified);
        let client = Client { grant, subprotocol, made: judged.made.as_deref() };
        let mut response = match (&route.target, classified) {
            (Target::Redirect(redirect), _) => redirect.answer(&parts.uri, &parts.headers),
            (Target::Respond(respond), _) => respond.answer(),
            (Target::Static(files), _) => {
                files.answer(&parts.method, &parts.uri, &parts.headers).await
            }
            (_, Classified::Refused(refusal)) => answer::refusal(refusal),
            (Target::Endpoint(_), Classified::NotWebSocket) => answer::upgrade_required(),
            (Target::Endpoint(endpoint), Classified::WebSocket(offer)) => {
                self.hear_end().await;
                self.admit(*endpoint, index, &captures, &offer, record, client).await
            }
            (Target::Backend(backend), Classified::NotWebSocket) => {
                let body = self.client_body(body, route);
                self.hear_end().await;
                // In a box: handshakes do not carry its room.
                Box::pin(self.forward(backend, record, parts, body, client)).await
            }
            (Target::Backend(backend), Classified::WebSocket(offer)) => {
                self.hear_end().await;
                self.upgrade(backend, index, &offer, record, parts, client).await
            }
        };
        marks.write(response.headers_mut());
        response
    }

    /// What the rules say of a request.
    fn judge(&self, record: &mut Record, parts: &Parts, classified: &Classified) -> Judgement {
        let rules = &self.shard.edge.rules;
        if rules.is_empty() {
            return Judgement::default();
        }
        let counters = &self.shard.metrics.rules;
        let judged =
            rules.judge(&self.asked(record, parts, classified), |rule| counters[rule].add(1));
        record.rule = judged.rule;
        judged
    }

    fn asked<'a>(
        &self,
        record: &Record,
        parts: &'a Parts,
        classified: &'a Classified,
    ) -> Asked<'a> {
        Asked {
            listener: self.listener,
            client: record.asker.client.ip(),
            is_tls: record.asker.transport() == Transport::Tls,
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            is_websocket: !matches!(classified, Classified::NotWebSocket),
            offer: match classified {
                Classified::WebSocket(offer) => Some(offer),
                _ => None,
            },
        }
    }

    /// The first route that takes the request, and this client. `only` is the one that a rule has
    /// chosen.
    async fn choose<'r>(
        &'r self,
        record: &mut Record,
        parts: &Parts,
        classified: &Classified,
        only: Option<u16>,
    ) -> Result<Chosen<'r>, Box<Response<Body>>> {
        let asked = self.asked(record, parts, classified);
        let Asked { offer, is_websocket, .. } = asked;
        let question = Question {
            parts,
            offer,
            is_websocket,
            peer: record.asker.client.socket_address(),
            scheme: record.asker.scheme,
            certificate: self.certificate(),
        };
        let mut gate = Gate::new(Examination::new(&self.shard, question));
        let mut first_marks = None;
        for (index, route, captures) in
            route::matching(&self.shard.edge.routes, &asked, only.map(usize::from))
        {
            if gate.passes_over(route) {
                continue;
            }
            record.route = Some(index);
            let transport = record.asker.transport();
            let marks = route.cross_site.check(parts, is_websocket, &route.target, transport);
            let marks = marks.map_err(|stopped| Box::new(self.stopped(*stopped, record)))?;
            let comer = if is_websocket { Comer::Handshake } else { Comer::Request };
            let door = &self.shard.edge.route_doors[index];
            let client = record.asker.client.ip();
            // Whom the route does not take may be for a later one: then it is none of the business
            // of this one's limits, but for the rate at which an address may try. Where there is no
            // later one, nobody's credentials are looked at who is not let in.
            let came = match door.counts_all() && self.is_followed(index, &asked, only) {
                true => Came::Up,
                false => Came::In,
            };
            record.pass = match self.waits_for(door.admit(client, comer, came)).await {
                Ok(pass) => pass,
                Err(why) => return Err(Box::new(turned_away(why, comer, marks, record))),
            };
            let grant = match &route.access {
                None => None,
                // In a box: requests that nobody asks for credentials do not carry its room.
                Some(access) => match self.waits_for(Box::pin(gate.admit(index, access))).await {
                    Some(grant) => grant,
                    None => {
                        record.pass = None;
                        first_marks.get_or_insert(marks);
                        continue;
                    }
                },
            };
            record.identity = grant.as_ref().map(|grant| grant.identity.clone());
            let pass = record.pass.as_mut();
            let let_in = door.let_in(pass, client, comer, came, record.identity.as_deref());
            if let Err(why) = self.waits_for(let_in).await {
                return Err(Box::new(turned_away(why, comer, marks, record)));
            }
            let found = gate.into_found(route.access.as_ref());
            return Ok(Chosen { index, route, captures, marks, grant, found });
        }
        let Some((first, denial)) = gate.into_refused() else {
            let response = answer::text(StatusCode::NOT_FOUND, "no route takes this request");
            return Err(Box::new(response));
        };
        record.route = Some(first);
        let mut response = deny(denial, record);
        // The page that is allowed to ask may read why it gets nothing.
        first_marks.into_iter().for_each(|marks| marks.write(response.headers_mut()));
        Err(Box::new(response))
    }

    /// Whether a client that the route at `index` asks for credentials, and does not take, may be
    /// for a later one.
    fn is_followed(&self, index: usize, asked: &Asked<'_>, only: Option<u16>) -> bool {
        let routes = &self.shard.edge.routes;
        let asks = |route: &Route| route.access.as_ref().is_some_and(|it| !it.auths.is_empty());
        asks(&routes[index])
            && route::matching(routes, asked, only.map(usize::from))
                .any(|(later, route, _)| later > index && route.access.is_some())
    }

    fn way(&self, record: &Record) -> Way {
        Way { client: record.asker.client.socket_address(), local: self.local }
    }

    /// Who asks, as far as those say who are believed.
    pub(super) fn asker(&self, headers: &HeaderMap) -> Asker {
        let scheme = if self.secured.is_some() { "https" } else { "http" };
        self.arrivals().asker(self.client, scheme, headers, &self.shard.metrics)
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.shard.edge.arrivals[self.listener]
    }

    fn door(&self) -> &Door {
        &self.shard.edge.listener_doors[self.listener]
    }

    /// Has the WebSocket that is to come end with its client's identity.
    fn enter(
        &self,
        grant: Option<&Grant>,
        record: &mut Record,
    ) -> Result<Option<Live>, Box<Response<Body>>> {
        let Some(grant) = grant else { return Ok(None) };
        let live = self.shard.lives.enter(grant.identity.clone());
        // From here on it hears of a revocation; one may have come while credentials were checked.
        if self.shard.edge.revocations.is_revoked(&grant.identity) {
            return Err(Box::new(deny(Denial::new(DenialKind::Revoked, "revoked"), record)));
        }
        Ok(Some(live))
    }

    /// Plain HTTP to a backend.
    async fn forward(
        &self,
        backend: &Arc<Backend>,
        record: &mut Record,
        parts: Parts,
        body: ClientBody,
        client: Client<'_>,
    ) -> Response<Body> {
        let mut request =
            self.rebuild(&record.asker, parts, client.grant, client.made).map(|()| body);
        let caller = Caller::of(self.way(record), &mut request, backend);
        match forward(&self.shard, backend, &caller, request).await {
            Ok(forwarded) => {
                record.server = Some(forwarded.server);
                forwarded.response.map(Body::server)
            }
            Err(fault) => self.fault(&fault, record),
        }
    }

    fn client_body(&self, body: Incoming, route: &Route) -> ClientBody {
        let timeout = self.shard.edge.timeouts.client.0;
        let edge = Arc::clone(&self.shard.edge);
        ClientBody::new(body, &route.limits.body, timeout, edge)
    }

    /// A WebSocket to a backend.
    async fn upgrade(
        &self,
        backend: &Arc<Backend>,
        route: usize,
        offer: &Offer,
        record: &mut Record,
        parts: Parts,
        client: Client<'_>,
    ) -> Response<Body> {
        let live = match self.enter(client.grant.as_ref(), record) {
            Ok(live) => live,
            Err(response) => return *response,
        };
        let mut request = self.rebuild(&record.asker, parts, client.grant, client.made);
        onward::ask_for_switch(request.headers_mut());
        let compression = self.shard.edge.routes[route].limits.compression;
        let offer = &*compression.restrict(offer, request.headers_mut());
        let caller = Caller::of(self.way(record), &mut request, backend);
        let exchanged = exchange(&self.shard, backend, &caller, request, offer).await;
        let mut switched = match exchanged {
            Ok(Exchanged::Switched(switched)) => switched,
            Ok(Exchanged::Declined { response, server }) => {
                record.server = Some(server);
                return close_after(response);
            }
            Err(fault) => return self.fault(&fault, record),
        };
        let record = record.websocket(route, self.entrance.take());
        *self.handover.borrow_mut() =
            Some(Handover::Tunnel { server: switched.server, live, record });
        name_subprotocol(switched.response.headers_mut(), client.subprotocol);
        switched.response
    }

    /// A WebSocket that ends here.
    async fn admit(
        &self,
        endpoint: usize,
        route: usize,
        captures: &Captures,
        offer: &Offer,
        record: &mut Record,
        client: Client<'_>,
    ) -> Response<Body> {
        let live = match self.enter(client.grant.as_ref(), record) {
            Ok(live) => live,
            Err(response) => return *response,
        };
        let renewal = client
            .grant
            .as_ref()
            .and_then(|grant| TokenRenewal::of(&self.shard.edge, route, grant));
        let subprotocols = offer.subprotocols.iter().filter_map(|one| one.to_str().ok()).collect();
        let arrival = Arrival { captures, subprotocols, live, renewal };
        let timeout = self.shard.edge.timeouts.server.0;
        let admission = self.shard.endpoints[endpoint].admit(arrival);
        let admission = match tokio::time::timeout(timeout, admission).await {
            Ok(Ok(admission)) => admission,
            Ok(Err(refused)) => return answer::text(refused.status, refused.detail),
            Err(_) => return self.fault(&Fault::ServerTimeout, record),
        };
        let mut headers = HeaderMap::new();
        if let Some(subprotocol) = admission.subprotocol() {
            let value = HeaderValue::from_static(subprotocol);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        name_subprotocol(&mut headers, client.subprotocol);
        let record = record.websocket(route, self.entrance.take());
        *self.handover.borrow_mut() = Some(Handover::Endpoint { admission, record });
        let accept = HeaderValue::from_bytes(&accept_key(&offer.key));
        answer::switching(headers, accept.expect("base64 is a header value"))
    }

    /// The client's certificate, verified.
    fn certificate(&self) -> Option<&[u8]> {
        self.secured.as_ref()?.certificates.first().map(AsRef::as_ref)
    }

    fn rebuild(
        &self,
        asker: &Asker,
        parts: Parts,
        grant: Option<Grant>,
        made: Option<&Made>,
    ) -> Request<()> {
        let granted = grant.map(|grant| grant.headers).unwrap_or_default();
        let identity = &self.shard.edge.identity_headers;
        let request = onward::rebuild(parts, asker, identity, granted);
        match made {
            None => request,
            Some(made) => made.change(request),
        }
    }

    /// The answer to a request that went no further because of its page.
    fn stopped(&self, stopped: Stopped, record: &mut Record) -> Response<Body> {
        if let Some(refused) = stopped.refused {
            record.fault = Some(refused.as_str());
        }
        stopped.response
    }

    pub(super) fn https(&self) -> &HttpsPolicy {
        &self.shard.edge.https[self.listener]
    }

    /// The answer to a request that came by the TLS of another name.
    fn misdirected(&self, parts: &Parts) -> Option<Response<Body>> {
        let sni = self.secured.as_ref()?.server_name.as_deref();
        self.https().misdirected(sni, &parts.uri, &parts.headers)
    }

    fn fault(&self, fault: &Fault, record: &mut Record) -> Response<Body> {
        record.fault = Some(fault.as_str());
        tracing::debug!(client = %record.asker.client, %fault, "a request could not be answered by a server");
        fault.answer()
    }

    pub(super) fn count(&self, record: &Record, status: StatusCode) {
        match record.route {
            Some(route) => self.shard.metrics.routes[route].count_response(status),
            None => self.shard.metrics.unrouted.add(1),
        }
    }
}

/// The route that takes a request.
struct Chosen<'r> {
    index: usize,
    route: &'r Route,
    captures: Captures,
    /// For the answer: what pages of other sites may do with it.
    marks: Marks,
    grant: Option<Grant>,
    /// Where the client's credentials are.
    found: Vec<Found>,
}

/// What the edge knows of a client on its way to a target.
struct Client<'m> {
    grant: Option<Grant>,
    /// What the 101 names when nothing else is chosen.
    subprotocol: Option<HeaderValue>,
    /// What rules change of the request.
    made: Option<&'m Made>,
}

/// The answer to a request that a door has not let in.
fn turned_away(why: Turned, comer: Comer, marks: Marks, record: &mut Record) -> Response<Body> {
    record.fault = Some(why.as_str());
    record.pass = None;
    let mut response = why.response();
    marks.write(response.headers_mut());
    match comer {
        // Nothing else is to be asked on it, and its place is for somebody else.
        Comer::Handshake => close_after(response),
        Comer::Request => response,
    }
}

fn deny(denial: Denial, record: &mut Record) -> Response<Body> {
    record.auth_error = Some(denial.kind.as_str());
    denial.response()
}
