//! TLS towards servers: that its files are there and make a whole, and that it is known who the
//! servers have to be.

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::server_tls::config::ServerTlsConfig;
use tidewire_edge::server_tls::{ServerTls, ServerTlsFault};
use tidewire_edge::tls::date::Date;

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
            self.without_tls(backend, place);
            return None;
        };
        let tls = place.key("tls");
        if !tls.is_whole() {
            return None;
        }
        if config.insecure {
            self.insecure(config, tls);
        } else if config.needs_server_names() {
            self.certificate_names(backend, place.key("server"));
        }
        if !self.has_both_halves(config, tls) {
            return None;
        }
        match ServerTls::load(config, self.dir, Date::now()) {
            Ok((loaded, doubts)) => {
                doubts.iter().for_each(|doubt| self.server_tls_fault(doubt, tls));
                Some(loaded)
            }
            Err(fault) => {
                self.server_tls_fault(&fault, tls);
                None
            }
        }
    }

    /// Keys that are of no use, as no TLS is spoken.
    fn without_tls(&mut self, backend: &BackendConfig, place: Place<'_>) {
        let help = "set `tls = {}` in the backend to speak TLS to its servers";
        let check = place.key("check").key("tls");
        if backend.check.tls == Some(true) && check.is_given() {
            let finding = Diagnostic::error("probes cannot speak TLS: the backend has no `tls`");
            self.report(finding.at(check.span(), "whom would they believe?").help(help));
        }
        for index in 0..backend.server.len() {
            let name = place.key("server").index(index).key("server_name");
            if name.is_given() {
                let finding = Diagnostic::warning("`server_name` is not used: no TLS is spoken");
                self.report(finding.at(name.key_span(), "not used").help(help));
            }
        }
    }

    /// Servers whose certificates could have no name.
    fn certificate_names(&mut self, backend: &BackendConfig, servers: Place<'_>) {
        for (index, server) in backend.server.iter().enumerate() {
            let address = servers.index(index).key("address");
            // What a Unix socket lacks is said where addresses are looked at.
            let is_tcp = server.address.tcp().is_some();
            if is_tcp && !server.has_certificate_name() && address.is_given() {
                let shown = address.shown();
                let finding = Diagnostic::error(format!("no certificate can be for `{shown}`"));
                let help = "say in `server_name` which name the server's certificate has";
                self.report(finding.at(address.span(), "not the name of a host").help(help));
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
        self.report(finding.at(place.key(there).span(), format!("expected `{missing}`, too")));
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
        let what = "whoever is on the way can read and change everything";
        self.report(finding.at(at.span(), what).help(help));
    }

    fn server_tls_fault(&mut self, fault: &ServerTlsFault, place: Place<'_>) {
        if let ServerTlsFault::File { item, fault } = fault {
            return self.file_fault(fault, place.key(item.key()));
        }
        let finding = Diagnostic::error(format!("TLS towards servers: {fault}"));
        self.report(finding.at(place.span(), "name the authorities to believe in `ca`"));
    }
}
