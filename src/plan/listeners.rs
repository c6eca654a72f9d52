//! Listeners: that there is one, and that no address is bound twice.

use std::collections::HashMap;
use tidewire_runtime::listener::Address;

use super::{Checks, ListenerPlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    pub(super) fn listeners(&mut self, config: &Config) -> Vec<ListenerPlan> {
        let tables = self.place.key("listen");
        let named = config.listen.iter().enumerate();
        let names = named.map(|(i, it)| (it.name.as_str(), tables.index(i).key("name")));
        self.names("listener", names);
        self.can_be_numbered("listen", config.listen.len(), tables);
        if config.listen.is_empty() && tables.is_whole() {
            let finding = Diagnostic::error("there is no `[[listen]]`: no client can connect");
            let help = "add `[[listen]]` with `name = \"public\"` and `bind = \"0.0.0.0:80\"`";
            self.report(finding.help(help));
        }
        let mut bound = HashMap::new();
        for (index, listener) in config.listen.iter().enumerate() {
            let place = tables.index(index).key("bind");
            if listener.bind.0.is_empty() && place.is_whole() {
                let finding = Diagnostic::error("a listener is bound to no address");
                let expected = "expected at least one, such as \"0.0.0.0:80\"";
                self.report(finding.at(place.span(), expected));
            }
            for (index, address) in listener.bind.0.iter().enumerate() {
                self.bind(&address.0, place.index(index), &mut bound);
            }
        }
        if let Some(admin) = &config.admin {
            self.bind(&admin.bind.0, self.place.key("admin").key("bind"), &mut bound);
        }
        let plan = |(index, it): (usize, &ListenConfig)| ListenerPlan {
            name: it.name.clone(),
            bind: it.bind.0.iter().map(|address| self.address(&address.0)).collect(),
            sockets: self.sockets(it, tables.index(index)),
            https: self.https(it, tables.index(index)),
            head_limits: self.heads(&it.http, tables.index(index).key("http")),
            tls: self.tls(it, tables.index(index)),
            arrivals: self.arrivals(it, tables.index(index)),
            addresses: self.addresses(&it.into(), tables.index(index)),
            quotas: self.listener_quotas(it, tables.index(index), config),
        };
        config.listen.iter().enumerate().map(plan).collect()
    }

    /// Files start where the configuration is.
    fn address(&self, address: &Address) -> Address {
        match address {
            Address::Unix(path) => Address::Unix(self.dir.join(path)),
            Address::Tcp(_) => address.clone(),
        }
    }

    fn bind(
        &mut self,
        address: &Address,
        place: Place<'c>,
        bound: &mut HashMap<Address, Place<'c>>,
    ) {
        // Port 0 is another port each time.
        if !place.is_given() || address.tcp().is_some_and(|it| it.port() == 0) {
            return;
        }
        if let Some(first) = bound.get(address) {
            let message = format!("`{}` is bound twice", place.shown());
            let finding = Diagnostic::error(message).at(place.span(), "this address is taken");
            self.report(finding.also(first.span(), "the first time"));
        } else {
            bound.insert(address.clone(), place);
        }
    }
}
