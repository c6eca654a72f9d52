//! Backends: that each has servers, that those can be told apart, and that probes make sense.

use std::collections::{HashMap, HashSet};

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::discovery::Discovery;
use tidewire_edge::discovery::file::Certificates;
use tidewire_edge::server_tls::ServerTls;
use tidewire_edge::server_tls::config::ServerTlsConfig;

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// Checks the backends. For each of them, how its servers are found, and TLS towards them.
    pub(super) fn backends(
        &mut self,
        config: &Config,
    ) -> Vec<(Option<Discovery>, Option<ServerTls>)> {
        let tables = self.place.key("backend");
        let named = config.backend.iter().enumerate();
        let names = named.map(|(i, it)| (it.name.as_str(), tables.index(i).key("name")));
        self.names("backend", names);
        let mut found = Vec::with_capacity(config.backend.len());
        for (index, backend) in config.backend.iter().enumerate() {
            let tls = self.server_tls(backend, tables.index(index));
            found.push((self.backend(backend, tables.index(index)), tls));
        }
        self.shared_cookies(config);
        self.unused(config);
        found
    }

    fn backend(&mut self, backend: &BackendConfig, place: Place<'c>) -> Option<Discovery> {
        let servers = place.key("server");
        let finds = place.key("discovery").is_given();
        if backend.server.is_empty() && !finds && place.is_whole() && servers.is_whole() {
            let finding = Diagnostic::error("a backend has no server");
            let expected = "expected such as { name = \"a\", address = \"10.0.0.2:3000\" }";
            let at = if servers.is_given() { servers } else { place };
            let help = "`discovery` finds servers by their name";
            self.report(finding.at(at.span(), expected).help(help));
        }
        self.servers(backend, servers);
        self.server_addresses(backend, place);
        self.outward(backend, place);
        self.balance(backend, place);
        self.moving(backend, place);
        self.ejection(backend, place);
        let timeouts = [
            ("connect", backend.timeout.connect),
            ("server", backend.timeout.server),
            ("tunnel", backend.timeout.tunnel),
            ("queue", backend.timeout.queue),
            ("server_fin", backend.timeout.server_fin),
        ];
        for (key, period) in timeouts {
            period.into_iter().for_each(|it| self.period(key, it, place.key("timeout").key(key)));
        }
        self.check(backend, place.key("check"), servers);
        let discovery = backend.discovery.as_ref()?;
        let is_named = backend.tls.as_ref().is_some_and(ServerTlsConfig::needs_server_names);
        let certificates = if is_named { Certificates::Named } else { Certificates::NotNamed };
        self.discovery(discovery, certificates, place.key("discovery"))
    }

    fn servers(&mut self, backend: &BackendConfig, servers: Place<'c>) {
        let listed = || backend.server.iter().enumerate();
        self.names(
            "server",
            listed().map(|(i, it)| (it.name.as_str(), servers.index(i).key("name"))),
        );
        let mut known = HashMap::new();
        for (index, server) in listed() {
            let place = servers.index(index).key("address");
            if !place.is_given() {
                continue;
            }
            match known.get(&server.address.to_string()) {
                Some(first) => self.same_address(place, *first),
                None => drop(known.insert(server.address.to_string(), place)),
            }
        }
        self.states(backend, servers);
        let is_idle = !backend.server.is_empty() && backend.server.iter().all(|it| it.weight == 0);
        if is_idle && servers.is_whole() && backend.discovery.is_none() {
            let finding = Diagnostic::error("every server has weight 0: none gets a client");
            self.report(finding.at(servers.span(), "expected at least one with a weight"));
        }
    }

    fn same_address(&mut self, place: Place<'_>, first: Place<'_>) {
        let message = format!("two servers have the address `{}`", place.shown());
        let finding = Diagnostic::warning(message).at(place.span(), "it gets two shares");
        let finding = finding.also(first.span(), "the first one");
        self.report(finding.help("a `weight` gives one server a greater share"));
    }

    fn check(&mut self, backend: &BackendConfig, place: Place<'_>, servers: Place<'_>) {
        let check = &backend.check;
        self.period("interval", check.interval, place.key("interval"));
        self.period("timeout", check.timeout, place.key("timeout"));
        self.probe(check, place);
        let finds = backend.discovery.as_ref();
        let is_used = backend.server.iter().any(|server| server.check)
            || finds.is_some_and(|it| it.check || it.file.is_some());
        if !is_used && place.is_given() && servers.is_whole() {
            let finding = Diagnostic::warning("no server of this backend is checked");
            let help = "set `check = true` in the servers that are to be probed";
            self.report(finding.at(place.span(), "this says how").help(help));
        }
        if is_used && check.timeout > check.interval && place.is_whole() {
            let finding = Diagnostic::warning("a probe may take longer than the time between two");
            let timeout = place.key("timeout");
            let at = if timeout.is_given() { timeout } else { place.key("interval") };
            self.report(finding.at(at.span(), "`timeout` is longer than `interval`"));
        }
    }

    /// Warns of backends that no route leads to.
    fn unused(&mut self, config: &Config) {
        let meant: HashSet<&str> =
            config.route.iter().filter_map(|route| route.backend.as_deref()).collect();
        let asked = config.auth.iter().filter_map(|auth| auth.forward.as_ref());
        let asked: HashSet<&str> = asked.map(|forward| forward.backend.as_str()).collect();
        let there: HashSet<&str> = config.backend.iter().map(|it| it.name.as_str()).collect();
        // A route that is wrong was perhaps to lead to one of them.
        if !self.place.key("route").is_whole() || !meant.is_subset(&there) {
            return;
        }
        for (index, backend) in config.backend.iter().enumerate() {
            let name = self.place.key("backend").index(index).key("name");
            if name.is_given()
                && !meant.contains(backend.name.as_str())
                && !asked.contains(backend.name.as_str())
            {
                let message = format!("no route leads to backend `{}`", name.shown());
                self.report(Diagnostic::warning(message).at(name.span(), "nobody can reach it"));
            }
        }
    }
}
