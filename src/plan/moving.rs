//! Moving clients: that those who are moved go somewhere else.

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::balance::algorithm::Algorithm;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl Checks<'_> {
    pub(super) fn moving(&mut self, backend: &BackendConfig, place: Place<'_>) {
        let Some(rebalance) = &backend.rebalance else { return };
        let moves = place.key("rebalance");
        if rebalance.rate.count == 0 && moves.key("rate").is_given() {
            let finding = Diagnostic::error("a rate of 0 moves nobody");
            self.report(finding.at(moves.key("rate").span(), "expected more, such as \"10/s\""));
        }
        if !moves.is_given() {
            return;
        }
        let back = "clients that are moved come back to the server that they had";
        let stick = place.key("stick");
        for (key, is_there) in
            [("insert", backend.stick.insert.is_some()), ("prefix", backend.stick.prefix.is_some())]
        {
            if is_there && stick.key(key).is_given() {
                let finding = Diagnostic::error(back).at(moves.span(), "this would move them");
                let finding = finding.also(stick.key(key).key_span(), "they stick to it by this");
                self.report(finding.help("leave one of the two out"));
            }
        }
        let balance = place.key("balance");
        let why = match &backend.balance {
            // Also where there is a bound of load: whom another server had to take goes home.
            Algorithm::Hash(_) => back,
            Algorithm::First => "`first` has servers with more than their share on purpose",
            _ => return self.slowly(backend, moves),
        };
        if balance.is_given() {
            let finding = Diagnostic::error(why).at(moves.span(), "this would move clients");
            let finding = finding.also(balance.span(), "this brings them back");
            self.report(finding.help("`balance = \"leastconn\"` moves each client once"));
        }
    }

    fn slowly(&mut self, backend: &BackendConfig, moves: Place<'_>) {
        if matches!(backend.balance, Algorithm::Roundrobin) {
            let message = "with `roundrobin`, clients that are moved get overfull servers, too";
            let finding = Diagnostic::warning(message).at(moves.span(), "it moves them repeatedly");
            self.report(finding.help("`balance = \"leastconn\"` moves each client once"));
        }
    }
}
