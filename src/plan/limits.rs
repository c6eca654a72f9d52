//! Limits: what holds on a route or a listener, and that it can.

use std::time::Duration;

use tidewire_edge::limits::Limits;
use tidewire_edge::limits::LimitsConfig;
use tidewire_edge::limits::quota::{QuotaConfig, Quotas};

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl<'c> Checks<'c> {
    /// The limits of a route.
    pub(super) fn limits(
        &mut self,
        route: &RouteConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Limits {
        self.frame_limits(&route.limits, place.key("limits"));
        self.limits_without_websockets(route, place);
        self.quotas_of(&route.limits, Some(&config.limits), place.key("limits"));
        let identity = place.key("limits").key("per_identity");
        let asks_nobody = route.auth.as_ref().is_none_or(|auths| auths.0.is_empty());
        let is_empty = route.limits.per_identity == QuotaConfig::default();
        if identity.is_given() && !is_empty && asks_nobody && place.is_whole() {
            let finding = Diagnostic::warning(
                "`per_identity` has no effect: this route asks nobody who they are",
            );
            let help = "`auth` in the route says who vouches for clients";
            self.report(finding.at(identity.key_span(), "nobody has an identity here").help(help));
        }
        Limits::resolve(&route.limits, &config.limits)
    }

    /// The limits of all routes.
    pub(super) fn general_limits(&mut self, config: &Config) {
        let place = self.place.key("limits");
        self.frame_limits(&config.limits, place);
        self.quotas_of(&config.limits, None, place);
    }

    /// What a listener counts.
    pub(super) fn listener_quotas(
        &mut self,
        listener: &ListenConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Quotas {
        let (place, limits) = (place.key("limits"), &listener.limits);
        for (key, quota) in [("per_address", &limits.per_address), ("total", &limits.total)] {
            self.quota(&QuotaConfig::from(quota), None, place.key(key));
        }
        Quotas::of_listener(limits, (config.limits.profile, config.limits.max_known))
    }

    fn quotas_of(&mut self, own: &LimitsConfig, general: Option<&LimitsConfig>, place: Place<'c>) {
        for (key, read) in QUOTAS {
            self.quota(read(own), general.map(read), place.key(key));
        }
    }

    fn quota(&mut self, own: &QuotaConfig, general: Option<&QuotaConfig>, place: Place<'c>) {
        if !place.is_given() {
            return;
        }
        // A profile may have a rate as well, so these are no errors.
        let rate = own.rate.or(general.and_then(|it| it.rate));
        let wait = place.key("wait");
        let period = own.wait.map_or(Duration::ZERO, |wait| wait.0);
        if period > WAIT_MAX && wait.is_given() {
            let finding = Diagnostic::error("nobody waits so long for an answer to a handshake");
            self.report(finding.at(wait.span(), "expected at most 1m"));
        } else if let Some(rate) = rate.filter(|_| wait.is_given()) {
            let waiting = f64::from(rate.count) * period.as_secs_f64() / rate.per.as_secs_f64();
            if waiting > WAITING_MAX && own.handshakes.is_none_or(|most| most == 0) {
                let message = format!("up to {waiting:.0} clients would wait for their turn");
                let finding = Diagnostic::error(message).at(wait.span(), "so long, at this rate");
                self.report(finding.help("`handshakes` bounds how many there are at a time"));
            }
        }
        if own.rate.is_some_and(|rate| rate.count == 0) && place.key("rate").is_given() {
            for key in ["burst", "wait"] {
                if place.key(key).is_given() {
                    let finding = Diagnostic::warning(format!("`{key}` has no effect"));
                    let finding = finding.at(place.key(key).key_span(), "of which rate?");
                    self.report(finding.also(place.key("rate").span(), "0 is no limit"));
                }
            }
        }
    }
}

/// The quotas of a route.
type Read = fn(&LimitsConfig) -> &QuotaConfig;
const QUOTAS: [(&str, Read); 3] = [
    ("per_address", |it| &it.per_address),
    ("per_identity", |it| &it.per_identity),
    ("total", |it| &it.total),
];

/// Clients give up by then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Some hundreds of MB, when all of them do.
const WAITING_MAX: f64 = 100_000.0;
