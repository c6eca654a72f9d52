//! Limits: what holds on a route or a listener, and that it can.

use std::time::Duration;

use tidewire_edge::limits::Limits;
use tidewire_edge::limits::LimitsConfig;
use tidewire_edge::limits::quota::{Quota, QuotaConfig, Quotas};

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
        let resolved = Limits::resolve(&route.limits, &config.limits);
        let place_of_limits = place.key("limits");
        let all = [resolved.quotas];
        self.quotas_of(&route.limits, Some(&config.limits), &all, place_of_limits);
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
        resolved
    }

    /// The limits of all routes.
    pub(super) fn general_limits(&mut self, config: &Config) {
        let place = self.place.key("limits");
        self.frame_limits(&config.limits, place);
        let of_route = |route: &RouteConfig| Limits::resolve(&route.limits, &config.limits).quotas;
        let quotas: Vec<Quotas> = config.route.iter().map(of_route).collect();
        self.quotas_of(&config.limits, None, &quotas, place);
    }

    /// What a listener counts.
    pub(super) fn listener_quotas(
        &mut self,
        listener: &ListenConfig,
        place: Place<'c>,
        config: &Config,
    ) -> Quotas {
        let (place, limits) = (place.key("limits"), &listener.limits);
        let quotas = Quotas::of_listener(limits, (config.limits.profile, config.limits.max_known));
        for (key, quota, resolved) in [
            ("per_address", &limits.per_address, &quotas.per_address),
            ("total", &limits.total, &quotas.total),
        ] {
            let is_paced = resolved.arrivals.is_some();
            self.quota(&QuotaConfig::from(quota), None, is_paced, place.key(key));
        }
        quotas
    }

    /// `resolved` is what holds on each route that `own` is for.
    fn quotas_of(
        &mut self,
        own: &LimitsConfig,
        general: Option<&LimitsConfig>,
        resolved: &[Quotas],
        place: Place<'c>,
    ) {
        for (key, read, of) in QUOTAS {
            let is_paced = resolved.iter().any(|quotas| of(quotas).arrivals.is_some());
            self.quota(read(own), general.map(read), is_paced, place.key(key));
        }
    }

    /// `is_paced` says whether there is a rate, this one or another, that its other keys are for.
    fn quota(
        &mut self,
        own: &QuotaConfig,
        general: Option<&QuotaConfig>,
        is_paced: bool,
        place: Place<'c>,
    ) {
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
        if !is_paced {
            self.without_rate(own, place);
        }
    }

    /// What is of a rate, where there is none.
    fn without_rate(&mut self, own: &QuotaConfig, place: Place<'c>) {
        let waits = own.wait.is_some_and(|wait| !wait.0.is_zero());
        for (key, is_set) in [("burst", own.burst.is_some()), ("wait", waits)] {
            if !is_set || !place.key(key).is_given() || !place.key("rate").is_whole() {
                continue;
            }
            let finding = Diagnostic::warning(format!("`{key}` has no effect"));
            let finding = finding.at(place.key(key).key_span(), "of which rate?");
            self.report(match place.key("rate").is_given() {
                true => finding.also(place.key("rate").span(), "0 is no limit"),
                false => finding.help("`rate` says how often somebody may come"),
            });
        }
    }
}

/// The quotas of a route.
type Read = fn(&LimitsConfig) -> &QuotaConfig;
type Resolved = fn(&Quotas) -> &Quota;
const QUOTAS: [(&str, Read, Resolved); 3] = [
    ("per_address", |it| &it.per_address, |it| &it.per_address),
    ("per_identity", |it| &it.per_identity, |it| &it.per_identity),
    ("total", |it| &it.total, |it| &it.total),
];

/// Clients give up by then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Some hundreds of MB, when all of them do.
const WAITING_MAX: f64 = 100_000.0;
