//! `[[auth]]`: that each has one method, and that its keys are there and are good for something.

use std::sync::Arc;

use tidewire_auth::config::{API_KEY_KEYS, ApiKeyConfig, AuthConfig, JWT_KEYS, JwtConfig, METHODS};
use tidewire_auth::forward::Forward;
use tidewire_auth::key_set::is_url;
use tidewire_auth::method::{Method, MethodFault};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::suggest::list;

/// An `[[auth]]` whose keys are read.
#[derive(Clone, Debug)]
pub struct AuthPlan {
    pub config: AuthConfig,
    pub check: AuthCheck,
}

/// Who vouches for clients.
#[derive(Clone, Debug)]
pub enum AuthCheck {
    Method(Arc<Method>),
    /// A service, by the index of its backend.
    Forward {
        forward: Box<Forward>,
        backend: usize,
    },
}

impl AuthPlan {
    /// Keeps its keys current, if they can change.
    pub fn keep(&self, control: &Handle) -> Option<JoinHandle<()>> {
        self.method()?.keep(control)
    }

    /// What vouches for clients here, without asking anybody.
    pub fn method(&self) -> Option<&Arc<Method>> {
        match &self.check {
            AuthCheck::Method(method) => Some(method),
            AuthCheck::Forward { .. } => None,
        }
    }
}

impl<'c> Checks<'c> {
    /// Those that are right; each that is not is reported.
    pub(super) fn auths(&mut self, config: &Config) -> Vec<AuthPlan> {
        let tables = self.place.key("auth");
        let named = config.auth.iter().enumerate();
        let names = named.map(|(i, it)| (it.name.as_str(), tables.index(i).key("name")));
        self.names("auth", names);
        let numbered = config.auth.iter().enumerate();
        numbered.filter_map(|(index, auth)| self.auth(auth, tables.index(index), config)).collect()
    }

    fn auth(&mut self, auth: &AuthConfig, place: Place<'c>, all: &Config) -> Option<AuthPlan> {
        self.identity_headers(auth, place);
        self.exactly_one(&METHODS, place, "`[[auth]]`", "method")?;
        if let Some(forward) = &auth.forward {
            let check = self.forward_auth(forward, place, all)?;
            return Some(AuthPlan { config: auth.clone(), check });
        }
        if let Some(jwt) = &auth.jwt {
            self.jwt(jwt, place.key("jwt"))?;
        }
        if let Some(keys) = &auth.api_key {
            self.api_key(keys, place.key("api_key"))?;
        }
        if !place.is_whole() {
            return None;
        }
        match Method::new(auth, self.dir) {
            Ok(method) => method.map(|it| {
                let check = AuthCheck::Method(Arc::new(it));
                AuthPlan { config: auth.clone(), check }
            }),
            Err(fault) => {
                self.method_fault(&fault, place);
                None
            }
        }
    }

    fn jwt(&mut self, jwt: &JwtConfig, place: Place<'c>) -> Option<()> {
        let periods = [
            ("refresh", jwt.refresh),
            ("min_refresh", jwt.min_refresh),
            ("stale", jwt.stale),
            ("timeout", jwt.timeout),
        ];
        let is_fetched = jwt.jwks.as_deref().is_some_and(is_url);
        for (key, period) in periods {
            self.period(key, period, place.key(key));
            self.of_fetched(is_fetched, place.key(key), key);
        }
        self.of_fetched(is_fetched, place.key("ca"), "ca");
        self.no_place(jwt.from.is_empty(), place.key("from"));
        self.exactly_one(&JWT_KEYS, place, "`jwt`", "key")?;
        if jwt.secret.is_some() {
            self.literal_secret(place.key("secret"));
        }
        if is_fetched {
            self.plain_http(jwt.jwks.as_deref().unwrap_or_default(), place.key("jwks"));
        }
        Some(())
    }

    fn api_key(&mut self, keys: &ApiKeyConfig, place: Place<'c>) -> Option<()> {
        self.no_place(keys.from.is_empty(), place.key("from"));
        self.exactly_one(&API_KEY_KEYS, place, "`api_key`", "key")?;
        if keys.key.is_some() {
            self.literal_secret(place.key("key"));
        }
        Some(())
    }

    fn no_place(&mut self, is_empty: bool, place: Place<'_>) {
        if is_empty && place.is_given() && place.is_whole() {
            let finding = Diagnostic::error("`from` is empty: nobody could be let in");
            self.report(finding.at(place.span(), "expected such as [\"authorization\"]"));
        }
    }

    fn of_fetched(&mut self, is_fetched: bool, place: Place<'_>, key: &str) {
        if !is_fetched && place.is_given() {
            let finding = Diagnostic::warning(format!("`{key}` is for key sets that are fetched"));
            let help = "such as `jwks = \"https://login.example.com/.well-known/jwks.json\"`";
            self.report(finding.at(place.key_span(), "not used").help(help));
        }
    }

    /// Whoever is on the way could put in keys of their own.
    fn plain_http(&mut self, url: &str, place: Place<'_>) {
        let host = url.parse::<http::Uri>().ok().filter(|url| url.scheme_str() == Some("http"));
        let host = host.and_then(|url| url.host().map(str::to_owned));
        let Some(host) = host.filter(|_| place.is_given()) else { return };
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if host != "localhost" && !address.is_ok_and(|it| it.is_loopback()) {
            let finding = Diagnostic::warning(
                "the keys come over a connection that anybody on \
                                               the way can change",
            );
            self.report(finding.at(place.span(), "expected `https://`"));
        }
    }

    /// A file is copied, mailed and put under version control.
    pub(super) fn literal_secret(&mut self, place: Place<'_>) {
        if place.is_given() && !place.is_from_environment() {
            let finding = Diagnostic::warning("a secret is written into the configuration");
            let help = "write \"${NAME}\" and set NAME in the environment, or name a file";
            self.report(finding.at(place.key_span(), "whoever reads this has it").help(help));
        }
    }

    /// Reports when not exactly one of the keys is given. `None` when it is not so.
    fn exactly_one(
        &mut self,
        keys: &[&str],
        place: Place<'c>,
        table: &str,
        noun: &str,
    ) -> Option<()> {
        let given: Vec<&str> =
            keys.iter().copied().filter(|key| place.key(key).is_given()).collect();
        let finding = match given.as_slice() {
            [_] => return Some(()),
            [] if !place.is_whole() => return None,
            [] => {
                let expected = format!("expected one of {}", list(keys).replace(" and ", " or "));
                Diagnostic::error(format!("{table} has no {noun}")).at(place.span(), expected)
            }
            [first, second, ..] => {
                Diagnostic::error(format!("{table} has {} {noun}s", given.len()))
                    .at(place.key(second).key_span(), "expected one only")
                    .also(place.key(first).key_span(), "the first one")
            }
        };
        self.report(finding);
        None
    }

    fn method_fault(&mut self, fault: &MethodFault, place: Place<'c>) {
        let at = fault.key.iter().fold(place, |place, key| place.key(key));
        let (wrong, right) = fault.message.split_once("; ").unwrap_or((&fault.message, ""));
        let key = fault.key.last().copied().unwrap_or("auth");
        self.report(Diagnostic::error(format!("`{key}`: {wrong}")).at(at.span(), right));
    }
}
