//! In the place of `thread` in a build without the feature `acme`: no plan of such a build wants
//! anything of an authority.

use std::sync::Arc;

use super::metrics::AcmeMetrics;
use crate::plan::acme::AcmePlan;

/// Nothing is ever kept.
#[derive(Debug)]
pub enum Acme {}

impl Acme {
    pub fn start(_: Option<AcmePlan>, _: &Arc<AcmeMetrics>) -> anyhow::Result<Option<Self>> {
        Ok(None)
    }
}
