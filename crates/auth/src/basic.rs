//! Names and passwords (HTTP Basic, RFC 7617), with argon2id.
//!
//! One verification costs tens of milliseconds and megabytes, on purpose. So it is done by threads
//! of its own, a few at a time, and what was right is remembered for a while: a page with thirty
//! requests asks for one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use argon2::password_hash::{PasswordHash, PasswordHashString, SaltString};
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api_key::with_subject;
use crate::config::BasicConfig;
use crate::entries::{self, EntriesFault};
use crate::identity::{Credential, Identity};
use crate::jwt::claims::is_name;
use crate::kept_file::KeptFile;
use crate::method::{Accepted, Denied, Found, MethodFault, Presented};
use crate::place;
use crate::random;

/// The method `basic` of an `[[auth]]`.
#[derive(Debug)]
pub struct Basic {
    auth: Box<str>,
    is_passed_on: bool,
    file: KeptFile,
    users: ArcSwap<Users>,
    /// One for each verification that may go on at a time.
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The users of a file, and the passwords that were right lately.
#[derive(Debug)]
struct Users {
    by_name: HashMap<Box<str>, User>,
    /// What the password of somebody unknown is compared with: finding out takes as long.
    stranger: PasswordHashString,
    recent: Recent,
}

#[derive(Debug)]
struct User {
    hash: PasswordHashString,
    claims: Map<String, Value>,
}

/// Names and passwords that were right, as hashes under a key that dies with them.
#[derive(Debug)]
struct Recent {
    key: hmac::Key,
    /// Until when each is good, in seconds since 1970.
    until: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Basic {
    pub fn new(
        auth: &str,
        config: &BasicConfig,
        is_passed_on: bool,
        dir: &Path,
    ) -> Result<Self, MethodFault> {
        let fault = |message| MethodFault { key: &["basic", "users"], message };
        let (file, bytes) = KeptFile::open(dir.join(&config.users))
            .map_err(|error| fault(format!("the file cannot be read; {error}")))?;
        let users = Users::read(&bytes).map_err(|why| fault(why.to_string()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            auth: auth.into(),
            is_passed_on,
            file,
            users: ArcSwap::from_pointee(users),
            permits: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
        })
    }

    pub async fn authenticate(
        &self,
        presented: &Presented<'_>,
        now: u64,
    ) -> Result<Accepted, Denied> {
        let Some(text) = place::authorization(presented, "Basic")? else {
            return Err(Denied::Missing("a name and a password are needed"));
        };
        let (name, password) = decode(text).ok_or_else(wrong)?;
        let users = self.users.load_full();
        let mark = users.recent.mark(&name, &password);
        if !users.recent.has(&mark, now) {
            self.verify(&users, &name, password).await?;
            users.recent.insert(mark, now);
        }
        let user = users.by_name.get(&*name).ok_or_else(wrong)?;
        let credential = Credential {
            auth: self.auth.clone(),
            subject: Some(name.as_str().into()),
            token_id: None,
            issued: None,
            expires: None,
        };
        let identity = Identity::new(credential, with_subject(&user.claims, &name));
        let found = Found::Header(AUTHORIZATION);
        Ok(Accepted { identity, found, is_passed_on: self.is_passed_on })
    }

    async fn verify(&self, users: &Users, name: &str, password: String) -> Result<(), Denied> {
        let _place = Waiting::enter(&self.waiting)?;
        let permit = timeout(PERMIT_TIME, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(busy()) };
        let user = users.by_name.get(name);
        let is_known = user.is_some();
        let hash = user.map_or(&users.stranger, |user| &user.hash).clone();
        let verified = tokio::task::spawn_blocking(move || {
            // Held until it is done, also when the client has gone.
            let _permit = permit;
            Argon2::default().verify_password(password.as_bytes(), &hash.password_hash()).is_ok()
        });
        let is_right = verified.await.map_err(|_| busy())?;
        if is_right && is_known { Ok(()) } else { Err(wrong()) }
    }

    pub fn occupied(&self, presented: &Presented<'_>) -> Vec<Found> {
        let is_shown = !self.is_passed_on && place::has_scheme(presented, "Basic");
        is_shown.then_some(Found::Header(AUTHORIZATION)).into_iter().collect()
    }

    pub fn auth(&self) -> &str {
        &self.auth
    }

    pub fn len(&self) -> usize {
        self.users.load().by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the file again if it has changed; the old users stay when it is bad.
    pub fn reread(&self) {
        let Some(bytes) = self.file.changed() else { return };
        let (auth, path) = (&*self.auth, self.file.path().display());
        let read = bytes.map_err(|error| error.to_string());
        match read.and_then(|bytes| Users::read(&bytes).map_err(|why| why.to_string())) {
            Ok(users) => {
                info!(auth, file = %path, users = users.by_name.len(), "users read again");
                self.users.store(users.into());
            }
            Err(why) => warn!(auth, file = %path, "the users stay as they were: {why}"),
        }
    }
}

impl Users {
    fn read(file: &[u8]) -> Result<Self, EntriesFault> {
        let mut by_name: HashMap<Box<str>, User> = HashMap::new();
        let mut stranger = None;
        for entry in entries::read(file, FORM)? {
            let line = |why: &str| EntriesFault::Line { line: entry.line, why: why.to_owned() };
            let hash = read_hash(entry.value).map_err(line)?;
            stranger.get_or_insert_with(|| hash.clone());
            let user = User { hash, claims: entry.claims.clone() };
            if by_name.insert(entry.name.into(), user).is_some() {
                return Err(line("this user is there already"));
            }
        }
        let stranger = stranger.ok_or(EntriesFault::Empty(FORM))?;
        Ok(Self { by_name, stranger, recent: Recent::new() })
    }
}

/// The line of a user with this password.
///
/// # Errors
/// When no client could send the password.
pub fn line(name: &str, password: &str) -> Result<String, &'static str> {
    if password.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    if name.len() + password.len() + 1 > CREDENTIALS_BYTES_MAX / 4 * 3 {
        return Err("it is too long");
    }
    let salt = SaltString::encode_b64(&random::bytes::<16>()).map_err(|_| "no salt")?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| format!("{name}:{hash}")).map_err(|_| "argon2 refuses it")
}

fn read_hash(text: &str) -> Result<PasswordHashString, &'static str> {
    const OTHER: &str =
        "the password is not hashed with argon2id; `tidewire token password` makes a line";
    if !text.starts_with("$argon2id$") {
        return Err(OTHER);
    }
    let hash = PasswordHash::new(text).map_err(|_| "the argon2id hash is damaged")?;
    let parameters = Params::try_from(&hash).map_err(|_| "the argon2id hash is damaged")?;
    let is_complete = hash.salt.is_some() && hash.hash.is_some();
    if !is_complete {
        return Err("the argon2id hash is damaged");
    }
    if parameters.m_cost() > M_COST_MAX || parameters.t_cost() > T_COST_MAX {
        return Err("the argon2id hash takes more than 256 MiB or 16 rounds");
    }
    Ok(hash.serialize())
}

impl Recent {
    fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new());
        let key = key.expect("the system has random numbers");
        Self { key, until: Mutex::default() }
    }

    /// What stands for a name and a password. A name has no colon in it.
    fn mark(&self, name: &str, password: &str) -> Vec<u8> {
        hmac::sign(&self.key, format!("{name}:{password}").as_bytes()).as_ref().to_vec()
    }

    fn has(&self, mark: &[u8], now: u64) -> bool {
        self.locked().get(mark).is_some_and(|&until| now < until)
    }

    fn insert(&self, mark: Vec<u8>, now: u64) {
        let mut until = self.locked();
        if until.len() >= RECENT_MAX {
            until.retain(|_, until| now < *until);
        }
        if until.len() < RECENT_MAX {
            until.insert(mark, now + RECENT_SECONDS);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait for a verification.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn enter(count: &'w AtomicUsize) -> Result<Self, Denied> {
        let place = Self(count);
        match count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            true => Ok(place),
            false => Err(busy()),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Name and password of the credentials (RFC 7617, section 2).
pub fn decode(text: &str) -> Option<(String, String)> {
    if text.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    let is_right = is_name(name) && !password.chars().any(char::is_control);
    is_right.then(|| (name.to_owned(), password.to_owned()))
}

fn wrong() -> Denied {
    Denied::Invalid("the name or the password is wrong".into())
}

fn busy() -> Denied {
    Denied::Unavailable("passwords cannot be checked now")
}

const FORM: &str = "user:$argon2id$...";
const CREDENTIALS_BYTES_MAX: usize = 2048;
/// In KiB.
const M_COST_MAX: u32 = 256 << 10;
const T_COST_MAX: u32 = 16;
const RECENT_SECONDS: u64 = 300;
const RECENT_MAX: usize = 4096;
const WAITING_MAX: usize = 256;
const PERMIT_TIME: Duration = Duration::from_secs(5);
