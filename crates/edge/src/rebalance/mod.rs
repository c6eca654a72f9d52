//! Moving clients from one server to another: what WebSockets do not do by themselves.
//!
//! ```text
//!   control: counts and states of servers ─> decision: who may go now ─> Round of orders
//!   each worker: its part of each order ─> a tunnel hears it ─> Close 1012 between two frames
//!   the client comes again, and is balanced as any client
//! ```
//!
//! A server that has more than its share gives clients up, one that drains all of them, and one
//! that is down too if `on_down` says so; at a rate that holds for all workers together.

pub mod control;
pub mod decision;
pub(crate) mod mover;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::percent::Percent;
use tidewire_runtime::rate::Rate;
use tidewire_runtime::units::Period;
use tokio::sync::{Notify, watch};

use self::mover::Round;

/// Moves clients of servers that have more than their share to the others, and those of servers
/// that drain: each gets a Close 1012 between two frames, and comes again. Not done by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RebalanceConfig {
    /// How far the tunnels of any two servers, each for its weight, may be apart before clients are
    /// moved.
    pub band: Percent,
    /// How many clients are moved, at most, over all workers.
    pub rate: Rate,
    /// How long it has to be so before the first is moved, and again when servers come or go: a
    /// server that is away for a moment is not to move everybody.
    pub delay: Period,
    /// Who has been there for less is not moved.
    pub min_age: Period,
    /// Who goes first.
    pub order: Order,
    /// Whether servers that drain, and those that are not listed any more, are emptied by it.
    pub drain: bool,
}

/// Which clients of a server are moved first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Any.
    #[default]
    Random,
    /// Rather those who have been there long: of a few taken by chance, the oldest.
    Oldest,
}

/// What happens to the clients of a server that is down or in maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay, as long as their connections do.
    #[default]
    Keep,
    /// They get a Close 1012 between two frames, as fast as `rebalance.rate` allows, or 100 in a
    /// second.
    Close,
}

impl Default for RebalanceConfig {
    fn default() -> Self {
        Self {
            band: Percent::whole(5),
            rate: DEFAULT_RATE,
            delay: Period::from_secs(30),
            min_age: Period::from_secs(60),
            order: Order::Random,
            drain: true,
        }
    }
}

/// What a backend needs to move clients.
#[derive(Debug)]
pub struct Moving {
    pub rebalance: Option<RebalanceConfig>,
    pub on_down: OnDown,
    pub counts: Moved,
    orders: watch::Sender<Arc<Round>>,
    /// Wakes the control when something has changed.
    changed: Notify,
}

/// How many clients were told to leave.
#[derive(Debug, Default)]
pub struct Moved {
    pub rebalance: AtomicU64,
    pub server_down: AtomicU64,
}

impl Moving {
    pub fn new(rebalance: Option<RebalanceConfig>, on_down: OnDown) -> Self {
        let orders = watch::Sender::new(Arc::default());
        let (counts, changed) = (Moved::default(), Notify::new());
        Self { rebalance, on_down, counts, orders, changed }
    }

    /// Whether clients are ever moved; those of other backends need not be known.
    pub fn is_on(&self) -> bool {
        self.rebalance.is_some() || self.on_down == OnDown::Close
    }

    /// A server has come, is gone, or is in another state.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }

    /// How many may go.
    pub fn rate(&self) -> Rate {
        self.rebalance.as_ref().map_or(DEFAULT_CLOSE_RATE, |it| it.rate)
    }
}

impl Moved {
    pub fn total(&self) -> u64 {
        self.rebalance.load(Ordering::Relaxed) + self.server_down.load(Ordering::Relaxed)
    }
}

const DEFAULT_RATE: Rate = Rate { count: 10, per: std::time::Duration::from_secs(1) };
const DEFAULT_CLOSE_RATE: Rate = Rate { count: 100, per: std::time::Duration::from_secs(1) };
