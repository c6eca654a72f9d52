//! The keys of an `[[auth]]`, wherever they come from, as those who check tokens see them.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tracing::{info, warn};

use crate::config::JwtConfig;
use crate::jwks::{self, Origin};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::key::Key;
use crate::jwt::token::Token;
use crate::kept_file::KeptFile;
use crate::remote::Remote;
use crate::secret::Secret;

/// Keys that are valid at the same time.
#[derive(Debug, Default)]
pub struct KeySet {
    pub keys: Vec<Key>,
}

impl KeySet {
    /// The keys that may have signed this token: those for its algorithm which have its `kid` or
    /// none, or all of them when the token has none.
    pub fn for_token<'k>(&'k self, token: &'k Token<'_>) -> impl Iterator<Item = &'k Key> {
        self.keys.iter().filter(|key| {
            let fits = match (&token.key_id, &key.id) {
                (Some(wanted), Some(id)) => **wanted == **id,
                _ => true,
            };
            fits && key.is_for(token.algorithm)
        })
    }
}

/// Where the keys are.
#[derive(Debug)]
pub struct KeySource {
    auth: Box<str>,
    algorithms: Vec<Algorithm>,
    current: ArcSwapOption<KeySet>,
    from: From,
}

#[derive(Debug)]
enum From {
    /// The configuration itself.
    Config,
    File(KeptFile, FileKind),
    Url(Box<Remote>),
}

#[derive(Clone, Copy, Debug)]
enum FileKind {
    Secret,
    Pem,
    Set,
}

/// Why there are no keys: the key of the configuration that is wrong, and what is wrong with it.
#[derive(Debug)]
pub struct SourceFault {
    pub key: &'static [&'static str],
    pub message: String,
}

/// What an operator can see of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysReport {
    /// The name of the `[[auth]]`.
    pub auth: Box<str>,
    pub keys: usize,
    /// Of those that are fetched.
    pub fetches: Option<crate::remote::FetchReport>,
}

impl KeySource {
    /// The source that exactly one key of `config` names. A URL is not fetched yet.
    pub fn new(auth: &str, config: &JwtConfig, dir: &Path) -> Result<Self, SourceFault> {
        let source = |from, keys| Self {
            auth: auth.into(),
            algorithms: config.algorithms.clone(),
            current: ArcSwapOption::new(keys),
            from,
        };
        if let Some(secret) = &config.secret {
            let key = Key::of_secret(secret.expose(), &config.algorithms);
            let key = key.map_err(|why| fault(&["jwt", "secret"], why))?;
            return Ok(source(From::Config, Some(Arc::new(KeySet { keys: vec![key] }))));
        }
        if let Some(url) = config.jwks.as_deref().filter(|it| is_url(it)) {
            let remote = Remote::new(url, config, dir)?;
            return Ok(source(From::Url(Box::new(remote)), None));
        }
        let files = [
            (&["jwt", "secret_file"] as &[_], config.secret_file.as_deref(), FileKind::Secret),
            (&["jwt", "key"], config.key.as_deref(), FileKind::Pem),
            (&["jwt", "jwks"], config.jwks.as_deref().map(Path::new), FileKind::Set),
        ];
        let given = files.into_iter().find_map(|(key, path, kind)| Some((key, path?, kind)));
        let Some((key, path, kind)) = given else {
            return Err(fault(&["jwt"], "it does not say where its keys are"));
        };
        let (file, bytes) = KeptFile::open(dir.join(path))
            .map_err(|error| fault(key, format!("the file cannot be read; {error}")))?;
        let keys = kind.read(&bytes, &config.algorithms).map_err(|why| fault(key, why))?;
        Ok(source(From::File(file, kind), Some(Arc::new(keys))))
    }

    /// The keys that are valid now, if there are any.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Looks for newer keys because a token names one that is not known. False when that cannot
    /// help, or not in time.
    pub async fn renew(&self) -> bool {
        match &self.from {
            From::Url(remote) => remote.ask().await,
            From::Config | From::File(..) => false,
        }
    }

    /// Whether there is something to look at from time to time.
    pub fn is_kept(&self) -> bool {
        !matches!(self.from, From::Config)
    }

    pub fn remote(&self) -> Option<&Remote> {
        match &self.from {
            From::Url(remote) => Some(remote),
            From::Config | From::File(..) => None,
        }
    }

    /// Reads a file again that has changed; what is wrong with it is logged, and the old keys stay.
    pub fn reread(&self) {
        let From::File(file, kind) = &self.from else { return };
        let Some(bytes) = file.changed() else { return };
        let (auth, path) = (&*self.auth, file.path().display());
        let read = bytes.map_err(|error| error.to_string());
        match read.and_then(|bytes| kind.read(&bytes, &self.algorithms)) {
            Ok(keys) => {
                info!(auth, file = %path, keys = keys.keys.len(), "keys read again");
                self.current.store(Some(Arc::new(keys)));
            }
            Err(why) => warn!(auth, file = %path, "the keys stay as they were: {why}"),
        }
    }

    /// Fetches the keys, whatever is known of them, and says what went wrong.
    pub async fn fetch(&self) -> Result<(), String> {
        let From::Url(remote) = &self.from else { return Ok(()) };
        let fetched = remote.fetch(&self.algorithms).await;
        let told = fetched.as_ref().map(drop).map_err(|why| why.to_string());
        remote.finished(&self.auth, fetched, &self.current);
        told
    }

    pub fn report(&self) -> KeysReport {
        KeysReport {
            auth: self.auth.clone(),
            keys: self.current.load().as_ref().map_or(0, |set| set.keys.len()),
            fetches: self.remote().map(Remote::report),
        }
    }
}

impl FileKind {
    fn read(self, bytes: &[u8], allowed: &[Algorithm]) -> Result<KeySet, String> {
        let one = |key| KeySet { keys: vec![key] };
        match self {
            Self::Secret => Key::of_secret(Secret::of_file(bytes).expose(), allowed)
                .map(one)
                .map_err(|why| why.to_string()),
            Self::Pem => Key::of_pem(bytes, allowed).map(one).map_err(|why| why.to_string()),
            Self::Set => jwks::parse(bytes, allowed, Origin::File)
                .map(|(keys, _)| keys)
                .map_err(|why| why.to_string()),
        }
    }
}

pub(crate) fn fault(key: &'static [&'static str], why: impl ToString) -> SourceFault {
    SourceFault { key, message: why.to_string() }
}

/// Whether a `jwks` is fetched; otherwise it is a file.
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}
