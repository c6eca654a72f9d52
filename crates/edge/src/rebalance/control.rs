//! Looks at the servers of a backend, asks the decision, and tells the workers.

use std::sync::Arc;
use std::time::Duration;

use tidewire_runtime::deadline::ticks;
use tidewire_runtime::groups::{self, Whom};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::decision::{Decision, News, Quota, Role, Standing, Terms};
use super::mover;
use super::{Moving, OnDown, Order};
use crate::backend::Backend;
use crate::choice::takes_newcomers;
use crate::server::Server;
use crate::server_state::State;

/// Starts what moves the clients of those `backends` where that is to be done.
pub fn spawn(backends: &[Arc<Backend>], control: &Handle) -> Vec<JoinHandle<()>> {
    let moving = backends.iter().filter(|backend| backend.moving.is_on());
    moving.map(|backend| control.spawn(run(Arc::clone(backend)))).collect()
}

async fn run(backend: Arc<Backend>) {
    let moving = &backend.moving;
    let mut decision = Decision::new(terms(moving));
    let mut known = Known::default();
    let start = Instant::now();
    loop {
        let standings = known.look(&backend);
        let (quotas, news) = decision.decide(start.elapsed(), &standings);
        news.into_iter().for_each(|news| tell(&backend, news));
        let is_busy = decision.is_busy() || !quotas.is_empty();
        if !quotas.is_empty() {
            let orders = quotas.iter().map(|quota| known.order(moving, quota)).collect();
            // There is nobody to hear it when the workers have ended.
            let _ = moving.orders.send(Arc::new(orders));
        }
        let wait = tokio::time::sleep(if is_busy { TICK } else { LOOK });
        tokio::select! {
            () = wait => {}
            () = moving.changed.notified(), if !is_busy => {}
        }
    }
}

/// The servers that there are, and those that are gone but not empty.
#[derive(Default)]
struct Known {
    servers: Vec<Arc<Server>>,
}

impl Known {
    fn look(&mut self, backend: &Backend) -> Vec<Standing> {
        let listed = backend.servers();
        let is_listed = |server: &Arc<Server>| listed.iter().any(|it| it.id == server.id);
        self.servers.retain(|server| !is_listed(server) && server.members.count() > 0);
        let gone = self.servers.len();
        self.servers.extend(listed.iter().map(Arc::clone));
        // Backups are for when there is nobody else, and are left when there is.
        let has_first = listed.iter().any(|it| !it.is_backup && takes_newcomers(it));
        let takes = |server: &Server| takes_newcomers(server) && !(server.is_backup && has_first);
        let standing = |(index, server): (usize, &Arc<Server>)| Standing {
            id: server.id.number(),
            role: role(&backend.moving, server, index >= gone && takes(server)),
            members: server.members.count(),
        };
        self.servers.iter().enumerate().map(standing).collect()
    }

    fn order(&self, moving: &Moving, quota: &Quota) -> mover::Order {
        let server = &self.servers[quota.index];
        let rebalance = moving.rebalance.as_ref();
        let order = match rebalance.map_or(Order::Random, |it| it.order) {
            Order::Random => groups::Order::Random,
            Order::Oldest => groups::Order::Oldest,
        };
        // Who is at a server that is down need not be there for long first.
        let min_age = match server.status.state().is_down() {
            true => 0,
            false => rebalance.map_or(0, |it| ticks(it.min_age.0)),
        };
        let whom = Whom { order, min_age };
        mover::Order::new(server.id, quota.why, whom, quota.most, server.members.count())
    }
}

fn role(moving: &Moving, server: &Server, takes: bool) -> Role {
    let state = server.status.state();
    let may_empty = moving.rebalance.as_ref().is_some_and(|it| it.drain);
    match state {
        _ if state.is_down() && moving.on_down == OnDown::Close => Role::IsDown,
        _ if state.is_down() || state == State::Ejected => Role::Keeps,
        _ if takes => {
            let room =
                server.maxconn.map_or(u64::MAX, |most| most.saturating_sub(server.current()));
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            Role::Takes { weight: server.weight.full(), room }
        }
        _ if may_empty => Role::Empties,
        _ => Role::Keeps,
    }
}

fn terms(moving: &Moving) -> Terms {
    let rebalance = moving.rebalance.as_ref();
    Terms {
        band: rebalance.map(|it| it.band.factor()),
        delay: rebalance.map_or(Duration::ZERO, |it| it.delay.0),
        rate: moving.rate(),
        tick: TICK,
    }
}

fn tell(backend: &Backend, news: News) {
    let backend = &backend.name;
    match news {
        News::Begun => info!(backend, "rebalancing begins"),
        News::Over(moved) => info!(backend, moved, "rebalancing is over"),
        News::Futile(moved) => warn!(
            backend,
            moved,
            "rebalancing does not help, as clients come back to the servers that they had; it is \
             given up until servers come or go"
        ),
    }
}

/// How often while there is something to do, and otherwise.
const TICK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(1);
