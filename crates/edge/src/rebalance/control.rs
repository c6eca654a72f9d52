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
use crate::weight::SCALE;

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
        let has_first = listed.iter().any(|it| !it.is_backup() && takes_newcomers(it));
        let takes = |server: &Server| takes_newcomers(server) && !(server.is_backup() && has_first);
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
                server.maxconn().map_or(u64::MAX, |most| most.saturating_sub(server.current()));
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            // What balances does the same: of a server that starts slowly, no more is asked.
            let weight = server.weight.effective(std::time::Instant::now);
            Role::Takes { weight, full: server.weight.full() * SCALE, room }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::decision::Why;
    use super::*;
    use crate::server_state::{Health, Operator};
    use crate::timeout::Timeouts;

    /// A backend of servers that are named `a` and so on, and are what is said of each.
    fn backend(servers: &[Value], more: Value) -> Arc<Backend> {
        let server = |(index, said): (usize, &Value)| {
            let name = char::from(b'a' + index as u8).to_string();
            let mut server = json!({ "name": name, "address": "127.0.0.1:1" });
            server.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            server
        };
        let servers: Vec<Value> = servers.iter().enumerate().map(server).collect();
        let mut config = json!({ "name": "nodes", "server": servers });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = serde_json::from_value(config).unwrap();
        Arc::new(Backend::new(0, &config, &Timeouts::default()))
    }

    fn roles(backend: &Backend) -> Vec<Role> {
        Known::default().look(backend).into_iter().map(|standing| standing.role).collect()
    }

    const TAKES: Role = Role::Takes { weight: SCALE, full: SCALE, room: u32::MAX };

    #[test]
    fn a_server_gives_clients_up_or_takes_them_as_its_state_says() {
        let states = |more| {
            let drain = json!({ "state": "drain" });
            let maintenance = json!({ "state": "maintenance" });
            let ready = || json!({});
            let backend = backend(&[ready(), drain, maintenance, ready(), ready()], more);
            let servers = backend.servers();
            backend.learn(&servers[3], |facts| facts.health = Health::Down("ill".into()));
            backend.learn(&servers[4], |facts| facts.ejected = Some("5 failures".into()));
            roles(&backend)
        };
        use Role::{Empties, IsDown, Keeps};
        assert_eq!(states(json!({ "rebalance": {} })), [TAKES, Empties, Keeps, Keeps, Keeps]);
        let stays = json!({ "rebalance": { "drain": false } });
        assert_eq!(states(stays), [TAKES, Keeps, Keeps, Keeps, Keeps]);
        let closes = json!({ "on_down": "close" });
        assert_eq!(states(closes), [TAKES, Keeps, IsDown, IsDown, Keeps]);
    }

    #[test]
    fn a_backup_keeps_no_client_that_another_server_may_have() {
        let backend = backend(&[json!({}), json!({ "backup": true })], json!({ "rebalance": {} }));
        assert_eq!(roles(&backend), [TAKES, Role::Empties]);
        let first = Arc::clone(&backend.servers()[0]);
        backend.set_operator(&first, Operator::Drain);
        assert_eq!(roles(&backend), [Role::Empties, TAKES]);
    }

    #[test]
    fn a_server_gets_no_more_of_the_others_clients_than_it_has_room_for() {
        let backend = backend(&[json!({ "maxconn": 3, "weight": 7 })], json!({ "rebalance": {} }));
        let server = Arc::clone(&backend.servers()[0]);
        let room = || match roles(&backend)[..] {
            [Role::Takes { weight, full, room }] if weight == 7 * SCALE && full == weight => room,
            ref other => panic!("{other:?}"),
        };
        assert_eq!(room(), 3);
        (0..2).for_each(|_| server.take());
        assert_eq!(room(), 1);
        // Those that stick to it, or its operator, may have brought it above.
        (0..2).for_each(|_| server.take());
        assert_eq!(room(), 0);
    }

    #[test]
    fn a_server_that_starts_slowly_is_to_have_no_more_than_it_is_given() {
        let more = json!({ "rebalance": {}, "slowstart": "1h" });
        let backend = backend(&[json!({}), json!({ "state": "maintenance" })], more);
        let late = Arc::clone(&backend.servers()[1]);
        backend.set_operator(&late, Operator::Ready);
        let begins = Role::Takes { weight: 1, full: SCALE, room: u32::MAX };
        assert_eq!(roles(&backend), [TAKES, begins]);
    }

    #[test]
    fn the_clients_of_a_server_that_is_down_need_not_have_been_there_for_long() {
        let rebalance = json!({ "rebalance": { "min_age": "60s", "order": "oldest" } });
        let backend = backend(&[json!({}), json!({ "state": "maintenance" })], rebalance);
        let mut known = Known::default();
        known.look(&backend);
        let whom = |index| {
            let quota = Quota { index, why: Why::Rebalance, most: 1 };
            known.order(&backend.moving, &quota).whom
        };
        let min_age = ticks(Duration::from_secs(60));
        assert_eq!(whom(0), Whom { order: groups::Order::Oldest, min_age });
        assert_eq!(whom(1), Whom { order: groups::Order::Oldest, min_age: 0 });
    }

    #[test]
    fn a_server_that_is_gone_is_forgotten_when_it_is_empty() {
        let backend = backend(&[json!({}), json!({})], json!({ "rebalance": {} }));
        let mut known = Known::default();
        assert_eq!(known.look(&backend).len(), 2);
        backend.set_servers(&[]);
        assert_eq!(known.look(&backend), []);
    }
}
