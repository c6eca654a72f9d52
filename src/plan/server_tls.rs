//! TLS towards servers: that its files are there, and make a whole.

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::server_tls::config::ServerTlsConfig;
use tidewire_edge::server_tls::{ServerTls, ServerTlsFault};
use tidewire_edge::tls::date::Date;
use tidewire_edge::tls::fault::halves;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// How TLS is spoken to the servers of `backend`, with its files read.
    pub(super) fn server_tls(
        &mut self,
        backend: &BackendConfig,
        place: Place<'c>,
    ) -> Option<ServerTls> {
        let Some(config) = &backend.tls else {
            self.names_without_tls(backend, place.key("server"));
            return None;
        };
        let place = place.key("tls");
        if !place.is_whole() || !self.has_both_halves(config, place) {
            return None;
        }
        if config.insecure {
            self.insecure(config, place);
        }
        match ServerTls::load(config, self.dir, Date::now()) {
            Ok(tls) => Some(tls),
            Err(fault) => {
                self.server_tls_fault(&fault, place);
                None
            }
        }
    }

    fn names_without_tls(&mut self, backend: &BackendConfig, servers: Place<'_>) {
        for index in 0..backend.server.len() {
            let name = servers.index(index).key("server_name");
            if name.is_given() {
                let finding = Diagnostic::warning("`server_name` is not used: no TLS is spoken");
                let help = "set `tls = {}` in the backend to speak TLS to its servers";
                self.report(finding.at(name.key_span(), "not used").help(help));
            }
        }
    }

    fn has_both_halves(&mut self, config: &ServerTlsConfig, place: Place<'_>) -> bool {
        let (there, missing) = match (&config.cert, &config.key) {
            (Some(_), None) => ("cert", "key"),
            (None, Some(_)) => ("key", "cert"),
            _ => return true,
        };
        let finding = Diagnostic::error(format!("there is a `{there}` and no `{missing}`"));
        let expected = format!("expected `{missing}`, too");
        self.report(finding.at(place.key(there).span(), expected));
        false
    }

    fn insecure(&mut self, config: &ServerTlsConfig, place: Place<'_>) {
        let at = place.key("insecure");
        if config.ca.is_some() {
            let finding = Diagnostic::error("`ca` says whom to believe, `insecure` to believe all");
            let finding = finding.at(at.span(), "leave this out");
            self.report(finding.also(place.key("ca").span(), "this has no meaning beside it"));
            return;
        }
        let finding = Diagnostic::warning("every certificate of a server is believed");
        let help = "name the authority of the servers' certificates in `ca`";
        let expected = "whoever is on the way can read and change everything";
        self.report(finding.at(at.span(), expected).help(help));
    }

    fn server_tls_fault(&mut self, fault: &ServerTlsFault, place: Place<'_>) {
        let ServerTlsFault::File { item, fault } = fault else {
            let finding = Diagnostic::error(format!("TLS towards servers: {fault}"));
            self.report(finding.at(place.span(), "name the authorities to believe in `ca`"));
            return;
        };
        let place = place.key(item.key());
        let text = fault.to_string();
        let (wrong, right) = halves(&text);
        let message = format!("`{}` {wrong}", place.shown());
        self.report(Diagnostic::error(message).at(place.span(), right.to_owned()));
    }
}
