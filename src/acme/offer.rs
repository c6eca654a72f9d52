//! The answers that are on offer while an order waits for its authority to look, on this node and
//! on all that share its storage.
//!
//! The storage is the one truth: a node that orders puts its challenges there, and every node reads
//! them from there, also its own. So it does not matter which of several nodes behind one address
//! the authority comes to.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tidewire_edge::challenge::{Challenge, Challenges};

use super::authority::Authority;
use super::challenge::Pending;
use super::storage::{Storage, StorageError};

/// Challenges that are answered until this is dropped.
pub struct Offer {
    authority: Authority,
    pending: Vec<Pending>,
}

impl Offer {
    pub fn new(authority: &Authority, pending: Vec<Pending>) -> Result<Self, StorageError> {
        let offer = Self { authority: authority.clone(), pending };
        for one in &offer.pending {
            offer.authority.storage.offer(one)?;
            tracing::info!(name = one.name, kind = %authority.config.challenge, "acme: challenge");
        }
        offer.authority.board.look(&offer.authority.storage);
        Ok(offer)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        for one in &self.pending {
            if let Err(error) = self.authority.storage.withdraw(one) {
                tracing::warn!(%error, "acme: a challenge that is over could not be removed");
            }
        }
        self.authority.board.look(&self.authority.storage);
    }
}

/// What this node answers now.
#[derive(Debug)]
pub struct Board {
    challenges: Arc<Challenges>,
    /// What is answered, to tell whether anything has changed.
    shown: std::sync::Mutex<Vec<Pending>>,
}

impl Board {
    pub fn new(challenges: Arc<Challenges>) -> Self {
        Self { challenges, shown: std::sync::Mutex::default() }
    }

    /// Looks for challenges, for as long as the node runs.
    pub async fn watch(self: Arc<Self>, storage: Storage) {
        loop {
            self.look(&storage);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Answers what is in the storage, and nothing else. Storage that cannot be read is told of by
    /// whoever orders; what is on offer stays.
    fn look(&self, storage: &Storage) {
        let Ok(mut pending) = storage.challenges() else { return };
        pending.sort_by(|a, b| (&a.name, &a.token).cmp(&(&b.name, &b.token)));
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *shown == pending {
            return;
        }
        let challenges = pending.iter().filter_map(|one| match challenge(one) {
            Ok(challenge) => Some(challenge),
            Err(error) => {
                tracing::warn!(name = one.name, %error, "acme: a challenge cannot be answered");
                None
            }
        });
        self.challenges.replace(challenges.collect());
        *shown = pending;
    }
}

fn challenge(pending: &Pending) -> Result<Challenge, rcgen::Error> {
    Ok(Challenge {
        name: pending.name.clone(),
        token: pending.token.clone(),
        key_authorization: pending.key_authorization.clone(),
        certificate: certificate(&pending.name, &pending.key_authorization)?,
    })
}

/// The certificate that answers a handshake (RFC 8737, section 3): of the name alone, with the hash
/// of the key authorization in a critical extension.
fn certificate(name: &str, key_authorization: &str) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = Sha256::digest(key_authorization);
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = aws_lc_rs::sign::any_supported_type(&der)
        .map_err(|error| rcgen::Error::RingKeyRejected(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)))
}

const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long after an offer every node answers it.
pub const SETTLE_TIME: Duration = Duration::from_millis(1_000);
