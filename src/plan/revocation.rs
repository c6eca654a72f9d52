//! Revocations and who may revoke: that their values can be, and that the token is there.

use std::path::PathBuf;
use std::time::Duration;

use tidewire_auth::gossip::LIFE_MAX;
use tidewire_auth::secret::Secret;

use super::{AdminPlan, Checks, RevocationPlan};
use crate::config::Config;
use crate::config::admin::{AdminConfig, MetricsAccess};
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl Checks<'_> {
    pub(super) fn revocation(&mut self, config: &Config) -> RevocationPlan {
        let place = self.place.key("revocation");
        let revocation = &config.revocation;
        let life = revocation.default_for.0;
        if life < Duration::from_secs(1) || life > LIFE_MAX {
            let finding =
                Diagnostic::error("`default_for` is no time to remember a revocation for");
            self.report(finding.at(place.key("default_for").span(), "expected 1s to 400d"));
        }
        if revocation.max == 0 {
            let finding = Diagnostic::error("`max` is 0: nothing could be revoked");
            self.report(finding.at(place.key("max").span(), "expected at least 1"));
        }
        let file = revocation.file.as_ref().map(|file| self.dir.join(file));
        RevocationPlan { file, max: revocation.max as usize, default_for: life }
    }

    pub(super) fn admin(&mut self, config: &Config) -> Option<AdminPlan> {
        let admin = config.admin.as_ref()?;
        let place = self.place.key("admin");
        let token = match (&admin.token, &admin.token_file) {
            (Some(_), Some(_)) => {
                let finding = Diagnostic::error("`[admin]` has both `token` and `token_file`");
                let finding =
                    finding.at(place.key("token_file").key_span(), "expected one of them");
                self.report(finding.also(place.key("token").key_span(), "the other"));
                None
            }
            (Some(token), None) => {
                self.literal_secret(place.key("token"));
                Some((token.clone(), place.key("token")))
            }
            (None, Some(file)) => self.token_file(self.dir.join(file), place.key("token_file")),
            (None, None) => None,
        };
        if let Some((token, place)) = &token
            && place.is_given()
            && !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.expose().len())
        {
            let finding = Diagnostic::error("the token is too short to be one, or too long");
            let help = "such as the output of `openssl rand -hex 32`";
            self.report(finding.at(place.span(), "expected 16 to 1024 bytes").help(help));
        }
        self.metrics_token(admin, place);
        let bind = admin.bind.0.tcp();
        let at = place.key("bind");
        if bind.is_none() && at.is_given() {
            let finding = Diagnostic::error("the admin listener is not on a Unix socket");
            self.report(finding.at(at.span(), "expected such as \"127.0.0.1:9090\""));
        }
        let token = token.map(|(token, _)| token);
        Some(AdminPlan { bind: bind?, token, metrics: admin.metrics })
    }

    fn metrics_token(&mut self, admin: &AdminConfig, place: Place<'_>) {
        let has_token = admin.token.is_some() || admin.token_file.is_some();
        let is_whole = place.key("token").is_whole() && place.key("token_file").is_whole();
        if admin.metrics == MetricsAccess::Token && !has_token && is_whole {
            let finding = Diagnostic::error("`/metrics` asks for a token, and there is none");
            let help = "add `token = \"${ADMIN_TOKEN}\"` or `token_file`";
            self.report(finding.at(place.key("metrics").span(), "of which token?").help(help));
        }
    }

    fn token_file<'p>(&mut self, file: PathBuf, place: Place<'p>) -> Option<(Secret, Place<'p>)> {
        match std::fs::read(&file) {
            Ok(bytes) => Some((Secret::of_file(&bytes), place)),
            Err(error) => {
                let finding =
                    Diagnostic::error(format!("cannot read `{}`: {error}", place.shown()));
                self.report(finding.at(place.span(), "expected a file that is there"));
                None
            }
        }
    }
}

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1024;
