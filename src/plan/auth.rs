//! `[[auth]]`: that each has one method, and that its keys are there and are good for something.

use std::sync::Arc;

use tidewire_auth::config::{AuthConfig, JWT_KEYS, JwtConfig, METHODS};
use tidewire_auth::forward::Forward;
use tidewire_auth::method::{Method, MethodFault};

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
        forward: Forward,
        backend: usize,
    },
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
        self.exactly_one(&METHODS, place, "method")?;
        if let Some(forward) = &auth.forward {
            let check = self.forward_auth(forward, place.key("forward"), all)?;
            return Some(AuthPlan { config: auth.clone(), check });
        }
        if let Some(jwt) = &auth.jwt {
            self.jwt(jwt, place.key("jwt"))?;
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
        self.exactly_one(&JWT_KEYS, place, "key")?;
        if jwt.secret.is_some() {
            self.literal_secret(place.key("secret"));
        }
        Some(())
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
    fn exactly_one(&mut self, keys: &[&str], place: Place<'c>, noun: &str) -> Option<()> {
        let given: Vec<&str> =
            keys.iter().copied().filter(|key| place.key(key).is_given()).collect();
        let all: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let finding = match given.as_slice() {
            [_] => return Some(()),
            [] if !place.is_whole() => return None,
            [] => Diagnostic::error(format!("this has no {noun}"))
                .at(place.span(), format!("expected one of {}", list(&all))),
            [first, second, ..] => Diagnostic::error(format!("this has more than one {noun}"))
                .at(place.key(second).key_span(), "expected only one")
                .also(place.key(first).key_span(), "the first one"),
        };
        self.report(finding);
        None
    }

    fn method_fault(&mut self, fault: &MethodFault, place: Place<'c>) {
        let at = fault.key.iter().fold(place, |place, key| place.key(key));
        let (wrong, right) = fault.message.split_once("; ").unwrap_or((&fault.message, ""));
        self.report(Diagnostic::error(wrong).at(at.span(), right));
    }
}
