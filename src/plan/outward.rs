//! How servers are connected to: that there are addresses to do it from, and that what is said has a
//! meaning.

use tidewire_edge::address::{Address, HostPort};
use tidewire_edge::backend::BackendConfig;
use tidewire_runtime::tcp_options::TcpOptions;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// Looks at how the servers of `backend` are connected to.
    pub(super) fn outward(&mut self, backend: &BackendConfig, place: Place<'c>) {
        self.tcp(&backend.tcp, place.key("tcp"));
        let source = place.key("source");
        let count =
            backend.source.iter().fold(0, |sum: u128, range| sum.saturating_add(range.count()));
        if count > SOURCES_MOST && source.is_given() {
            let finding = Diagnostic::error("`source` has more addresses than there may be");
            let expected = format!("expected {SOURCES_MOST} at most");
            let help = "each of them is some 28,000 connections to a server";
            self.report(finding.at(source.span(), expected).help(help));
        }
        self.families(backend, place);
        let servers = place.key("server");
        let is_unix = |it: &Address| matches!(it, Address::Unix(_));
        let is_all_unix = backend.discovery.is_none()
            && !backend.server.is_empty()
            && backend.server.iter().all(|it| is_unix(&it.address));
        let is_set =
            [("source", !backend.source.is_empty()), ("tcp", backend.tcp != TcpOptions::default())];
        for (key, _) in is_set.into_iter().filter(|(_, is_set)| *is_set) {
            let at = place.key(key);
            if is_all_unix && servers.is_whole() && at.is_given() {
                let message = format!("`{key}` is not used: all servers are on Unix sockets");
                self.report(Diagnostic::warning(message).at(at.key_span(), "leave it out"));
            }
        }
        let check = place.key("check").key("send_proxy");
        if backend.check.send_proxy == Some(true)
            && backend.send_proxy.is_none()
            && check.is_given()
        {
            let message =
                "probes are to begin with a PROXY header, and clients' connections are not";
            let finding = Diagnostic::error(message);
            let help = "set `send_proxy = \"v2\"` in the backend, which says the version for both";
            self.report(finding.at(check.span(), "it is not said which version").help(help));
        }
    }

    /// Servers that are reached from no address in `source`.
    fn families(&mut self, backend: &BackendConfig, place: Place<'c>) {
        let source = place.key("source");
        if backend.source.is_empty() || !source.is_whole() || !source.is_given() {
            return;
        }
        for (index, server) in backend.server.iter().enumerate() {
            let at = place.key("server").index(index);
            self.family(&server.address, backend, at.key("address"), source);
            if let Some(address) = server.check_address.as_ref().filter(|_| server.check) {
                self.family(address, backend, at.key("check_address"), source);
            }
        }
    }

    fn family(
        &mut self,
        address: &Address,
        backend: &BackendConfig,
        at: Place<'_>,
        source: Place<'_>,
    ) {
        // A name may have addresses of either kind.
        let Some(address) = address.tcp().and_then(HostPort::literal) else { return };
        let is_reached = backend.source.iter().any(|it| it.is_ipv4() == address.is_ipv4());
        if !is_reached && at.is_given() {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let message =
                format!("`source` has no {family} address to reach `{}` from", at.shown());
            let finding = Diagnostic::error(message).at(at.span(), format!("an {family} address"));
            let finding = finding.also(source.span(), "none of these");
            self.report(finding.help(format!("add an {family} address of this machine")));
        }
    }
}

/// Some 29 million connections to each server.
const SOURCES_MOST: u128 = 1024;
