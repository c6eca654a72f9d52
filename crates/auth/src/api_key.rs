//! API keys: long random texts that programs send.
//!
//! A file holds the SHA-256 of each, so that whoever reads it cannot use it. A slow hash, as for
//! passwords, would gain nothing: `tidewire token key` makes keys of 256 random bits.

use std::collections::HashMap;
use std::path::Path;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::{info, warn};

use crate::client_cert::hex;
use crate::config::ApiKeyConfig;
use crate::entries::{self, EntriesFault};
use crate::identity::{Credential, Identity};
use crate::kept_file::KeptFile;
use crate::method::{Accepted, Denied, Found, MethodFault, Presented};
use crate::place::{self, Place};
use crate::random;

/// The method `api_key` of an `[[auth]]`.
#[derive(Debug)]
pub struct ApiKeys {
    auth: Box<str>,
    places: Vec<Place>,
    is_passed_on: bool,
    file: Option<KeptFile>,
    known: ArcSwap<Known>,
}

type Hash = [u8; 32];
/// By their hashes: how long a look-up takes tells of the hash of what was sent, which says nothing
/// about the keys.
type Known = HashMap<Hash, Owner>;

#[derive(Clone, Debug)]
struct Owner {
    name: Box<str>,
    claims: Map<String, Value>,
}

impl ApiKeys {
    pub fn new(
        auth: &str,
        config: &ApiKeyConfig,
        is_passed_on: bool,
        dir: &Path,
    ) -> Result<Self, MethodFault> {
        let fault = |key, message: String| MethodFault { key, message };
        let (file, known) = match (&config.key, &config.file) {
            (Some(key), _) if key.expose().len() < KEY_BYTES_MIN => {
                let message = format!(
                    "the key has {} bytes; expected at least {KEY_BYTES_MIN}",
                    key.expose().len()
                );
                return Err(fault(&["api_key", "key"], message));
            }
            (Some(key), _) => {
                let owner = Owner { name: auth.into(), claims: Map::new() };
                (None, Known::from([(hash(key.expose()), owner)]))
            }
            (None, Some(path)) => {
                let wrong = |why: String| fault(&["api_key", "file"], why);
                let (file, bytes) = KeptFile::open(dir.join(path))
                    .map_err(|error| wrong(format!("the file cannot be read; {error}")))?;
                let known = read(&bytes).map_err(|why| wrong(why.to_string()))?;
                (Some(file), known)
            }
            (None, None) => {
                return Err(fault(&["api_key"], "it does not say where its keys are".into()));
            }
        };
        let known = ArcSwap::from_pointee(known);
        let places = config.from.clone();
        Ok(Self { auth: auth.into(), places, is_passed_on, file, known })
    }

    pub fn authenticate(&self, presented: &Presented<'_>) -> Result<Accepted, Denied> {
        let Some((text, found)) = place::find(&self.places, presented)? else {
            return Err(Denied::Missing("an API key is needed"));
        };
        if text.len() > KEY_BYTES_MAX {
            return Err(Denied::Invalid("the API key is too long".into()));
        }
        let hash = hash(text.as_bytes());
        let known = self.known.load();
        let owner = known.get_key_value(&hash).filter(|(known, _)| known.ct_eq(&hash).into());
        let Some((_, owner)) = owner else {
            return Err(Denied::Invalid("the API key is not valid".into()));
        };
        let credential = Credential {
            auth: self.auth.clone(),
            subject: Some(owner.name.clone()),
            token_id: None,
            issued: None,
            expires: None,
        };
        let identity = Identity::new(credential, with_subject(&owner.claims, &owner.name));
        Ok(Accepted { identity, found, is_passed_on: self.is_passed_on })
    }

    pub fn occupied(&self, presented: &Presented<'_>) -> Vec<Found> {
        match self.is_passed_on {
            true => Vec::new(),
            false => place::occupied(&self.places, presented),
        }
    }

    pub fn auth(&self) -> &str {
        &self.auth
    }

    pub fn places(&self) -> &[Place] {
        &self.places
    }

    pub fn len(&self) -> usize {
        self.known.load().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Reads a file again that has changed; the old keys stay when it is bad.
    pub fn reread(&self) {
        let Some(file) = &self.file else { return };
        let Some(bytes) = file.changed() else { return };
        let (auth, path) = (&*self.auth, file.path().display());
        let read = bytes.map_err(|error| error.to_string());
        match read.and_then(|bytes| read_known(&bytes)) {
            Ok(known) => {
                info!(auth, file = %path, keys = known.len(), "API keys read again");
                self.known.store(known.into());
            }
            Err(why) => warn!(auth, file = %path, "the API keys stay as they were: {why}"),
        }
    }
}

/// The claims, with `sub` for those who ask for it by this name.
pub fn with_subject(claims: &Map<String, Value>, subject: &str) -> Map<String, Value> {
    let mut claims = claims.clone();
    claims.insert("sub".into(), subject.into());
    claims
}

fn read_known(file: &[u8]) -> Result<Known, String> {
    read(file).map_err(|why| why.to_string())
}

fn read(file: &[u8]) -> Result<Known, EntriesFault> {
    let mut known = Known::new();
    for entry in entries::read(file, FORM)? {
        let line = |why: &str| EntriesFault::Line { line: entry.line, why: why.to_owned() };
        let hash = from_hex(entry.value).ok_or_else(|| {
            line(
                "a key is given by its SHA-256, 64 hexadecimal digits; \
                 `tidewire token key` makes one",
            )
        })?;
        let owner = Owner { name: entry.name.into(), claims: entry.claims.clone() };
        if known.insert(hash, owner).is_some() {
            return Err(line("this key is there already"));
        }
    }
    Ok(known)
}

/// The SHA-256 of a key.
pub fn hash(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

/// A new key, and the line that lets whoever has it in by this name.
pub fn make(name: &str) -> (String, String) {
    // The beginning tells those who search repositories and logs for secrets what it is.
    let key = format!("tw_{}", random::secret());
    let line = format!("{name}:{}", hex(&hash(key.as_bytes())));
    (key, line)
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

const FORM: &str = "name:sha256";
/// Shorter ones are guessed.
const KEY_BYTES_MIN: usize = 16;
const KEY_BYTES_MAX: usize = 1024;
