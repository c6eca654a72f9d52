//! One order, from the account to the chain.
//!
//! ```text
//!   account ──> order ──> challenges offered ──> ready ──> finalize ──> certificate
//! ```

use std::time::{Duration, Instant, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error as AcmeError, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::authority::Authority;
use super::challenge::{ChallengeKind, Pending};
use super::client::{Client, ClientError};
use super::issued::{Issued, IssuedError, pem};
use super::names::Names;
use super::offer::Offer;
use super::storage::StorageError;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    #[error("`eab`: {0}")]
    Eab(String),
    #[error("the authority limits what is ordered: {detail}")]
    RateLimited { detail: String, until: Option<SystemTime> },
    #[error("the authority does not know the account any more")]
    AccountUnknown,
    #[error("the authority could not validate {name}: {detail}")]
    Validation { name: String, detail: String },
    #[error("the authority does not offer {kind} for {name}")]
    NoChallenge { name: String, kind: ChallengeKind },
    #[error("the authority: {0}")]
    Authority(String),
    #[error("the authority has not {0} in time")]
    Slow(&'static str),
    #[error("the authority's answer: {0}")]
    Issued(#[from] IssuedError),
    #[error("a key or a request could not be made: {0}")]
    Key(#[from] rcgen::Error),
}

/// Orders a certificate for `names`, and returns it with the text to keep.
///
/// # Errors
/// All that can go wrong with somebody else's server. [`OrderError::Slow`] when `deadline` passes.
pub async fn order(
    authority: &Authority,
    names: &Names,
    deadline: Instant,
) -> Result<(Issued, Vec<u8>), OrderError> {
    let client = Client::new(authority.config.ca.as_deref())?;
    let mut stage = "answered";
    let work = with_account(authority, names, &client, deadline, &mut stage);
    let result = tokio::time::timeout_at(deadline.into(), work).await;
    match result {
        Err(_) => Err(OrderError::Slow(stage)),
        Ok(Err(Failed::Ours(error))) => Err(error),
        Ok(Err(Failed::Acme(error))) => Err(told(error, &client, stage)),
        Ok(Ok(found)) => Ok(found),
    }
}

/// What `?` makes of either side's errors, before it is known what the authority has said besides.
enum Failed {
    Ours(OrderError),
    Acme(AcmeError),
}

impl<E: Into<OrderError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

/// With the account that is kept, or with a new one if the authority has forgotten it: staging
/// authorities do.
async fn with_account(
    authority: &Authority,
    names: &Names,
    client: &Client,
    deadline: Instant,
    stage: &mut &'static str,
) -> Result<(Issued, Vec<u8>), Failed> {
    let account = account(authority, client).await?;
    let identifiers: Vec<_> = names.iter().map(|it| Identifier::Dns(it.to_owned())).collect();
    *stage = "taken the order";
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = match order {
        Err(AcmeError::Api(problem)) if is(&problem, "accountDoesNotExist") => {
            authority.storage.forget_account()?;
            return Err(Failed::Ours(OrderError::AccountUnknown));
        }
        other => other.map_err(Failed::Acme)?,
    };
    let offer = answer_challenges(authority, &mut order).await?;
    *stage = "validated the names";
    let policy = policy(deadline);
    let status = order.poll_ready(&policy).await.map_err(Failed::Acme);
    if !matches!(status, Ok(OrderStatus::Ready | OrderStatus::Valid)) {
        let why = why_invalid(&mut order).await;
        return Err(why.map_or_else(|| status.err().unwrap_or(invalid()), Failed::Ours));
    }
    drop(offer);
    *stage = "issued the certificate";
    let (key, csr) = request(names)?;
    order.finalize_csr(&csr).await.map_err(Failed::Acme)?;
    let chain = order.poll_certificate(&policy).await.map_err(Failed::Acme)?;
    let text = pem(&key, &chain);
    let issued = Issued::read(&text, names, SystemTime::now()).map_err(OrderError::Issued)?;
    Ok((issued, text))
}

/// The account that is kept for the authority, or a new one, which is kept before it is used.
async fn account(authority: &Authority, client: &Client) -> Result<Account, Failed> {
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    // Several names, or nodes, may come first at once.
    let _lock = loop {
        match authority.storage.lock_account()? {
            Some(lock) => break lock,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    };
    if let Some(kept) = authority.storage.account()? {
        match serde_json::from_slice(&kept) {
            Ok(kept) => return builder().from_credentials(kept).await.map_err(Failed::Acme),
            Err(error) => tracing::warn!(%error, "acme: the account that is kept is unreadable"),
        }
    }
    let config = &authority.config;
    let contact = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let new = NewAccount {
        contact: &contact.iter().map(String::as_str).collect::<Vec<_>>(),
        terms_of_service_agreed: config.agree_to_terms,
        only_return_existing: false,
    };
    let eab = config.eab.as_ref().map(external_key).transpose()?;
    let made = builder().create(&new, config.directory.clone(), eab.as_ref()).await;
    let (account, credentials) = made.map_err(Failed::Acme)?;
    let text = serde_json::to_vec_pretty(&credentials)
        .map_err(|error| Failed::Acme(AcmeError::Json(error)))?;
    authority.storage.keep_account(&text)?;
    tracing::info!(directory = config.directory, account = account.id(), "acme: new account");
    Ok(account)
}

fn external_key(eab: &super::config::EabConfig) -> Result<ExternalAccountKey, OrderError> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let path = &eab.key_file;
    let wrong = |said: String| OrderError::Eab(format!("{}: {said}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let key = BASE64_URL_SAFE_NO_PAD
        .decode(text.trim().trim_end_matches('='))
        .map_err(|_| wrong("it is not base64url, as authorities give keys".to_owned()))?;
    Ok(ExternalAccountKey::new(eab.key_id.clone(), &key))
}

/// Offers an answer to a challenge of each name that is not validated yet, then tells the
/// authority to look.
async fn answer_challenges(authority: &Authority, order: &mut Order) -> Result<Offer, Failed> {
    let kind = authority.config.challenge;
    let mut pending = Vec::new();
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let mut one = one.map_err(Failed::Acme)?;
        if one.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = one.identifier().to_string();
        let Some(challenge) = one.challenge(asked(kind)) else {
            return Err(Failed::Ours(OrderError::NoChallenge { name, kind }));
        };
        pending.push(Pending {
            name,
            token: challenge.token.clone(),
            key_authorization: challenge.key_authorization().as_str().to_owned(),
        });
    }
    let is_any = !pending.is_empty();
    let offer = Offer::new(authority, pending)?;
    if is_any {
        // The authority may come to another node, which looks for challenges now and then.
        tokio::time::sleep(super::offer::SETTLE_TIME).await;
    }
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let mut one = one.map_err(Failed::Acme)?;
        if one.status == AuthorizationStatus::Valid {
            continue;
        }
        if let Some(mut challenge) = one.challenge(asked(kind)) {
            challenge.set_ready().await.map_err(Failed::Acme)?;
        }
    }
    Ok(offer)
}

/// What the authority says about a name that it could not validate.
async fn why_invalid(order: &mut Order) -> Option<OrderError> {
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let mut one = one.ok()?;
        let name = one.identifier().to_string();
        let state = one.refresh().await.ok()?;
        let problem = state.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(problem) = problem {
            return Some(OrderError::Validation { name, detail: detail(problem) });
        }
    }
    None
}

/// A new key, and the request to certify it. A key is used for one certificate only.
fn request(names: &Names) -> Result<(String, Vec<u8>), rcgen::Error> {
    let names: Vec<String> = names.iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let csr = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), csr.der().to_vec()))
}

/// What an error of the authority is, with what it said besides.
fn told(error: AcmeError, client: &Client, stage: &'static str) -> OrderError {
    let until = client.retry_after();
    match error {
        AcmeError::Api(problem) if until.is_some() || is(&problem, "rateLimited") => {
            OrderError::RateLimited { detail: detail(&problem), until }
        }
        AcmeError::Api(problem) => OrderError::Authority(detail(&problem)),
        AcmeError::Timeout(_) => OrderError::Slow(stage),
        other if until.is_some() => OrderError::RateLimited { detail: other.to_string(), until },
        other => OrderError::Authority(other.to_string()),
    }
}

fn invalid() -> Failed {
    Failed::Ours(OrderError::Authority("the order is invalid, and it does not say why".into()))
}

fn detail(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("no type");
    let mut text = problem.detail.clone().unwrap_or_else(|| "no detail".to_owned());
    for sub in &problem.subproblems {
        text = format!("{text}; {sub}");
    }
    format!("{text} ({})", kind.strip_prefix(ERROR).unwrap_or(kind))
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|it| it.strip_prefix(ERROR)) == Some(kind)
}

fn asked(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Http01 => ChallengeType::Http01,
    }
}

fn policy(deadline: Instant) -> RetryPolicy {
    let left = deadline.saturating_duration_since(Instant::now());
    RetryPolicy::new().initial_delay(LOOK_AGAIN).backoff(1.5).timeout(left)
}

const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// RFC 8555, section 6.7.
const ERROR: &str = "urn:ietf:params:acme:error:";
