//! Files that a running node goes on to use: whoever it becomes must be able to.
//!
//! To add one: a line in [`Belonging::of`]. What is read once, at the start, is none.

use std::path::{Path, PathBuf};

use tidewire_auth::config::AuthConfig;
use tidewire_auth::key_set::is_url;

use crate::config::Config;
use crate::config::listen::ListenConfig;

/// A file or directory that is used after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    /// The key that names it, for messages.
    pub key: String,
    pub path: PathBuf,
    pub need: Need,
}

/// What has to be possible with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A file that has been read and is looked at for changes.
    ReadAgain,
    /// A file, or a directory of such, that is not read before it is needed.
    Read,
    /// A file that is written anew beside itself and then put in its place.
    Replace,
    /// A directory in which files are made.
    Fill,
}

impl Belonging {
    /// All of a configuration. Relative paths start from `dir`.
    pub fn of(config: &Config, dir: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        let mut add = |key: String, path: &Path, need| {
            found.push(Self { key, path: dir.join(path), need });
        };
        for listener in &config.listen {
            of_listener(listener, &mut add);
        }
        for auth in &config.auth {
            of_auth(auth, &mut add);
        }
        for route in &config.route {
            let lists = [("allow_file", &route.allow_file), ("deny_file", &route.deny_file)];
            for (name, file) in lists {
                if let Some(file) = file {
                    add(format!("`{name}` of a `[[route]]`"), file, Need::ReadAgain);
                }
            }
            let files = route.static_files.as_ref().and_then(|files| files.dir.as_ref());
            if let Some(dir) = files {
                add("`static.dir` of a `[[route]]`".to_owned(), dir, Need::Read);
            }
        }
        if let Some(file) = &config.revocation.file {
            add("`file` of `[revocation]`".to_owned(), file, Need::Replace);
        }
        if let Some(acme) = config.acme.as_ref().filter(|_| orders(config)) {
            add("`storage` of `[acme]`".to_owned(), &acme.storage, Need::Fill);
            if let Some(ca) = &acme.ca {
                add("`ca` of `[acme]`".to_owned(), ca, Need::Read);
            }
            if let Some(eab) = &acme.eab {
                add("`eab.key_file` of `[acme]`".to_owned(), &eab.key_file, Need::Read);
            }
        }
        found
    }
}

fn of_listener(listener: &ListenConfig, add: &mut impl FnMut(String, &Path, Need)) {
    let key = |key: &str| format!("`{key}` of listener `{}`", listener.name);
    let lists = [("allow_file", &listener.allow_file), ("deny_file", &listener.deny_file)];
    for (name, file) in lists {
        if let Some(file) = file {
            add(key(name), file, Need::ReadAgain);
        }
    }
    let Some(tls) = &listener.tls else { return };
    for certificate in &tls.certificate {
        add(key("tls.certificate.cert"), &certificate.cert, Need::ReadAgain);
        add(key("tls.certificate.key"), &certificate.key, Need::ReadAgain);
        if let Some(ocsp) = &certificate.ocsp {
            add(key("tls.certificate.ocsp"), ocsp, Need::ReadAgain);
        }
    }
    let Some(clients) = &tls.client_cert else { return };
    for ca in &clients.ca.0 {
        add(key("tls.client_cert.ca"), ca, Need::ReadAgain);
    }
    for crl in &clients.crl.0 {
        add(key("tls.client_cert.crl"), crl, Need::ReadAgain);
    }
}

fn of_auth(auth: &AuthConfig, add: &mut impl FnMut(String, &Path, Need)) {
    let key = |key: &str| format!("`{key}` of auth `{}`", auth.name);
    if let Some(jwt) = &auth.jwt {
        if let Some(file) = &jwt.secret_file {
            add(key("jwt.secret_file"), file, Need::ReadAgain);
        }
        if let Some(file) = &jwt.key {
            add(key("jwt.key"), file, Need::ReadAgain);
        }
        if let Some(file) = jwt.jwks.as_deref().filter(|it| !is_url(it)) {
            add(key("jwt.jwks"), Path::new(file), Need::ReadAgain);
        }
    }
    if let Some(file) = auth.api_key.as_ref().and_then(|keys| keys.file.as_ref()) {
        add(key("api_key.file"), file, Need::ReadAgain);
    }
    if let Some(basic) = &auth.basic {
        add(key("basic.users"), &basic.users, Need::ReadAgain);
    }
}

/// Whether anything is ordered of an authority.
fn orders(config: &Config) -> bool {
    config.listen.iter().any(|it| it.tls.as_ref().is_some_and(|tls| !tls.acme.is_empty()))
}
