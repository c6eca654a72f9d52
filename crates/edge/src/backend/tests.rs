//! A backend's servers, its queue, and who gets what.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};

use super::*;
use crate::server_state::{NOT_PROBED, Operator, State};
use crate::weight::SCALE;

fn servers(servers: Value) -> Vec<ServerConfig> {
    let mut servers = servers;
    for (port, server) in servers.as_array_mut().unwrap().iter_mut().enumerate() {
        let name = server["name"].as_str().unwrap_or_default();
        let address = format!("127.0.0.1:{}", name.bytes().next().unwrap_or(port as u8));
        server["address"] = address.into();
    }
    serde_json::from_value(servers).unwrap()
}

fn backend_with(list: Value, more: Value) -> Arc<Backend> {
    let mut config = json!({ "name": "nodes", "server": servers(list) });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = serde_json::from_value(config).unwrap();
    // Whoever is held up, nobody waits for so long.
    let timeouts = Timeouts { queue: Period::from_secs(60), ..Timeouts::default() };
    Arc::new(Backend::new(0, &config, &timeouts))
}

fn backend(list: Value) -> Arc<Backend> {
    backend_with(list, json!({}))
}

fn abc() -> Value {
    json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }])
}

fn server(backend: &Backend, name: &str) -> Arc<Server> {
    let servers = backend.servers();
    Arc::clone(servers.iter().find(|server| server.name == name).expect("it is there"))
}

fn set_up(backend: &Arc<Backend>, server: &Server, is_up: bool) {
    let health = if is_up { Health::Up } else { Health::Down("it is said so".into()) };
    backend.learn(server, |facts| facts.health = health);
}

fn stuck_to(server: ServerId) -> Caller {
    let mut caller = Caller::edge();
    caller.preference.stuck = Some(server);
    caller
}

/// The answer to a client, if it has one at once.
fn at_once(
    backend: &Arc<Backend>,
    caller: &Caller,
    tried: &[ServerId],
) -> Option<Result<Lease, NoServer>> {
    match pin!(backend.lease(caller, tried)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lease) => Some(lease),
        Poll::Pending => None,
    }
}

/// The server of a client that leaves again, or why it has none; `-` when it has to wait.
fn visit(backend: &Arc<Backend>, caller: &Caller, tried: &[ServerId]) -> String {
    match at_once(backend, caller, tried) {
        Some(Ok(lease)) => lease.server().name.clone(),
        Some(Err(error)) => error.to_string(),
        None => "-".to_owned(),
    }
}

fn lease(backend: &Arc<Backend>) -> Lease {
    at_once(backend, &Caller::edge(), &[]).expect("at once").expect("there is room")
}

/// A client that waits, in the background.
fn waits(
    backend: &Arc<Backend>,
    caller: Caller,
) -> tokio::task::JoinHandle<Result<Lease, NoServer>> {
    let backend = Arc::clone(backend);
    tokio::spawn(async move { backend.lease(&caller, &[]).await })
}

async fn until_queued(backend: &Backend, clients: u32) {
    for _ in 0..1_000_000 {
        if backend.queued() == clients {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} wait, not {clients}", backend.queued());
}

#[tokio::test]
async fn leases_take_turns_and_pass_over_what_is_down_or_tried() {
    let backend = backend(abc());
    let [a, b, c] = ["a", "b", "c"].map(|name| server(&backend, name));
    let edge = Caller::edge();
    assert_eq!(visit(&backend, &edge, &[]), "a");
    assert_eq!(visit(&backend, &edge, &[b.id]), "c");
    set_up(&backend, &a, false);
    set_up(&backend, &c, false);
    assert_eq!(visit(&backend, &edge, &[]), "b");
    assert_eq!(visit(&backend, &edge, &[b.id]), "b", "there is no other");
    set_up(&backend, &b, false);
    assert_eq!(visit(&backend, &edge, &[]), NoServer::NoneUp.to_string());
}

#[tokio::test]
async fn a_backup_gets_clients_when_no_other_is_up() {
    let list = json!([{ "name": "a", "maxconn": 1 }, { "name": "b", "backup": true },
                      { "name": "c", "backup": true }, { "name": "z", "weight": 0 }]);
    let backend = backend(list);
    let edge = Caller::edge();
    let a = server(&backend, "a");
    assert_eq!(visit(&backend, &edge, &[]), "a");
    assert_eq!(visit(&backend, &edge, &[a.id]), "b", "the other could not be connected to");
    let held = lease(&backend);
    assert_eq!(visit(&backend, &edge, &[]), "-", "it is full, not down");
    drop(held);
    set_up(&backend, &a, false);
    assert_eq!(visit(&backend, &edge, &[]), "c", "all backups take turns");
    assert_eq!(visit(&backend, &edge, &[]), "b");
    set_up(&backend, &a, true);
    assert_eq!(visit(&backend, &edge, &[]), "a");
}

#[tokio::test]
async fn a_lease_is_counted_until_it_is_dropped() {
    let backend = backend(json!([{ "name": "a" }]));
    let lease = lease(&backend);
    assert_eq!(backend.servers()[0].current(), 1);
    drop(lease);
    assert_eq!(backend.servers()[0].current(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_backend_queues_up_to_its_bound_and_its_timeout() {
    let backend = backend_with(json!([{ "name": "a", "maxconn": 1 }]), json!({ "queue": 1 }));
    let held = lease(&backend);
    let waiting = waits(&backend, Caller::edge());
    until_queued(&backend, 1).await;
    assert_eq!(visit(&backend, &Caller::edge(), &[]), NoServer::QueueFull.to_string());
    assert_eq!(backend.queued(), 1, "who is refused leaves the queue as it was");
    drop(held);
    let held = waiting.await.unwrap().unwrap();
    let late = backend.lease(&Caller::edge(), &[]).await;
    assert_eq!(late.unwrap_err(), NoServer::QueueTimeout);
    assert_eq!(backend.queued(), 0);
    assert_eq!(backend.counts.waits.load(Ordering::Relaxed), 2);
    drop(held);
    assert_eq!(backend.servers()[0].current(), 0);
}

#[tokio::test]
async fn who_comes_first_is_served_first() {
    let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
    let held = lease(&backend);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for number in 0..5 {
        let (backend, order) = (Arc::clone(&backend), Arc::clone(&order));
        clients.push(tokio::spawn(async move {
            let lease = backend.lease(&Caller::edge(), &[]).await.unwrap();
            order.lock().unwrap().push(number);
            drop(lease);
        }));
        until_queued(held.backend(), number + 1).await;
    }
    // The one in the middle leaves.
    clients[2].abort();
    until_queued(held.backend(), 4).await;
    drop(held);
    for client in clients {
        let _ = client.await;
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
}

#[tokio::test]
async fn room_that_has_just_come_free_is_not_for_who_comes_just_then() {
    let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
    let held = lease(&backend);
    let waiting = waits(&backend, Caller::edge());
    until_queued(&backend, 1).await;
    // As on a worker that has given it back, and has not looked yet who waits.
    held.server().give_back();
    assert_eq!(visit(&backend, &Caller::edge(), &[]), "-");
    held.server().take();
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap().server().name, "a");
    assert_eq!(backend.servers()[0].current(), 0);
}

#[tokio::test]
async fn who_waits_for_any_server_does_not_hold_up_who_could_get_a_backup() {
    let list = json!([{ "name": "a", "maxconn": 1 },
                      { "name": "b", "maxconn": 1, "backup": true }]);
    let backend = backend(list);
    let a = server(&backend, "a").id;
    let of_a = lease(&backend);
    let of_b = at_once(&backend, &Caller::edge(), &[a]).unwrap().unwrap();
    let first = waits(&backend, Caller::edge());
    until_queued(&backend, 1).await;
    let another = Arc::clone(&backend);
    let second = tokio::spawn(async move { another.lease(&Caller::edge(), &[a]).await });
    until_queued(&backend, 2).await;
    drop(of_b);
    assert_eq!(second.await.unwrap().unwrap().server().name, "b");
    drop(of_a);
    assert_eq!(first.await.unwrap().unwrap().server().name, "a");
}

#[tokio::test]
async fn who_has_tried_some_gets_no_backup_because_others_are_full() {
    let list = json!([{ "name": "a", "maxconn": 1 }, { "name": "c" },
                      { "name": "b", "backup": true }]);
    let backend = backend(list);
    let [a, b, c] = ["a", "b", "c"].map(|name| server(&backend, name));
    let edge = Caller::edge();
    let held = lease(&backend);
    assert_eq!(held.server().name, "a");
    assert_eq!(visit(&backend, &edge, &[c.id]), "c", "it is tried again before a backup");
    set_up(&backend, &c, false);
    assert_eq!(visit(&backend, &edge, &[a.id, b.id]), "-", "it is full, not down");
}

#[tokio::test]
async fn servers_that_come_take_their_seats() {
    let backend = backend_with(abc(), json!({ "slowstart": "1h" }));
    assert_eq!(visit(&backend, &Caller::edge(), &[]), "a");
    backend.set_servers(&servers(json!([{ "name": "c" }, { "name": "b" }, { "name": "a" }])));
    let next = [(); 2].map(|()| visit(&backend, &Caller::edge(), &[])).concat();
    assert!(!next.contains('a'), "it had its turn: {next}");
    backend.set_servers(&servers(json!([{ "name": "d" }, { "name": "b" }, { "name": "a" }])));
    let d = server(&backend, "d");
    let token = backend.stick.token("d");
    assert_eq!(backend.server_of(token.as_str().as_bytes()), Some(d.id));
    assert_eq!(d.weight.effective(std::time::Instant::now), 1, "it starts slowly");
    let a = server(&backend, "a");
    assert_eq!(a.weight.effective(std::time::Instant::now), SCALE, "it was there");
}

#[tokio::test]
async fn whoever_leaves_with_a_lease_in_hand_passes_it_on() {
    let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
    let held = lease(&backend);
    let mut leaver = Box::pin(async { backend.lease(&Caller::edge(), &[]).await });
    assert!(leaver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let next = waits(&backend, Caller::edge());
    until_queued(&backend, 2).await;
    // Given to the first, who is gone before it looks.
    drop(held);
    drop(leaver);
    next.await.unwrap().unwrap();
    assert_eq!(backend.servers()[0].current(), 0);
}

#[tokio::test]
async fn who_waits_for_one_server_does_not_hold_up_the_others() {
    let list = json!([{ "name": "a", "maxconn": 1 }, { "name": "b", "maxconn": 1 }]);
    let backend = backend(list);
    let held = [lease(&backend), lease(&backend)];
    let a = server(&backend, "a");
    let stuck = waits(&backend, stuck_to(a.id));
    until_queued(&backend, 1).await;
    let any = waits(&backend, Caller::edge());
    until_queued(&backend, 2).await;
    let [of_a, of_b] = held;
    drop(of_b);
    assert_eq!(any.await.unwrap().unwrap().server().name, "b");
    assert_eq!(visit(&backend, &Caller::edge(), &[]), "b", "nobody waits for it");
    drop(of_a);
    assert_eq!(stuck.await.unwrap().unwrap().server().name, "a");
}

#[tokio::test]
async fn a_server_that_comes_up_serves_the_queue_and_one_that_goes_down_ends_it() {
    let backend = backend(json!([{ "name": "a", "maxconn": 1 }, { "name": "b" }]));
    let [a, b] = ["a", "b"].map(|name| server(&backend, name));
    set_up(&backend, &b, false);
    let held = lease(&backend);
    let waiting = waits(&backend, Caller::edge());
    until_queued(&backend, 1).await;
    set_up(&backend, &b, true);
    assert_eq!(waiting.await.unwrap().unwrap().server().name, "b");
    set_up(&backend, &b, false);
    let waiting = waits(&backend, Caller::edge());
    until_queued(&backend, 1).await;
    set_up(&backend, &a, false);
    assert_eq!(waiting.await.unwrap().unwrap_err(), NoServer::NoneUp);
    drop(held);
}

#[tokio::test]
async fn servers_that_stay_keep_their_clients_and_counters() {
    let backend = backend(abc());
    let held = [lease(&backend), lease(&backend), lease(&backend)];
    let [a, b] = ["a", "b"].map(|name| server(&backend, name));
    let list = json!([{ "name": "d" }, { "name": "b", "weight": 3 }]);
    let changed = backend.set_servers(&servers(list));
    let names = |servers: &[Arc<Server>]| {
        servers.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((names(&changed.added), names(&changed.removed)), ("d".into(), "a c".into()));
    assert!(Arc::ptr_eq(&b, &server(&backend, "b")));
    assert_eq!((b.current(), b.weight.full()), (1, 3));
    assert_eq!(a.current(), 1, "its client stays where it is");
    let mut said: Vec<String> = (0..8).map(|_| visit(&backend, &Caller::edge(), &[])).collect();
    said.sort();
    assert_eq!(said.concat(), "bbbbbbdd");
    drop(held);
    assert_eq!((a.current(), b.current()), (0, 0));
}

#[tokio::test]
async fn a_server_of_the_same_name_elsewhere_is_another() {
    let backend = backend(json!([{ "name": "a" }]));
    let before = server(&backend, "a");
    let mut moved = servers(json!([{ "name": "a" }]));
    moved[0].address = "127.0.0.1:9".parse().unwrap();
    backend.set_servers(&moved);
    assert_ne!(before.id, server(&backend, "a").id);
    let removed = backend.set_servers(&[]).removed;
    assert_eq!(removed.len(), 1);
    assert_eq!(visit(&backend, &Caller::edge(), &[]), NoServer::NoneUp.to_string());
}

#[tokio::test]
async fn what_is_written_anew_of_a_server_is_taken_over_and_it_stays_itself() {
    let backend = backend(json!([{ "name": "a", "check": true }, { "name": "b" }]));
    let [a, b] = ["a", "b"].map(|name| server(&backend, name));
    let list = |of_a: Value| {
        let mut a = json!({ "name": "a", "check": true });
        a.as_object_mut().unwrap().extend(of_a.as_object().unwrap().clone());
        servers(json!([a, { "name": "b" }]))
    };
    let held = lease(&backend);
    set_up(&backend, &a, false);
    backend.set_operator(&b, Operator::Maintenance);
    backend.set_weight(&a, 7);
    let edit = json!({ "maxconn": 5, "backup": true, "check_address": "127.0.0.1:9" });
    backend.set_servers(&list(edit));
    assert!(Arc::ptr_eq(&a, &server(&backend, "a")) && Arc::ptr_eq(&b, &server(&backend, "b")));
    assert_eq!((a.maxconn(), a.is_backup(), a.current()), (Some(5), true, 1));
    assert_eq!(a.check_address(), Some("127.0.0.1:9".parse().unwrap()));
    assert_eq!((a.status.state(), a.weight.full()), (State::Down, 7));
    assert_eq!(b.status.state(), State::Maintenance, "as it was set, nothing else is written");
    // What is written about the state itself goes before what was set.
    backend.set_servers(&list(json!({ "state": "drain" })));
    assert_eq!(a.status.facts().operator, Operator::Drain);
    backend.set_operator(&a, Operator::Ready);
    backend.set_servers(&list(json!({ "state": "drain", "check": false })));
    assert_eq!(a.status.state(), State::Up, "who is not probed is up");
    drop(held);
    assert_eq!(a.current(), 0);
}

#[tokio::test]
async fn a_server_that_was_away_comes_back_as_it_was() {
    let list = || servers(json!([{ "name": "a", "maxconn": 1, "check": true }, { "name": "b" }]));
    let backend = backend_with(json!([]), json!({ "slowstart": "1h" }));
    backend.start_with_servers(&list());
    let [a, b] = ["a", "b"].map(|name| server(&backend, name));
    let weight = |server: &Server| server.weight.effective(std::time::Instant::now);
    assert_eq!((weight(&a), weight(&b)), (SCALE, SCALE), "the edge itself has just started");
    let held = lease(&backend);
    assert_eq!(held.server().name, "a");
    backend.set_operator(&b, Operator::Maintenance);
    backend.set_servers(&[]);
    let changed = backend.set_servers(&list());
    assert_eq!(changed.added.len(), 2);
    assert!(Arc::ptr_eq(&a, &server(&backend, "a")) && Arc::ptr_eq(&b, &server(&backend, "b")));
    assert_eq!((a.status.state(), weight(&a)), (State::Up, SCALE), "its client is still there");
    assert_eq!(visit(&backend, &Caller::edge(), &[]), "-", "it is full and the other is away");
    assert_eq!(b.status.state(), State::Maintenance);
    drop(held);
    // Without a client, nobody knows whether it is what it was; but somebody has to take clients.
    backend.set_servers(&[]);
    backend.set_servers(&list());
    assert!(Arc::ptr_eq(&a, &server(&backend, "a")));
    assert_eq!((a.status.state(), weight(&a)), (State::Up, SCALE));
    backend.set_servers(&servers(json!([{ "name": "c" }])));
    backend.set_servers(&[&list()[..], &servers(json!([{ "name": "c" }]))].concat());
    assert!(Arc::ptr_eq(&a, &server(&backend, "a")));
    assert_eq!((a.status.state(), weight(&a)), (State::Down, 1));
}

#[tokio::test]
async fn a_checked_server_that_comes_gets_nobody_before_its_first_good_probe() {
    let backend = backend(json!([{ "name": "a" }]));
    let list = json!([{ "name": "a" }, { "name": "b", "check": true }, { "name": "c" }]);
    backend.set_servers(&servers(list));
    let b = server(&backend, "b");
    assert_eq!(b.status.facts().health, Health::Down(NOT_PROBED.to_owned()));
    let visits = [(); 4].map(|()| visit(&backend, &Caller::edge(), &[]));
    assert!(visits.iter().all(|name| name != "b"), "{visits:?}");
    backend.learn_why_down(&b, "refused".to_owned());
    assert_eq!(b.status.facts().health, Health::Down("refused".to_owned()));
    set_up(&backend, &b, true);
    let visits = [(); 3].map(|()| visit(&backend, &Caller::edge(), &[]));
    assert!(visits.iter().any(|name| name == "b"), "{visits:?}");
}

#[tokio::test]
async fn servers_may_change_while_clients_wait() {
    let backend = backend(json!([{ "name": "a", "maxconn": 1 }]));
    let held = lease(&backend);
    let a = server(&backend, "a");
    let stuck = waits(&backend, stuck_to(a.id));
    until_queued(&backend, 1).await;
    let any = waits(&backend, Caller::edge());
    until_queued(&backend, 2).await;
    backend.set_servers(&servers(json!([{ "name": "b" }])));
    // There is nothing left to stick to.
    assert_eq!(stuck.await.unwrap().unwrap().server().name, "b");
    assert_eq!(any.await.unwrap().unwrap().server().name, "b");
    drop(held);
    assert_eq!((a.current(), backend.queued()), (0, 0));
}

#[tokio::test]
async fn who_sticks_gets_its_server_while_it_is_there() {
    let list =
        json!([{ "name": "a" }, { "name": "b", "weight": 0 }, { "name": "c", "maxconn": 1 }]);
    let backend = backend(list);
    let [b, c] = ["b", "c"].map(|name| server(&backend, name));
    let stuck = |server: &Server| stuck_to(server.id);
    assert_eq!(visit(&backend, &stuck(&b), &[]), "b", "a weight is for newcomers");
    assert_eq!(visit(&backend, &stuck(&c), &[]), "c");
    assert_eq!(visit(&backend, &stuck(&c), &[c.id]), "a", "it could not be connected to");
    let held = at_once(&backend, &stuck(&c), &[]);
    assert_eq!(visit(&backend, &stuck(&c), &[]), "-", "it is waited for");
    drop(held);
    set_up(&backend, &c, false);
    assert_eq!(visit(&backend, &stuck(&c), &[]), "a");
    assert_eq!(c.counts.stuck.load(Ordering::Relaxed), 2);
    assert_eq!(backend.counts.unstuck.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_sticks_gets_its_server_while_it_drains_and_not_in_maintenance() {
    let backend = backend(abc());
    let b = server(&backend, "b");
    backend.set_operator(&b, Operator::Drain);
    assert_eq!(visit(&backend, &stuck_to(b.id), &[]), "b");
    let newcomers = [(); 4].map(|()| visit(&backend, &Caller::edge(), &[]));
    assert_eq!(newcomers.concat(), "acac");
    backend.set_operator(&b, Operator::Maintenance);
    assert_eq!(visit(&backend, &stuck_to(b.id), &[]), "a");
}

#[tokio::test]
async fn a_server_that_is_not_probed_is_up_when_its_maintenance_is_over() {
    let backend = backend(json!([{ "name": "a" }, { "name": "b", "check": true }]));
    let [a, b] = ["a", "b"].map(|name| server(&backend, name));
    for server in [&a, &b] {
        backend.set_operator(server, Operator::Maintenance);
        backend.set_operator(server, Operator::Ready);
    }
    assert_eq!((a.is_up(), b.is_up()), (true, false));
}

#[tokio::test]
async fn a_server_that_comes_up_starts_slowly_and_one_that_has_drained_does_not() {
    let backend = backend_with(abc(), json!({ "slowstart": "1h" }));
    let b = server(&backend, "b");
    let weight = || b.weight.effective(std::time::Instant::now);
    backend.set_operator(&b, Operator::Drain);
    backend.set_operator(&b, Operator::Ready);
    assert_eq!(weight(), SCALE);
    set_up(&backend, &b, false);
    set_up(&backend, &b, true);
    assert_eq!(weight(), 1);
}

#[tokio::test]
async fn a_backend_has_as_many_tunnels_as_it_may() {
    let backend = backend_with(json!([{ "name": "a" }]), json!({ "max_tunnels": 2 }));
    let handshake = backend.enter_tunnel().unwrap();
    let tunnel = backend.enter_tunnel().unwrap().hold(lease(&backend));
    assert_eq!(backend.enter_tunnel().unwrap_err(), NoServer::TunnelsFull);
    assert_eq!(server(&backend, "a").tunnels.load(Ordering::Relaxed), 1);
    drop(handshake);
    let another = backend.enter_tunnel().unwrap().hold(lease(&backend));
    assert_eq!(backend.enter_tunnel().unwrap_err(), NoServer::TunnelsFull);
    drop((tunnel, another));
    assert_eq!(backend.tunnels(), 0);
    let a = server(&backend, "a");
    assert_eq!((a.tunnels.load(Ordering::Relaxed), a.current()), (0, 0));
}

/// Threads take and give back, change states and servers, for as long as it takes.
#[test]
fn nobody_is_forgotten_and_no_server_is_overfull() {
    const CLIENTS: usize = 300;
    let list = json!([{ "name": "a", "maxconn": 2 }, { "name": "b", "maxconn": 1 }]);
    let backend = backend(list);
    let clients: Vec<_> = (0..4)
        .map(|seed| {
            let backend = Arc::clone(&backend);
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..CLIENTS {
                    let id = random.choice(&*backend.servers()).unwrap().id;
                    let caller = if random.bool() { stuck_to(id) } else { Caller::edge() };
                    runtime.block_on(async {
                        let client = backend.lease(&caller, &[]);
                        if random.u8(..) < 64 {
                            let _ = tokio::time::timeout(Duration::from_micros(20), client).await;
                            return;
                        }
                        let lease = client.await.expect("long before the timeout");
                        assert!(lease.server().current() <= lease.server().maxconn().unwrap());
                        for _ in 0..random.u8(0..3) {
                            tokio::task::yield_now().await;
                        }
                    });
                }
            })
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    while clients.iter().any(|client| !client.is_finished()) {
        let b = server(&backend, "b");
        set_up(&backend, &b, random.bool());
        std::thread::yield_now();
    }
    clients.into_iter().for_each(|client| client.join().expect("no client panics"));
    assert_eq!(backend.queued(), 0);
    assert!(backend.servers().iter().all(|server| server.current() == 0));
}
