//! How a server is chosen, and what clients stick to: that the two fit the servers, each other, and
//! what a cookie can be.

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::balance::algorithm::{Algorithm, is_cookie_name};
use tidewire_edge::stick::StickConfig;
use tidewire_edge::stick::cookie::{InsertConfig, SameSite, Secure};
use tidewire_edge::stick::session::SessionConfig;

use super::Checks;
use super::covering::hosts_meet;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl Checks<'_> {
    pub(super) fn balance(&mut self, backend: &BackendConfig, place: Place<'_>) {
        let factor = place.key("hash_balance_factor");
        if !matches!(backend.balance, Algorithm::Hash(_)) && factor.is_given() && place.is_whole() {
            let message = format!("`{}` has no use for `hash_balance_factor`", backend.balance);
            let help = "it is for algorithms that send the same key to the same server: \
                        \"source\", \"uri\", \"header:NAME\", \"query:NAME\", \"cookie:NAME\"";
            self.report(Diagnostic::warning(message).at(factor.key_span(), "not used").help(help));
        }
        let slowstart = place.key("slowstart");
        backend.slowstart.into_iter().for_each(|it| self.period("slowstart", it, slowstart));
        self.candidates(backend, place);
        self.stick(&backend.stick, place.key("stick"));
    }

    fn candidates(&mut self, backend: &BackendConfig, place: Place<'_>) {
        let (servers, balance) = (place.key("server"), place.key("balance"));
        if backend.server.is_empty() || !servers.is_whole() || !servers.is_given() {
            return;
        }
        if backend.server.iter().all(|server| server.backup) {
            let finding = Diagnostic::warning("every server is a backup");
            let finding = finding.at(servers.span(), "there is no other that could be down");
            self.report(finding.help("that is the same as none of them being one"));
        }
        let last = backend.server.len() - 1;
        let unbounded = backend.server.iter().position(|server| server.maxconn == 0);
        if let Some(index) = unbounded.filter(|index| *index < last)
            && backend.balance == Algorithm::First
            && balance.is_given()
        {
            let finding =
                Diagnostic::warning("servers behind one that is never full get no client");
            let finding = finding.at(servers.index(index).span(), "it has no `maxconn`");
            let help = "`balance = \"first\"` takes the first server that has room; set `maxconn` \
                        in all but the last";
            self.report(finding.help(help));
        }
    }

    fn stick(&mut self, stick: &StickConfig, place: Place<'_>) {
        let (insert, prefix) = (place.key("insert"), place.key("prefix"));
        if stick.insert.is_some() && stick.prefix.is_some() && place.is_whole() {
            let finding = Diagnostic::error("both `insert` and `prefix` are to name the server");
            let finding = finding.at(prefix.key_span(), "the second cookie for the same thing");
            self.report(finding.also(insert.key_span(), "the first one"));
        }
        if let Some(config) = &stick.insert {
            self.insert(config, insert);
        }
        if let Some(config) = &stick.prefix {
            self.cookie_name(&config.cookie, prefix.key("cookie"));
        }
        if let Some(config) = &stick.session {
            self.session(config, place.key("session"));
        }
        self.stick_secret(stick, place);
    }

    fn insert(&mut self, config: &InsertConfig, place: Place<'_>) {
        self.cookie_name(&config.cookie, place.key("cookie"));
        let path = place.key("path");
        if !(config.path.starts_with('/') && is_attribute(&config.path)) && path.is_given() {
            let finding = Diagnostic::error(format!("`{}` is not a cookie's path", path.shown()));
            self.report(finding.at(path.span(), "expected such as \"/\" or \"/ws\""));
        }
        let domain = place.key("domain");
        let is_host = |it: &str| {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            !it.is_empty() && it.chars().all(is_letter)
        };
        if config.domain.as_deref().is_some_and(|it| !is_host(it)) && domain.is_given() {
            let finding = Diagnostic::error(format!("`{}` is not a domain", domain.shown()));
            self.report(finding.at(domain.span(), "expected such as \"example.com\""));
        }
        let max_age = place.key("max_age");
        config.max_age.into_iter().for_each(|it| self.period("max_age", it, max_age));
        let same_site = place.key("same_site");
        if config.same_site == SameSite::None && config.secure == Secure::Never && place.is_whole()
        {
            let finding = Diagnostic::error("browsers refuse this cookie");
            let finding = finding.at(same_site.span(), "`none` is for cookies that are `Secure`");
            let secure = place.key("secure").span();
            self.report(finding.also(secure, "expected \"auto\" or \"always\""));
        }
    }

    /// Warns of two backends whose cookies are one to a browser that talks to both: it would get
    /// another server of each with every turn.
    pub(super) fn shared_cookies(&mut self, config: &Config) {
        let backends = config.backend.iter().enumerate();
        let inserts: Vec<(usize, &InsertConfig)> =
            backends.filter_map(|(index, it)| Some((index, it.stick.insert.as_ref()?))).collect();
        let tables = self.place.key("backend");
        let place = |index| tables.index(index).key("stick").key("insert");
        for (number, &(second, that)) in inserts.iter().enumerate() {
            let is_same = |&&(first, this): &&(usize, &InsertConfig)| {
                (&this.cookie, &this.path, &this.domain) == (&that.cookie, &that.path, &that.domain)
                    && (this.domain.is_some() || have_a_host(config, first, second))
            };
            let Some(&(first, _)) = inserts[..number].iter().find(is_same) else { continue };
            let (first, second) = (place(first), place(second));
            if [first, second].iter().all(|it| it.is_given() && it.is_whole()) {
                let cookie = second.key("cookie");
                let name = if cookie.is_given() { cookie.shown() } else { that.cookie.clone() };
                let message = format!("two backends of one host have the cookie `{name}`");
                let finding = Diagnostic::warning(message);
                let finding = finding.at(second.key_span(), "a browser keeps one for both");
                let help = "who goes from one to the other loses its server; give one of them \
                            another `cookie`, or each a `path` of its own";
                self.report(finding.also(first.key_span(), "the first one").help(help));
            }
        }
    }

    fn cookie_name(&mut self, name: &str, place: Place<'_>) {
        if !is_cookie_name(name) && place.is_given() {
            let message = format!("`{}` is not the name of a cookie", place.shown());
            let expected = "expected letters, digits, `-` and `_`";
            self.report(Diagnostic::error(message).at(place.span(), expected));
        }
    }

    fn session(&mut self, config: &SessionConfig, place: Place<'_>) {
        self.period("expire", config.expire, place.key("expire"));
        let (query, field) = (place.key("query"), place.key("field"));
        let is_name = |it: &str| !it.is_empty() && !it.contains(['"', '\\', '&', '=', '#', ' ']);
        for (is_good, place) in
            [(is_name(&config.query), query), (config.field.as_deref().is_none_or(is_name), field)]
        {
            if !is_good && place.is_given() {
                let message = format!("`{}` is not the name of a session", place.shown());
                let finding = Diagnostic::error(message);
                self.report(finding.at(place.span(), "expected such as \"sid\", for Socket.IO"));
            }
        }
    }

    fn stick_secret(&mut self, stick: &StickConfig, place: Place<'_>) {
        let at = place.key("secret");
        let cookie = match (&stick.insert, &stick.prefix) {
            (Some(_), _) => Some(place.key("insert")),
            (_, Some(_)) => Some(place.key("prefix")),
            _ => None,
        };
        match (&stick.secret, cookie) {
            (Some(_), None) if place.is_whole() => {
                let finding = Diagnostic::warning("there is no cookie that the secret would sign");
                let help = "it is for `insert` and `prefix`";
                self.report(finding.at(at.key_span(), "not used").help(help));
            }
            (Some(secret), _) => {
                let bytes = secret.expose().len();
                if bytes < SECRET_BYTES_MIN && at.is_given() {
                    let finding =
                        Diagnostic::error(format!("a secret of {bytes} bytes can be guessed"));
                    let expected = format!("expected {SECRET_BYTES_MIN} bytes or more");
                    let help = "`openssl rand -base64 32` draws one";
                    self.report(finding.at(at.span(), expected).help(help));
                }
                self.literal_secret(at);
            }
            (None, Some(cookie)) if cookie.is_given() && place.is_whole() => {
                let finding =
                    Diagnostic::warning("cookies that name a server are good for one process only");
                let finding = finding.at(cookie.key_span(), "there is no `secret` to sign them");
                let help = "after a restart, and at other edges, clients get another server; set \
                            `secret = \"${STICK_SECRET}\"` in `stick`";
                self.report(finding.help(help));
            }
            _ => {}
        }
    }
}

/// Whether some host may have routes to both backends.
fn have_a_host(config: &Config, first: usize, second: usize) -> bool {
    let leads_to = |route: &RouteConfig, index: usize| {
        route.backend.as_ref() == Some(&config.backend[index].name)
    };
    let routes = |index| config.route.iter().filter(move |route| leads_to(route, index));
    let hosts = |route: &RouteConfig| route.host.as_ref().map_or(Vec::new(), |it| it.0.clone());
    routes(first).any(|this| routes(second).any(|that| hosts_meet(&hosts(this), &hosts(that))))
}

/// Whether it can stand in a cookie's attribute.
fn is_attribute(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && c != ';')
}

/// As long as the tokens that it signs.
const SECRET_BYTES_MIN: usize = 16;
