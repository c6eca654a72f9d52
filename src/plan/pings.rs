//! Pings by the edge: that they can be meant, and that somebody is pinged.

use std::time::Duration;

use tidewire_edge::pings::{PingConfig, Pings};

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl<'c> Checks<'c> {
    /// Whom a route pings.
    pub(super) fn pings(&mut self, route: &RouteConfig, place: Place<'c>) -> Pings {
        let config = &route.ping;
        let place = place.key("ping");
        if place.is_given() {
            self.ping_periods(config, place);
            self.pings_without_tunnels(route, place);
        }
        Pings::new(config)
    }

    fn ping_periods(&mut self, config: &PingConfig, place: Place<'c>) {
        let is_on = !config.client.0.is_zero() || !config.server.0.is_zero();
        for (key, period) in [("client", config.client), ("server", config.server)] {
            let place = place.key(key);
            self.period_or_zero(key, period, place);
            if !period.0.is_zero() && period.0 < SHORTEST && place.is_given() {
                let message =
                    format!("`ping.{key}` is below 100ms: idle peers would do little else");
                let expected = "expected at least \"100ms\", or \"0s\" for no pings";
                self.report(Diagnostic::error(message).at(place.span(), expected));
            }
        }
        let pong = place.key("pong");
        self.period_or_zero("pong", config.pong, pong);
        if is_on && config.pong.0 < SHORTEST && pong.is_given() {
            let message = "`pong` is below 100ms: healthy peers would be given up";
            let expected = "expected at least \"100ms\"";
            self.report(Diagnostic::error(message).at(pong.span(), expected));
        }
        // An empty table is one that is to be filled in.
        if !is_on && place.is_whole() && pong.is_given() {
            let finding = Diagnostic::warning("`ping` has no effect: it pings nobody");
            let help = "`client = \"25s\"` pings clients that say nothing for so long";
            self.report(finding.at(place.key_span(), "whom?").help(help));
        }
    }

    fn pings_without_tunnels(&mut self, route: &RouteConfig, place: Place<'c>) {
        if route.hub.is_some() {
            let finding = Diagnostic::warning("`ping` has no effect on a route to the hub");
            let finding = finding.at(place.key_span(), "nobody is pinged for this");
            self.report(finding.help("`ping` and `pong` in `[hub]` are for its clients"));
            return;
        }
        let has_other_target =
            route.static_files.is_some() || route.redirect.is_some() || route.respond.is_some();
        if has_other_target || route.backend.is_some() && route.websocket == Some(false) {
            let finding = Diagnostic::warning("`ping` on a route without WebSockets");
            self.report(finding.at(place.key_span(), "nobody is pinged for this"));
        }
    }
}

/// The length of a tick: there is no shorter time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);
