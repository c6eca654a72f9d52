//! Lengths of time that would end everything at once, or never.

use std::time::Duration;

use tidewire_runtime::units::Period;

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl Checks<'_> {
    pub(super) fn timeouts(&mut self, config: &Config) {
        let t = &config.timeout;
        let place = self.place.key("timeout");
        for (key, period) in [
            ("connect", t.connect),
            ("client", t.client),
            ("server", t.server),
            ("tunnel", t.tunnel),
            ("client_hs", t.client_hs),
            ("http_request", t.http_request),
            ("http_keep_alive", t.http_keep_alive),
            ("queue", t.queue),
            ("client_fin", t.client_fin),
            ("server_fin", t.server_fin),
        ] {
            self.period(key, period, named(place, key));
        }
        let drain = self.place.key("drain").key("deadline");
        if config.drain.deadline.0 > LONGEST {
            self.too_long("deadline", drain);
        }
    }

    /// Reports a length of time that is zero or without end.
    pub(super) fn period(&mut self, key: &str, period: Period, place: Place<'_>) {
        if !place.is_given() {
            return;
        }
        if period.0.is_zero() {
            let finding = Diagnostic::error(format!("`{key}` is zero: it would pass at once"));
            self.report(finding.at(place.span(), "expected more, such as \"5s\""));
        } else if period.0 > LONGEST {
            self.too_long(key, place);
        }
    }

    /// Reports a length of time without end, for a key whose zero is never.
    pub(super) fn period_or_zero(&mut self, key: &str, period: Period, place: Place<'_>) {
        if period.0 > LONGEST {
            self.too_long(key, place);
        }
    }

    fn too_long(&mut self, key: &str, place: Place<'_>) {
        if place.is_given() {
            let finding = Diagnostic::error(format!("`{key}` is longer than a year"));
            self.report(finding.at(place.span(), "expected at most \"365d\""));
        }
    }
}

/// The place of a timeout, under its name or under HAProxy's.
fn named<'t>(place: Place<'t>, key: &str) -> Place<'t> {
    let ours = place.key(key);
    if ours.is_given() { ours } else { place.key(&key.replace('_', "-")) }
}

/// Beyond it, a sum of a time and a period may not be a time any more.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
