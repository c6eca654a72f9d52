//! The keys of an `[[auth]]`, wherever they come from, as those who check tokens see them.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::config::JwtConfig;
use crate::jwt::key::Key;
use crate::jwt::token::Token;

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
    current: ArcSwapOption<KeySet>,
}

/// Why there are no keys: the key of the configuration that is wrong, and what is wrong with it.
#[derive(Debug)]
pub struct SourceFault {
    pub key: &'static [&'static str],
    pub message: String,
}

impl KeySource {
    /// The source that exactly one key of `config` names.
    pub fn new(_auth: &str, config: &JwtConfig, dir: &Path) -> Result<Self, SourceFault> {
        let fault = |key, message: String| SourceFault { key, message };
        let one = |key: Key| Self::fixed(KeySet { keys: vec![key] });
        if let Some(secret) = &config.secret {
            let key = Key::of_secret(secret.expose(), &config.algorithms);
            return key.map(one).map_err(|why| fault(&["jwt", "secret"], why.to_string()));
        }
        if let Some(path) = &config.key {
            let text = std::fs::read(dir.join(path))
                .map_err(|error| fault(&["jwt", "key"], error.to_string()))?;
            let key = Key::of_pem(&text, &config.algorithms);
            return key.map(one).map_err(|why| fault(&["jwt", "key"], why.to_string()));
        }
        Err(fault(&["jwt"], "no key".into()))
    }

    pub fn fixed(keys: KeySet) -> Self {
        Self { current: ArcSwapOption::from_pointee(keys) }
    }

    /// The keys that are valid now, if there are any.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Looks for newer keys. False when there are none, or none in time.
    pub async fn renew(&self) -> bool {
        false
    }
}
