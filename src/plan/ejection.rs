//! Ejection: that something ejects a server, that one can be spared, and that its times fit.

use tidewire_edge::backend::BackendConfig;
use tidewire_edge::ejection::EjectConfig;
use tidewire_runtime::percent::{Percent, Share};

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl Checks<'_> {
    pub(super) fn ejection(&mut self, backend: &BackendConfig, place: Place<'_>) {
        let Some(eject) = &backend.eject else { return };
        let table = place.key("eject");
        if !table.is_given() {
            return;
        }
        self.ejection_causes(eject, table);
        self.ejection_times(eject, table);
        self.ejection_spares(backend, eject, place);
    }

    fn ejection_causes(&mut self, eject: &EjectConfig, table: Place<'_>) {
        if !table.is_whole() {
            return;
        }
        if eject.connect_errors == 0 && eject.handshake_errors == 0 {
            let finding = Diagnostic::error("nothing ejects a server");
            let expected = "expected `connect_errors` or `handshake_errors` of 1 or more";
            self.report(finding.at(table.span(), expected));
        } else if eject.server_errors && eject.handshake_errors == 0 {
            let key = table.key("server_errors");
            let finding = Diagnostic::warning("`server_errors` has no effect: they do not count");
            let help = "set `handshake_errors` to how many in a row eject a server";
            self.report(finding.at(key.key_span(), "not used").help(help));
        }
    }

    fn ejection_times(&mut self, eject: &EjectConfig, table: Place<'_>) {
        let (base, max) = (table.key("base"), table.key("max"));
        self.period("base", eject.base, base);
        self.period("max", eject.max, max);
        if eject.max >= eject.base || eject.max.0.is_zero() || !table.is_whole() {
            return;
        }
        let message = "the first ejection would be longer than the longest";
        let finding = Diagnostic::error(message);
        let (base_is, max_is) =
            (format!("`base` is {}", eject.base), format!("`max` is {}", eject.max));
        self.report(match (base.is_given(), max.is_given()) {
            (true, true) => finding.at(max.span(), "expected more").also(base.span(), "than this"),
            (_, true) => finding.at(max.span(), base_is).help("set `base`, too"),
            _ => finding.at(base.span(), max_is).help("set `max`, too"),
        });
    }

    /// Whether `keep` lets a server go at all.
    fn ejection_spares(&mut self, backend: &BackendConfig, eject: &EjectConfig, place: Place<'_>) {
        let (keep, servers) = (place.key("eject").key("keep"), place.key("server"));
        if eject.keep == Share::Part(Percent::whole(100)) && keep.is_given() {
            let finding = Diagnostic::error("with all servers kept, none is ever ejected");
            self.report(finding.at(keep.span(), "expected less, such as \"50%\" or \"1\""));
            return;
        }
        let is_known = backend.discovery.is_none() && servers.is_given() && servers.is_whole();
        let takers = backend.server.iter().filter(|server| server.weight > 0).count();
        if !is_known || takers == 0 || eject.keep.of(takers).max(1) < takers {
            return;
        }
        let kept = if keep.is_given() { keep.shown() } else { eject.keep.to_string() };
        let message = match takers {
            1 => "the only server is never ejected".to_owned(),
            _ => format!("no server is ever ejected: {kept} of {takers} is all of them"),
        };
        let at = if keep.is_given() { keep } else { place.key("eject") };
        self.report(Diagnostic::warning(message).at(at.span(), "this does nothing"));
    }
}
