//! Certificates from an authority: that there may be any, for these names, and that the authority
//! can find out whose the names are.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use tidewire_edge::challenge::Challenges;
use tidewire_edge::tls::acme::AcmeCertificate;
use tidewire_edge::tls::sources::ClientCertMode;

use super::Checks;
use super::targets::shown_dir;
use crate::acme::challenge::ChallengeKind;
use crate::acme::config::AcmeConfig;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;

/// Certificates that an authority is asked for.
#[derive(Clone, Debug)]
pub struct AcmePlan {
    /// Its paths are whole.
    #[cfg_attr(not(feature = "acme"), expect(dead_code, reason = "such a build has no plan"))]
    pub config: AcmeConfig,
    pub wanted: AcmeWanted,
}

/// What listeners want of the authority.
#[derive(Clone, Debug, Default)]
pub struct AcmeWanted {
    /// What the authority is answered, on every listener.
    pub challenges: Arc<Challenges>,
    /// Listeners with the same names share one.
    pub certificates: Vec<Arc<AcmeCertificate>>,
}

impl AcmeWanted {
    /// The certificate for names, in any order and case.
    fn certificate(&mut self, names: &[String]) -> Arc<AcmeCertificate> {
        let new = AcmeCertificate::new(names, Arc::clone(&self.challenges));
        if let Some(known) = self.certificates.iter().find(|it| it.names() == new.names()) {
            return Arc::clone(known);
        }
        let new = Arc::new(new);
        self.certificates.push(Arc::clone(&new));
        new
    }
}

impl<'c> Checks<'c> {
    /// The certificate of a listener's `acme`, if it has one; what is wrong with it is reported.
    pub(super) fn acme_names(
        &mut self,
        names: &[String],
        place: Place<'c>,
    ) -> Option<Arc<AcmeCertificate>> {
        if names.is_empty() || !self.has_feature(place) {
            return None;
        }
        for (index, name) in names.iter().enumerate() {
            self.acme_name(name, place.index(index));
        }
        if names.len() > NAMES_MAX {
            let finding = Diagnostic::error(format!("`acme` has {} names", names.len()));
            let expected = format!("expected up to {NAMES_MAX}, as authorities take no more");
            self.report(finding.at(place.span(), expected));
        }
        Some(self.acme.certificate(names))
    }

    fn acme_name(&mut self, name: &str, place: Place<'_>) {
        if !place.is_given() {
            return;
        }
        let shown = place.shown();
        let (wrong, right) = if name.starts_with("*.") {
            (
                "is a wildcard",
                "expected names: a wildcard needs a challenge in DNS, which is not done here",
            )
        } else if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            ("is an address", "expected a name, such as \"example.com\"")
        } else if !is_host_name(name) {
            ("is not a name", "expected a name in ASCII, such as \"example.com\"")
        } else {
            return;
        };
        let finding = Diagnostic::error(format!("`{shown}` {wrong}: no certificate can be had"));
        self.report(finding.at(place.span(), right));
    }

    /// What is asked of the authority, when anything is.
    pub(super) fn acme(&mut self, config: &Config) -> Option<AcmePlan> {
        let place = self.place.key("acme");
        let wanted = std::mem::take(&mut self.acme);
        let Some(acme) = &config.acme else {
            self.acme_missing(config, &wanted);
            return None;
        };
        if !self.has_feature(place) {
            return None;
        }
        self.acme_terms(acme, place);
        for (key, period) in
            [("renew_before", acme.renew_before), ("retry", acme.retry), ("timeout", acme.timeout)]
        {
            self.period(key, period, place.key(key));
        }
        let mut acme = acme.clone();
        acme.storage = self.acme_storage(&acme.storage, place);
        if let Some(ca) = &mut acme.ca {
            *ca = self.acme_file(ca, place.key("ca"));
        }
        if let Some(eab) = &mut acme.eab {
            eab.key_file = self.acme_file(&eab.key_file, place.key("eab").key("key_file"));
        }
        if wanted.certificates.is_empty() {
            if self.place.key("listen").is_whole() && place.is_given() {
                let finding = Diagnostic::warning("`[acme]` orders nothing: no listener wants it");
                let help = "name what to order in a listener: `tls = { acme = [\"example.com\"] }`";
                self.report(finding.at(place.key_span(), "never used").help(help));
            }
            return None;
        }
        self.acme_reach(acme.challenge, config);
        Some(AcmePlan { config: acme, wanted })
    }

    /// Whether this build can order; reports when it cannot.
    fn has_feature(&mut self, place: Place<'_>) -> bool {
        let has = cfg!(feature = "acme");
        if !has && place.is_given() {
            let finding = Diagnostic::error("this build of tidewire cannot order certificates");
            let help = "build it with the cargo feature `acme`, which is on by default";
            self.report(finding.at(place.key_span(), "needs the feature `acme`").help(help));
        }
        has
    }

    /// Names for an authority that is not there.
    fn acme_missing(&mut self, config: &Config, wanted: &AcmeWanted) {
        let place = self.place.key("acme");
        if wanted.certificates.is_empty() || place.is_given() || !place.is_whole() {
            return;
        }
        let listeners = self.place.key("listen");
        let Some(index) = config.listen.iter().position(wants) else { return };
        let finding = Diagnostic::error("there is no `[acme]`: no certificate can be had");
        let names = listeners.index(index).key("tls").key("acme");
        let help = "add `[acme]` with `agree_to_terms = true` and `email = \"you@example.com\"`";
        self.report(finding.at(names.span(), "names to be ordered").help(help));
    }

    fn acme_terms(&mut self, acme: &AcmeConfig, place: Place<'_>) {
        if !acme.agree_to_terms && place.is_whole() {
            let finding = Diagnostic::error("nothing is ordered without `agree_to_terms = true`");
            let at = place.key("agree_to_terms");
            let expected = "expected `agree_to_terms = true`, once you have read the terms";
            self.report(finding.at(at.span(), expected));
        }
        let directory = place.key("directory");
        let is_url = acme.directory.parse::<http::Uri>().is_ok_and(|url| {
            url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty())
        });
        if !is_url && directory.is_given() {
            let finding = Diagnostic::error(format!("`{}` is no directory", directory.shown()));
            let expected = "expected a URL that begins with https://";
            self.report(finding.at(directory.span(), expected));
        }
        let email = place.key("email");
        let is_email = acme.email.as_deref().is_none_or(is_email);
        if !is_email && email.is_given() {
            let finding = Diagnostic::error(format!("`{}` is no address", email.shown()));
            self.report(finding.at(email.span(), "expected one, such as \"admin@example.com\""));
        }
    }

    /// The whole path of a directory that can be written to, if it is there.
    fn acme_storage(&mut self, storage: &Path, acme: Place<'_>) -> PathBuf {
        let (path, place) = (self.dir.join(storage), acme.key("storage"));
        if let Err(error) = usable(&path) {
            // What comes of the environment is not shown.
            let shown = match place.is_given() {
                true => place.shown(),
                false => storage.display().to_string(),
            };
            let text = format!("`{shown}` cannot be used as storage: {error}");
            let expected = "expected a directory that the user who runs tidewire may write to";
            self.report(Diagnostic::error(text).at(place.span(), expected));
        }
        path
    }

    /// The whole path of a file that is there.
    fn acme_file(&mut self, file: &Path, place: Place<'_>) -> PathBuf {
        let path = self.dir.join(file);
        if !place.is_given() {
            return path;
        }
        if let Err(error) = fs::File::open(&path) {
            let shown = place.shown();
            let message = match error.kind() {
                ErrorKind::NotFound => format!("there is no file `{shown}`"),
                _ => format!("`{shown}` cannot be read: {error}"),
            };
            let label = format!("looked for in {}", shown_dir(self.dir));
            self.report(Diagnostic::error(message).at(place.span(), label));
        }
        path
    }

    /// Whether the authority comes to a listener of ours. A port may be another one on the way.
    fn acme_reach(&mut self, challenge: ChallengeKind, config: &Config) {
        let tables = self.place.key("listen");
        if !tables.is_whole() {
            return;
        }
        let (is_asked, port, what): (fn(&ListenConfig) -> bool, u16, &str) = match challenge {
            ChallengeKind::TlsAlpn01 => (wants, 443, "TLS"),
            ChallengeKind::Http01 => (|it| it.tls.is_none(), 80, "plain"),
        };
        if challenge == ChallengeKind::TlsAlpn01 {
            self.acme_clients(config);
        }
        let place = self.place.key("acme").key("challenge");
        let asked: Vec<&ListenConfig> = config.listen.iter().filter(|it| is_asked(it)).collect();
        let is_there = |it: &&ListenConfig| {
            it.bind.0.iter().any(|it| it.0.tcp().is_some_and(|it| it.port() == port))
        };
        if asked.is_empty() {
            let finding = Diagnostic::error("no listener answers the challenge `http-01`");
            let help = "add a `[[listen]]` without `tls`, bound to \"0.0.0.0:80\"";
            self.report(finding.at(place.span(), "expected a plain listener").help(help));
        } else if !asked.iter().any(is_there) {
            let message = format!("the authority asks on port {port}: no {what} listener is there");
            let label = format!("fine if something else leads port {port} here");
            self.report(Diagnostic::warning(message).at(place.span(), label));
        }
    }
}

impl Checks<'_> {
    /// An authority has no certificate to show.
    fn acme_clients(&mut self, config: &Config) {
        for (index, listener) in config.listen.iter().enumerate().filter(|(_, it)| wants(it)) {
            let clients = listener.tls.as_ref().and_then(|tls| tls.client_cert.as_ref());
            if clients.is_some_and(|clients| clients.mode == ClientCertMode::Required) {
                let place = self.place.key("listen").index(index).key("tls").key("client_cert");
                let message = "the authority cannot ask here: it has no certificate of a client";
                let help =
                    "set `challenge = \"http-01\"` in `[acme]`, or `mode = \"optional\"` here";
                let finding = Diagnostic::error(message);
                self.report(finding.at(place.span(), "required of every client").help(help));
            }
        }
    }
}

fn wants(listener: &ListenConfig) -> bool {
    listener.tls.as_ref().is_some_and(|tls| !tls.acme.is_empty())
}

/// Whether a directory can be written to. One that is not there may be made by who runs the plan:
/// another user, on another machine.
fn usable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(ErrorKind::NotADirectory.into()),
        Ok(_) => Ok(access(path, Access::WRITE_OK | Access::EXEC_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// RFC 1123, section 2.1, with a dot: authorities that anybody trusts know no other names, and one's
/// own may be taught.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_right = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(is_right)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_email(text: &str) -> bool {
    let is_right = |c: char| c.is_ascii_graphic() && !"@:,?&<>\"".contains(c);
    let part = |part: &str| !part.is_empty() && part.chars().all(is_right);
    text.split_once('@').is_some_and(|(user, host)| part(user) && part(host) && host.contains('.'))
}

/// Let's Encrypt's.
const NAMES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_told_from_what_is_none() {
        for name in ["example.com", "EXAMPLE.com", "a-b.c3.test", "localhost", "xn--bcher-kva.ch"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", "a..b", ".a", "a.", "-a.test", "a-.test", "bücher.ch", "a b", "a/b", "a:1"]
        {
            assert!(!is_host_name(name), "{name}");
        }
    }

    #[test]
    fn addresses_of_mail_are_told_from_what_is_none() {
        for email in ["a@b.test", "first.last+tag@mail.example.com"] {
            assert!(is_email(email), "{email}");
        }
        for email in ["", "a", "a@", "@b.test", "mailto:a@b.test", "a@b", "a b@c.test", "a@b@c.d"] {
            assert!(!is_email(email), "{email}");
        }
    }
}
