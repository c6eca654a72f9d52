//! Limits: what holds on a route, and that it can.

use tidewire_edge::limits::Limits;

use super::Checks;
use crate::config::Config;
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
        Limits::resolve(&route.limits, &config.limits)
    }
}
