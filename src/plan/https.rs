//! HTTPS: that a listener that sends its clients to https can, and that nothing waits behind it.

use tidewire_edge::hsts::HstsConfig;
use tidewire_edge::https_policy::HttpsPolicy;

use super::{Checks, RoutePlan};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;

impl Checks<'_> {
    /// What a listener does so that its clients come by TLS; what is wrong with it is reported.
    pub(super) fn https(&mut self, listener: &ListenConfig, place: Place<'_>) -> HttpsPolicy {
        let (redirect, tls) = (place.key("https_redirect"), place.key("tls"));
        if listener.https_redirect.is_some() && redirect.is_given() && tls.is_given() {
            let finding = Diagnostic::error("a listener with TLS sends its clients to TLS");
            let finding = finding.at(redirect.key_span(), "expected on a listener without TLS");
            self.report(finding.also(tls.key_span(), "TLS here"));
        }
        let config = listener.tls.as_ref();
        let hsts = config.and_then(|tls| tls.hsts);
        self.hsts(hsts, tls.key("hsts"));
        HttpsPolicy {
            redirect: listener.https_redirect,
            hsts: hsts.map(HstsConfig::header),
            asks_clients: config.is_some_and(|tls| tls.client_cert.is_some()),
        }
    }

    fn hsts(&mut self, hsts: Option<HstsConfig>, place: Place<'_>) {
        let lacks = hsts.and_then(HstsConfig::lacks_for_preload);
        let Some(key) = lacks.filter(|_| place.is_given() && place.is_whole()) else { return };
        let finding = Diagnostic::error("browsers do not take such a host into their lists");
        let expected = match key {
            "max_age" => "needs a `max_age` of a year or more, such as \"365d\"",
            _ => "needs `include_subdomains = true`",
        };
        let finding = finding.at(place.key("preload").span(), expected);
        let lacking = place.key(key);
        self.report(match lacking.is_given() {
            true => finding.also(lacking.span(), "this is not enough"),
            false => finding,
        });
    }

    /// Reports routes that only have listeners that send every request away.
    pub(super) fn routes_behind_redirects(&mut self, config: &Config, routes: &[RoutePlan]) {
        for (index, route) in routes.iter().enumerate() {
            let Some(listeners) = &route.matcher.condition.listeners else { continue };
            let is_away = |&index: &usize| {
                // What a trusted proxy has got by https is served.
                let listener = &config.listen[index];
                let trusted = listener.trusted_proxies.as_ref();
                listener.https_redirect.is_some() && !trusted.is_some_and(|it| it.scheme)
            };
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
