//! A worker's part in moving clients.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidewire_runtime::groups::Whom;
use tidewire_runtime::worker::Worker;

use super::decision::Why;
use crate::backend::Backend;
use crate::server::ServerId;

/// What all workers are told at once.
pub type Round = Vec<Order>;

/// So many clients of a server are to go.
#[derive(Debug)]
pub struct Order {
    pub server: ServerId,
    pub why: Why,
    pub whom: Whom,
    /// How many are to go, of how many that the server has over all workers.
    pub most: u32,
    pub of: u32,
    /// How many of `most` no worker has taken yet.
    left: AtomicU32,
}

impl Order {
    pub fn new(server: ServerId, why: Why, whom: Whom, most: u32, of: u32) -> Self {
        Self { server, why, whom, most, of, left: AtomicU32::new(most) }
    }

    /// What a worker with `own` of the server's clients takes of it: its part, rounded up, as far as
    /// the others have left it.
    fn claim(&self, own: usize) -> u32 {
        let part = (u64::from(self.most) * own as u64).div_ceil(u64::from(self.of.max(1)));
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let mut claimed = 0;
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            claimed = part.min(left);
            Some(left - claimed)
        });
        claimed
    }
}

/// Carries out what the control of `backend` says, for as long as the worker runs.
pub(crate) async fn obey(worker: Rc<Worker>, backend: Arc<Backend>) {
    let moving = &backend.moving;
    let mut orders = moving.orders.subscribe();
    while orders.changed().await.is_ok() {
        let round = Arc::clone(&orders.borrow_and_update());
        for order in round.iter() {
            let group = order.server.number();
            let claimed = order.claim(worker.group_len(group));
            let told = worker.tell_to_leave(group, claimed as usize, order.whom);
            let count = match order.why {
                Why::Rebalance => &moving.counts.rebalance,
                Why::ServerDown => &moving.counts.server_down,
            };
            count.fetch_add(told as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewire_runtime::groups;

    #[test]
    fn workers_take_their_parts_and_never_more_than_there_is() {
        let claims = |most, workers: &[usize]| -> Vec<u32> {
            let of = workers.iter().sum::<usize>() as u32;
            let whom = Whom { order: groups::Order::Random, min_age: 0 };
            let order = Order::new(ServerId::of(1), Why::Rebalance, whom, most, of);
            workers.iter().map(|&own| order.claim(own)).collect()
        };
        assert_eq!(claims(10, &[500, 500]), [5, 5]);
        assert_eq!(claims(10, &[900, 100]), [9, 1]);
        assert_eq!(claims(1, &[500, 500]), [1, 0]);
        assert_eq!(claims(3, &[1, 1, 1, 1]), [1, 1, 1, 0]);
        assert_eq!(claims(0, &[500]), [0]);
        assert_eq!(claims(5, &[0, 3]), [0, 5]);
    }
}
