//! What an authority knows, and what it answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use serde_json::{Value, json};

use super::Shared;
use super::jws::{Jwk, Jws};
use super::validate;

#[derive(Debug, Default)]
pub struct State {
    nonces: HashSet<String>,
    pub accounts: Vec<Account>,
    pub orders: Vec<Order>,
    authorizations: Vec<Authorization>,
    pub asked: usize,
    pub keys: HashSet<Vec<u8>>,
}

#[derive(Debug)]
pub struct Account {
    key: Jwk,
    pub contacts: Vec<String>,
    pub is_forgotten: bool,
}

#[derive(Debug)]
pub struct Order {
    account: usize,
    /// Sorted.
    names: Vec<String>,
    authorizations: Vec<usize>,
    status: &'static str,
    pub certificate: Option<String>,
}

#[derive(Debug)]
struct Authorization {
    name: String,
    account: usize,
    token: String,
    status: &'static str,
    error: Option<Problem>,
    /// Whether somebody looks already.
    is_looked_at: bool,
}

/// An error as ACME tells it (RFC 8555, section 6.7).
#[derive(Clone, Debug)]
pub struct Problem {
    status: u16,
    kind: &'static str,
    detail: String,
    retry_after: Option<u64>,
}

/// What goes back.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub media_type: &'static str,
    pub location: Option<String>,
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    fn json(&self) -> Value {
        let kind = format!("urn:ietf:params:acme:error:{}", self.kind);
        json!({ "type": kind, "detail": self.detail, "status": self.status })
    }

    pub fn answer(&self) -> Answer {
        Answer {
            media_type: "application/problem+json",
            retry_after: self.retry_after,
            ..Answer::json(self.status, &self.json())
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.kind)
    }
}

impl Answer {
    fn json(status: u16, value: &Value) -> Self {
        let body = serde_json::to_vec(value).expect("a value is JSON");
        Self { status, body, media_type: "application/json", ..Self::default() }
    }
}

impl State {
    pub fn new_nonce(&mut self) -> String {
        let nonce = random();
        self.nonces.insert(nonce.clone());
        nonce
    }
}

impl Shared {
    /// Answers a GET or HEAD; those are not signed.
    pub fn get(&self, path: &str) -> Answer {
        let url = |path: &str| format!("{}/{path}", self.base);
        match path {
            "/directory" => {
                let needs_eab = self.mood().eab.is_some();
                let directory = json!({
                    "newNonce": url("nonce"), "newAccount": url("account"),
                    "newOrder": url("order"), "revokeCert": url("revoke"),
                    "keyChange": url("key-change"),
                    "meta": { "externalAccountRequired": needs_eab },
                });
                Answer::json(200, &directory)
            }
            "/nonce" => Answer { status: 200, ..Answer::default() },
            _ => Problem::new(404, "malformed", "there is no such page").answer(),
        }
    }

    /// Answers a signed request.
    pub fn post(self: &Arc<Self>, path: &str, body: &[u8]) -> Result<Answer, Problem> {
        let jws = Jws::parse(body)?;
        self.check_envelope(&jws, path)?;
        if path == "/account" {
            return self.new_account(&jws);
        }
        let account = self.signer_of(&jws)?;
        let mut way = path.trim_start_matches('/').split('/');
        let (noun, id) = (way.next().unwrap_or_default(), way.next());
        let id = id.and_then(|id| id.parse::<usize>().ok()).unwrap_or(usize::MAX);
        match noun {
            "order" if path == "/order" => self.new_order(account, &jws.json()?),
            "order" => self.order(account, id),
            "authorization" => self.authorization(account, id),
            "challenge" => self.challenge(account, id, way.next().unwrap_or_default()),
            "finalize" => self.finalize(account, id, &jws.json()?),
            "certificate" => self.certificate(account, id),
            _ => Err(Problem::new(404, "malformed", "there is no such page")),
        }
    }

    /// RFC 8555, sections 6.4 and 6.5: for this URL, once.
    fn check_envelope(&self, jws: &Jws, path: &str) -> Result<(), Problem> {
        if jws.header["url"] != format!("{}{path}", self.base) {
            return Err(Problem::new(401, "unauthorized", "it is signed for another URL"));
        }
        let nonce = jws.header["nonce"].as_str().unwrap_or_default();
        if !self.state().nonces.remove(nonce) || self.spoils_nonce() {
            return Err(Problem::new(400, "badNonce", "the nonce is not one of ours, or used"));
        }
        Ok(())
    }

    /// The account whose key has signed.
    fn signer_of(&self, jws: &Jws) -> Result<usize, Problem> {
        let unknown = || Problem::new(400, "accountDoesNotExist", "there is no such account");
        let kid = jws.header["kid"].as_str().ok_or_else(unknown)?;
        let id = kid.strip_prefix(&format!("{}/account/", self.base)).ok_or_else(unknown)?;
        let id: usize = id.parse().map_err(|_| unknown())?;
        let state = self.state();
        let account = state.accounts.get(id).filter(|it| !it.is_forgotten).ok_or_else(unknown)?;
        if !jws.is_signed_by(&account.key) {
            return Err(Problem::new(401, "unauthorized", "the signature is not the account's"));
        }
        Ok(id)
    }

    fn new_account(&self, jws: &Jws) -> Result<Answer, Problem> {
        let key = Jwk::of(&jws.header["jwk"])
            .ok_or_else(|| Problem::new(400, "badPublicKey", "only keys on P-256 are taken"))?;
        if !jws.is_signed_by(&key) {
            return Err(Problem::new(401, "unauthorized", "the signature is not the key's"));
        }
        let asked = jws.json()?;
        if asked["termsOfServiceAgreed"] != true {
            return Err(Problem::new(403, "userActionRequired", "agree to the terms"));
        }
        self.check_binding(&asked["externalAccountBinding"], &jws.header["jwk"])?;
        let contacts = asked["contact"].as_array().into_iter().flatten();
        let contacts = contacts.filter_map(|it| it.as_str().map(str::to_owned)).collect();
        let mut state = self.state();
        let known = state.accounts.iter().position(|it| it.key == key && !it.is_forgotten);
        let id = known.unwrap_or(state.accounts.len());
        if known.is_none() {
            state.accounts.push(Account { key, contacts, is_forgotten: false });
        }
        let location = Some(format!("{}/account/{id}", self.base));
        let status = if known.is_some() { 200 } else { 201 };
        Ok(Answer { location, ..Answer::json(status, &json!({ "status": "valid" })) })
    }

    /// RFC 8555, section 7.3.4.
    fn check_binding(&self, binding: &Value, key: &Value) -> Result<(), Problem> {
        let Some((key_id, secret)) = self.mood().eab else { return Ok(()) };
        let is_right = Jws::of(binding).is_some_and(|bound| {
            bound.header["kid"] == key_id
                && bound.header["url"] == format!("{}/account", self.base)
                && bound.is_signed_with(&secret)
                && bound.json().is_ok_and(|it| Jwk::of(&it) == Jwk::of(key))
        });
        let detail = "bind the account to one of ours";
        is_right.then_some(()).ok_or_else(|| Problem::new(403, "externalAccountRequired", detail))
    }

    fn new_order(&self, account: usize, asked: &Value) -> Result<Answer, Problem> {
        self.state().asked += 1;
        if let Some(seconds) = self.mood().rate_limit {
            let detail = "too many certificates already issued for these names";
            let problem = Problem::new(429, "rateLimited", detail);
            return Err(Problem { retry_after: Some(seconds), ..problem });
        }
        let identifiers = asked["identifiers"].as_array().into_iter().flatten();
        let mut names: Vec<String> = identifiers
            .filter(|it| it["type"] == "dns")
            .filter_map(|it| it["value"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        if names.is_empty() {
            return Err(Problem::new(400, "malformed", "an order for no name"));
        }
        let mut state = self.state();
        let mut authorizations = Vec::new();
        for name in names.clone() {
            authorizations.push(state.authorizations.len());
            state.authorizations.push(Authorization {
                name,
                account,
                token: random(),
                status: "pending",
                error: None,
                is_looked_at: false,
            });
        }
        let id = state.orders.len();
        let status = "pending";
        state.orders.push(Order { account, names, authorizations, status, certificate: None });
        let location = Some(format!("{}/order/{id}", self.base));
        Ok(Answer { location, ..Answer::json(201, &self.order_json(&mut state, id)) })
    }

    fn order(&self, account: usize, id: usize) -> Result<Answer, Problem> {
        let mut state = self.state();
        own(state.orders.get(id).map(|it| it.account), account)?;
        Ok(Answer::json(200, &self.order_json(&mut state, id)))
    }

    /// An order as it is told; what has come of its authorizations is taken over first.
    fn order_json(&self, state: &mut State, id: usize) -> Value {
        let State { orders, authorizations, .. } = state;
        let order = &mut orders[id];
        let all = || order.authorizations.iter().map(|&it| authorizations[it].status);
        if order.status == "pending" && all().any(|it| it == "invalid") {
            order.status = "invalid";
        } else if order.status == "pending" && all().all(|it| it == "valid") {
            order.status = "ready";
        }
        let url = |noun: &str, id: usize| format!("{}/{noun}/{id}", self.base);
        let names = order.names.iter().map(|it| json!({ "type": "dns", "value": it }));
        let mut told = json!({
            "status": order.status,
            "identifiers": names.collect::<Vec<_>>(),
            "finalize": url("finalize", id),
        });
        let all = order.authorizations.iter().map(|&it| url("authorization", it));
        told["authorizations"] = all.collect::<Vec<_>>().into();
        if order.certificate.is_some() {
            told["certificate"] = url("certificate", id).into();
        }
        told
    }

    fn authorization(&self, account: usize, id: usize) -> Result<Answer, Problem> {
        let state = self.state();
        let one = state.authorizations.get(id);
        own(one.map(|it| it.account), account)?;
        Ok(Answer::json(200, &self.authorization_json(id, &state.authorizations[id])))
    }

    fn authorization_json(&self, id: usize, one: &Authorization) -> Value {
        let challenges = ["http-01", "tls-alpn-01", "dns-01"].map(|kind| {
            let mut challenge = json!({
                "type": kind, "token": one.token, "status": one.status,
                "url": format!("{}/challenge/{id}/{kind}", self.base),
            });
            if let Some(error) = &one.error {
                challenge["error"] = error.json();
            }
            challenge
        });
        let identifier = json!({ "type": "dns", "value": one.name });
        json!({ "status": one.status, "identifier": identifier, "challenges": challenges })
    }

    /// Goes and looks, on a thread of its own.
    fn challenge(
        self: &Arc<Self>,
        account: usize,
        id: usize,
        kind: &str,
    ) -> Result<Answer, Problem> {
        let mut state = self.state();
        own(state.authorizations.get(id).map(|it| it.account), account)?;
        let thumbprint = state.accounts[account].key.thumbprint();
        let one = &mut state.authorizations[id];
        let told = json!({
            "type": kind, "token": one.token, "status": "processing",
            "url": format!("{}/challenge/{id}/{kind}", self.base),
        });
        if one.status == "pending" && !std::mem::replace(&mut one.is_looked_at, true) {
            let (name, token) = (one.name.clone(), one.token.clone());
            let (shared, kind, mood) = (Arc::clone(self), kind.to_owned(), self.mood());
            thread::spawn(move || {
                let expected = format!("{token}.{thumbprint}");
                let seen = match kind.as_str() {
                    "http-01" => validate::http(&name, &token, &expected, mood.http_port),
                    "tls-alpn-01" => validate::tls_alpn(&name, &expected, mood.tls_port),
                    _ => Err(Problem::new(400, "malformed", "there is no such challenge")),
                };
                let one = &mut shared.state().authorizations[id];
                one.status = if seen.is_ok() { "valid" } else { "invalid" };
                one.error = seen.err();
            });
        }
        Ok(Answer::json(200, &told))
    }

    fn finalize(&self, account: usize, id: usize, asked: &Value) -> Result<Answer, Problem> {
        let mood = self.mood();
        let mut state = self.state();
        own(state.orders.get(id).map(|it| it.account), account)?;
        self.order_json(&mut state, id);
        let order = &mut state.orders[id];
        if order.status != "ready" {
            return Err(Problem::new(403, "orderNotReady", "not all names are validated"));
        }
        order.status = "processing";
        if !mood.finalize_hangs {
            let csr = BASE64.decode(asked["csr"].as_str().unwrap_or_default());
            let csr = csr.map_err(|_| Problem::new(400, "badCSR", "it is not base64url"))?;
            let (chain, key) = self
                .signer
                .sign(&csr, &order.names, &mood)
                .map_err(|why| Problem::new(400, "badCSR", why))?;
            order.certificate = Some(chain);
            order.status = "valid";
            state.keys.insert(key);
        }
        Ok(Answer::json(200, &self.order_json(&mut state, id)))
    }

    fn certificate(&self, account: usize, id: usize) -> Result<Answer, Problem> {
        let state = self.state();
        own(state.orders.get(id).map(|it| it.account), account)?;
        let chain = state.orders[id].certificate.clone();
        let chain = chain.ok_or_else(|| Problem::new(404, "malformed", "not issued yet"))?;
        let media_type = "application/pem-certificate-chain";
        Ok(Answer { status: 200, body: chain.into_bytes(), media_type, ..Answer::default() })
    }
}

fn own(found: Option<usize>, account: usize) -> Result<(), Problem> {
    match found {
        Some(owner) if owner == account => Ok(()),
        _ => Err(Problem::new(404, "malformed", "there is no such thing of this account")),
    }
}

/// 128 bits.
fn random() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("there is randomness");
    BASE64.encode(bytes)
}
