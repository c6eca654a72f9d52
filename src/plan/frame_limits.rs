//! Limits on what passes through tunnels: that they can be meant, and that something is held to
//! them.

use tidewire_edge::limits::LimitsConfig;
use tidewire_edge::limits::frame::FrameLimitsConfig;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

impl<'c> Checks<'c> {
    /// Looks at one table of limits, that of all routes or that of one.
    pub(super) fn frame_limits(&mut self, limits: &LimitsConfig, place: Place<'c>) {
        for (key, period) in [("lifetime", limits.lifetime), ("stall", limits.stall)] {
            if let Some(period) = period {
                self.period_or_zero(key, period, place.key(key));
            }
        }
        self.sender_limits(&limits.client, place.key("client"));
        self.sender_limits(&limits.server, place.key("server"));
    }

    fn sender_limits(&mut self, limits: &FrameLimitsConfig, place: Place<'c>) {
        let frame = place.key("max_frame");
        if let (Some(most), Some(message)) = (limits.max_frame, limits.max_message)
            && 0 < message.0
            && message.0 < most.0
            && frame.is_given()
        {
            let finding = Diagnostic::warning("`max_frame` is more than `max_message`")
                .at(frame.span(), "no frame can be that big")
                .also(place.key("max_message").span(), "no message may be bigger than this");
            self.report(finding);
        }
        let opcodes = place.key("opcodes");
        if limits.opcodes.as_ref().is_some_and(Vec::is_empty) && opcodes.is_whole() {
            let finding = Diagnostic::error("`opcodes` is empty: no message would pass");
            let expected = "expected `\"text\"`, `\"binary\"` or both";
            self.report(finding.at(opcodes.span(), expected));
        }
    }

    /// Limits on WebSockets have no use on a route that has none.
    pub(super) fn limits_without_websockets(&mut self, route: &RouteConfig, place: Place<'c>) {
        let is_endpoint = route.backend.is_some() || route.hub.is_some();
        let has_target = is_endpoint
            || route.static_files.is_some()
            || route.redirect.is_some()
            || route.respond.is_some();
        if !has_target || is_endpoint && route.websocket != Some(false) {
            return;
        }
        for key in ["client", "server", "compression", "lifetime", "stall"] {
            let place = place.key("limits").key(key);
            if place.is_given() {
                let message = format!("`limits.{key}` on a route without WebSockets");
                let finding = Diagnostic::warning(message);
                self.report(finding.at(place.key_span(), "nothing is held to this"));
            }
        }
    }
}
