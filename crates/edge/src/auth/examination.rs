//! The examination of one request: each authority is asked at most once, however many routes want
//! to know.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HeaderMap;
use http::request::Parts;
use tidewire_auth::forward::Original;
use tidewire_auth::identity::Identity;
use tidewire_auth::method::{Denied, Found, Method, Presented};
use tidewire_runtime::clock::unix_seconds;
use tidewire_wire::ws::handshake::Offer;

use super::access::{Access, Satisfy};
use super::authority::{Asked, Authority, Check};
use super::denial::{Denial, DenialKind};
use super::forward::{self, Said};
use super::headers;
use crate::route::host_of;
use crate::service::EdgeShard;

/// What is asked about a request.
#[derive(Clone, Copy, Debug)]
pub struct Question<'r> {
    pub parts: &'r Parts,
    /// What it offers, when it is a WebSocket handshake.
    pub offer: Option<&'r Offer>,
    pub is_websocket: bool,
    pub peer: SocketAddr,
    pub scheme: &'static str,
    /// The client's certificate of the TLS handshake.
    pub certificate: Option<&'r [u8]>,
}

/// The examination of a request.
pub struct Examination<'r> {
    shard: &'r Rc<EdgeShard>,
    question: Question<'r>,
    /// By authority, in the order in which they were asked.
    results: Vec<(usize, Result<Vouched, Denial>)>,
}

/// What an authority says of a client whom it knows.
struct Vouched {
    identity: Arc<Identity>,
    /// Where the credentials are that have to be taken out.
    found: Vec<Found>,
    /// Where the one is that servers get as it is.
    kept: Option<Found>,
    /// For servers.
    headers: HeaderMap,
}

/// A client that a route takes.
#[derive(Debug)]
pub struct Grant {
    pub identity: Arc<Identity>,
    /// Those who vouched for it, and what each of them knows.
    pub parts: Vec<(usize, Arc<Identity>)>,
    /// The identity headers for servers.
    pub headers: HeaderMap,
}

impl<'r> Examination<'r> {
    pub fn new(shard: &'r Rc<EdgeShard>, question: Question<'r>) -> Self {
        Self { shard, question, results: Vec::new() }
    }

    /// Whether a route with this access takes the client.
    pub async fn admit(&mut self, access: &Access) -> Result<Grant, Denial> {
        let mut vouching = Vec::with_capacity(access.auths.len());
        let mut denial: Option<Denial> = None;
        for &auth in &access.auths {
            let place = self.ask(auth).await;
            match (&self.results[place].1, access.satisfy) {
                (Ok(_), Satisfy::All) => vouching.push(place),
                (Ok(_), Satisfy::Any) => {
                    vouching.push(place);
                    break;
                }
                (Err(this), Satisfy::All) => return Err(this.clone()),
                (Err(this), Satisfy::Any) => {
                    denial = Some(match denial {
                        None => this.clone(),
                        Some(before) => before.or(this.clone()),
                    });
                }
            }
        }
        let Some(grant) = self.grant(&vouching) else {
            return Err(denial.unwrap_or_else(|| Denial::new(DenialKind::Missing, "who are you")));
        };
        if access.takes(&grant.identity) {
            Ok(grant)
        } else {
            Err(Denial::new(DenialKind::Forbidden, "this is not for you"))
        }
    }

    /// The credentials that are not for servers: those that vouched, and whatever else is where a
    /// route with this access takes some. A server that believes what this edge has let through
    /// must not read a token that nobody has checked.
    pub fn into_found(self, access: Option<&Access>) -> Vec<Found> {
        let offers = self.offers();
        let presented = self.presented(&offers);
        let methods = access.into_iter().flat_map(|access| &access.auths).filter_map(|&auth| {
            match &self.shard.edge.authorities[auth].check {
                Check::Method(method) => Some(method),
                Check::Forward(_) => None,
            }
        });
        let shown: Vec<Found> = methods.flat_map(|method| method.occupied(&presented)).collect();
        let vouched: Vec<Vouched> =
            self.results.into_iter().filter_map(|(_, result)| result.ok()).collect();
        let is_kept =
            |one: &Found| vouched.iter().any(|vouched| vouched.kept.as_ref() == Some(one));
        let mut found: Vec<Found> =
            vouched.iter().flat_map(|vouched| vouched.found.iter().cloned()).collect();
        for one in shown.into_iter().filter(|one| !is_kept(one)) {
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }

    /// The subprotocols that are offered. One that is no text is none that a method could want; it
    /// keeps its place.
    fn offers(&self) -> Vec<&'r str> {
        let offers = self.question.offer.map_or(&[][..], |offer| &offer.subprotocols);
        offers.iter().map(|offer| offer.to_str().unwrap_or_default()).collect()
    }

    fn presented<'p>(&self, subprotocols: &'p [&'p str]) -> Presented<'p>
    where
        'r: 'p,
    {
        let Question { parts, certificate, .. } = self.question;
        let query = parts.uri.query();
        Presented { headers: &parts.headers, query, subprotocols, certificate }
    }

    fn grant(&self, vouching: &[usize]) -> Option<Grant> {
        let mut granted = HeaderMap::new();
        let mut parts = Vec::with_capacity(vouching.len());
        for &place in vouching {
            let (auth, Ok(vouched)) = &self.results[place] else { continue };
            parts.push((*auth, Arc::clone(&vouched.identity)));
            headers::merge(&mut granted, &vouched.headers);
        }
        let identity = together(&parts)?;
        Some(Grant { identity, parts, headers: granted })
    }

    /// The place of the result of an authority.
    async fn ask(&mut self, auth: usize) -> usize {
        if let Some(place) = self.results.iter().position(|(known, _)| *known == auth) {
            return place;
        }
        let shard = self.shard;
        let authority = &shard.edge.authorities[auth];
        let result = match &authority.check {
            Check::Method(method) => self.by_method(method, authority).await,
            Check::Forward(asked) => self.by_service(asked, auth, authority).await,
        };
        let result = result.and_then(|vouched| {
            if shard.edge.revocations.is_revoked(&vouched.identity) {
                return Err(Denial::new(DenialKind::Revoked, "revoked"));
            }
            Ok(vouched)
        });
        shard.metrics.count_auth(auth, result.as_ref().err().map(|denial| denial.kind));
        self.results.push((auth, result));
        self.results.len() - 1
    }

    async fn by_method(&self, method: &Method, authority: &Authority) -> Result<Vouched, Denial> {
        let offers = self.offers();
        let accepted = method.authenticate(&self.presented(&offers), unix_seconds()).await;
        let accepted = accepted.map_err(|denied| denial(method, &denied))?;
        let mut headers = HeaderMap::new();
        describe(authority, &accepted.identity, &mut headers);
        let (found, kept) = match accepted.is_passed_on {
            true => (Vec::new(), Some(accepted.found)),
            false => (vec![accepted.found], None),
        };
        Ok(Vouched { identity: Arc::new(accepted.identity), found, kept, headers })
    }

    async fn by_service(
        &self,
        asked: &Asked,
        auth: usize,
        authority: &Authority,
    ) -> Result<Vouched, Denial> {
        let Question { parts, is_websocket, peer, scheme, .. } = self.question;
        let original = Original {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            host: host_of(&parts.uri, &parts.headers).unwrap_or_default(),
            scheme,
            peer: peer.ip(),
            is_websocket,
        };
        let verdict =
            forward::ask(self.shard, auth, authority, asked, &original, unix_seconds()).await;
        match &verdict.said {
            Said::Allowed(allowed) => {
                let mut headers = allowed.headers.clone();
                describe(authority, &allowed.identity, &mut headers);
                let identity = Arc::new(allowed.identity.clone());
                let removed = asked.forward.removed().iter().cloned();
                let found = removed.map(Found::Header).collect();
                Ok(Vouched { identity, found, kept: None, headers })
            }
            Said::Denied(answer) => {
                let kind = match answer.status {
                    http::StatusCode::FORBIDDEN => DenialKind::Forbidden,
                    _ => DenialKind::Invalid,
                };
                Err(Denial::new(kind, "not authenticated").with_answer(answer.clone()))
            }
            Said::Unavailable(_) => Err(Denial::new(
                DenialKind::Unavailable,
                "who you are cannot be found out at present",
            )),
        }
    }
}

/// What servers hear by the authority's `headers`; a header of its answer goes before.
fn describe(authority: &Authority, identity: &Identity, headers: &mut HeaderMap) {
    for (name, template) in &authority.headers {
        if let Some(value) = template.value(identity) {
            headers.entry(name).or_insert(value);
        }
    }
}

/// The identity for which all of them vouch.
pub fn together(parts: &[(usize, Arc<Identity>)]) -> Option<Arc<Identity>> {
    match parts {
        [] => None,
        [(_, only)] => Some(Arc::clone(only)),
        [(_, first), rest @ ..] => {
            let first = Identity::clone(first);
            let and = |sum: Identity, (_, next): &(usize, Arc<Identity>)| sum.and((**next).clone());
            Some(Arc::new(rest.iter().fold(first, and)))
        }
    }
}

fn denial(method: &Method, denied: &Denied) -> Denial {
    let kind = match denied {
        Denied::Missing(_) => DenialKind::Missing,
        Denied::Invalid(_) => DenialKind::Invalid,
        Denied::Forbidden(_) => DenialKind::Forbidden,
        Denied::Unavailable(_) => DenialKind::Unavailable,
    };
    Denial::new(kind, denied.to_string()).with_challenge(method.challenge_after(denied))
}
