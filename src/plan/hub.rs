//! The hub: that its values go together, and that routes lead to it when it is there.

use tidewire_hub::config::{HubConfig, HubConfigFault};

use super::Checks;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

impl Checks<'_> {
    pub(super) fn hub(&mut self, config: &Config) {
        let place = self.place.key("hub");
        let faults = config.hub.as_ref().map_or_else(Vec::new, HubConfig::faults);
        for fault in faults.iter().filter(|fault| place.key(fault.key()).is_whole()) {
            let is_shown = !place.has_environment();
            let message = match fault {
                // The other faults do not say what the values are.
                HubConfigFault::Queue { .. } if !is_shown => {
                    "`queue` is smaller than `max_message`".to_owned()
                }
                fault => fault.to_string(),
            };
            let (wrong, right) = message.split_once("; ").unwrap_or((&message, ""));
            self.report(Diagnostic::error(wrong).at(place.key(fault.key()).span(), right));
        }
        // Nodes tell each other by it who is revoked, also those that have no clients of their own.
        let has_auth = !config.auth.is_empty();
        let has_route = has_auth || config.route.iter().any(|route| route.hub.is_some());
        if config.hub.is_some()
            && place.is_given()
            && !has_route
            && self.place.key("route").is_whole()
        {
            let finding = Diagnostic::warning("no route leads to the hub");
            let help = "such as a `[[route]]` with `path = \"/ws/{topic}\"` and \
                        `hub = { topic = \"{topic}\" }`";
            self.report(finding.at(place.span(), "nobody can reach it").help(help));
        }
    }
}
