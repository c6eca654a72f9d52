//! HTTPS: that a listener that sends its clients to https can, and that nothing waits behind it.

use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

impl Checks<'_> {
    /// Reports listeners with TLS that send their clients to TLS.
    pub(super) fn https_redirects(&mut self, config: &Config) {
        for (index, listener) in config.listen.iter().enumerate() {
            let place = self.place.key("listen").index(index);
            let redirect = place.key("https_redirect");
            if listener.https_redirect.is_some()
                && redirect.is_given()
                && place.key("tls").is_given()
            {
                let finding = Diagnostic::error("a listener with TLS sends its clients to TLS");
                let finding = finding.at(redirect.key_span(), "expected on a listener without TLS");
                self.report(finding.also(place.key("tls").key_span(), "TLS here"));
            }
        }
    }

    /// Reports routes that only have listeners that send every request away.
    pub(super) fn routes_behind_redirects(&mut self, config: &Config, routes: &[RoutePlan]) {
        for (index, route) in routes.iter().enumerate() {
            let Some(listeners) = &route.matcher.listeners else { continue };
            let is_away = |&index: &usize| config.listen[index].https_redirect.is_some();
            let place = self.place.key("route").index(index).key("listen");
            if !listeners.is_empty() && listeners.iter().all(is_away) && place.is_given() {
                let listener = self.place.key("listen").index(listeners[0]);
                let finding = Diagnostic::warning("a route is never reached");
                let finding =
                    finding.at(place.span(), "no request of this listener gets to routes");
                let sent = listener.key("https_redirect").key_span();
                self.report(finding.also(sent, "all are sent to https"));
            }
        }
    }
}
