//! Servers that are found: that it is said where, and that a file of them can be read.

use tidewire_edge::discovery::Discovery;
use tidewire_edge::discovery::config::DiscoveryConfig;
use tidewire_edge::discovery::file::{Certificates, ServerFileError};

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// How the servers of a backend are found, by the table at `place`.
    pub(super) fn discovery(
        &mut self,
        config: &DiscoveryConfig,
        certificates: Certificates,
        place: Place<'c>,
    ) -> Option<Discovery> {
        self.discovery_periods(config, place);
        self.one_source(place);
        if config.max == 0 && place.key("max").is_given() {
            let finding = Diagnostic::error("`max` is 0: no server is taken");
            self.report(finding.at(place.key("max").span(), "expected at least 1"));
        }
        let is_file = place.key("file").is_given();
        let unused: &[(&str, &str)] = match (is_file, place.key("srv").is_given()) {
            (true, _) => &[
                ("nameserver", "a file is read, nobody is asked"),
                ("min_interval", "a file is looked at every 10 s, and at SIGHUP"),
                ("max_interval", "a file is looked at every 10 s, and at SIGHUP"),
                ("hold", "a file that is wrong or gone changes nothing"),
                ("weight", "the servers of a file say it themselves"),
                ("check", "the servers of a file say it themselves"),
                ("maxconn", "the servers of a file say it themselves"),
            ],
            (false, true) => &[("weight", "SRV records say it themselves")],
            (false, false) => &[],
        };
        for (key, why) in unused.iter().filter(|(key, _)| place.key(key).is_given()) {
            let finding = Diagnostic::warning(format!("`{key}` is not used: {why}"));
            self.report(finding.at(place.key(key).key_span(), "leave it out"));
        }
        match Discovery::prepare(config, self.dir, certificates) {
            Ok(discovery) => discovery,
            Err(error) => {
                self.server_file(&error, place.key("file"));
                None
            }
        }
    }

    fn one_source(&mut self, place: Place<'_>) {
        let given: Vec<&str> =
            SOURCES.iter().copied().filter(|key| place.key(key).is_given()).collect();
        match given.as_slice() {
            [_] => {}
            [] if place.is_whole() => {
                let finding = Diagnostic::error("it is not said where servers are found");
                let expected = "expected one of `dns`, `srv` and `file`";
                let help = "such as discovery = { dns = \"nodes.internal:3000\" }";
                self.report(finding.at(place.span(), expected).help(help));
            }
            [] => {}
            [first, second, ..] => {
                let message = format!("servers are found by `{first}` and by `{second}`");
                let finding = Diagnostic::error(message);
                let finding = finding.at(place.key(second).key_span(), "the second one");
                let finding = finding.also(place.key(first).key_span(), "the first one");
                self.report(finding.help("keep one; two backends can have a route each"));
            }
        }
    }

    fn discovery_periods(&mut self, config: &DiscoveryConfig, place: Place<'_>) {
        let periods = [
            ("timeout", config.timeout),
            ("min_interval", config.min_interval),
            ("max_interval", config.max_interval),
        ];
        for (key, period) in periods {
            self.period(key, period, place.key(key));
        }
        if config.min_interval > config.max_interval && place.is_whole() {
            let (least, most) = (place.key("min_interval"), place.key("max_interval"));
            let at = if least.is_given() { least } else { most };
            let message = format!(
                "`min_interval` ({}) is longer than `max_interval` ({})",
                config.min_interval, config.max_interval
            );
            self.report(Diagnostic::error(message).at(at.span(), "no time lies between them"));
        }
    }

    fn server_file(&mut self, error: &ServerFileError, place: Place<'_>) {
        let shown = place.shown();
        let expected = "expected a file with a [[server]] table for each server";
        let finding = Diagnostic::error(format!("`file`: `{shown}`: {error}"));
        let at = match error {
            ServerFileError::Read(_) | ServerFileError::NotText => expected,
            ServerFileError::Wrong(_)
            | ServerFileError::NoName(_)
            | ServerFileError::Weight(..)
            | ServerFileError::SameName(_)
            | ServerFileError::TooLong(_)
            | ServerFileError::NoCertificateName(_) => "in this file",
        };
        self.report(finding.at(place.span(), at));
    }
}

/// The keys that say where servers are found.
const SOURCES: [&str; 3] = ["dns", "srv", "file"];
