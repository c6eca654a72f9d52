//! Who issues, and what all orders from it share.

use std::sync::Arc;

use super::config::AcmeConfig;
use super::metrics::AcmeMetrics;
use super::offer::Board;
use super::storage::Storage;

/// Who issues, and what all orders from it share.
#[derive(Clone, Debug)]
pub struct Authority {
    pub config: Arc<AcmeConfig>,
    pub storage: Storage,
    pub board: Arc<Board>,
    pub metrics: Arc<AcmeMetrics>,
}
