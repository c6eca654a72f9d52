//! Every algorithm and every limit of a backend, with the real binary: who gets which server.
//!
//! The promises of HAProxy's reg-tests in `balance/` are among them: `balance-rr`, `balance-uri`,
//! `balance-uri-path-only` and the tests of hashes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{ask, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script::serves;
use tidewire_testkit::tidewire::{self, Tidewire};
use tidewire_testkit::websocket::{WebSocket, handshake};

/// Servers that say who they are.
fn servers<const N: usize>() -> [Backend; N] {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    std::array::from_fn(|index| Backend::start(serves(NAMES[index])))
}

/// An edge before servers of these names, addresses and further keys.
fn edge_of(servers: &[(&str, SocketAddr, &str)], more: &str) -> Tidewire {
    Tidewire::run(&tidewire::edge_of(servers, more))
}

/// An edge before `a`, `b` and so on, that balances so.
fn edge(servers: &[Backend], balance: &str) -> Tidewire {
    let names = ["a", "b", "c", "d", "e"].into_iter();
    let servers: Vec<_> =
        servers.iter().zip(names).map(|(server, name)| (name, server.address(), "")).collect();
    edge_of(&servers, &format!("balance = {balance:?}"))
}

fn open(edge: &Tidewire, path: &str) -> WebSocket {
    WebSocket::connect(edge.address(), path)
}

/// The WebSockets that each server carries.
fn tunnels<const N: usize>(edge: &Tidewire, names: [&str; N]) -> [u32; N] {
    let of = |name| edge.metric("edge_server_tunnels", &[&format!("server=\"{name}\"")]) as u32;
    names.map(of)
}

/// Waits until each server carries so many. Those that have ended are not counted any more for
/// whoever comes next either, which is a moment after they are no [`tunnels`].
#[track_caller]
fn wait_until_carried<const N: usize>(edge: &Tidewire, names: [&str; N], expected: [u32; N]) {
    let of = |name| edge.metric("edge_server_connections", &[&format!("server=\"{name}\"")]);
    until("the others are gone", || (names.map(|it| of(it) as u32) == expected).then_some(()));
}

/// Who answers a request with this line of head.
fn who(edge: &Tidewire, target: &str, line: &str) -> String {
    ask(edge.address(), &format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{line}\r\n")).text()
}

#[test]
fn servers_of_one_weight_take_turns() {
    let servers = servers::<4>();
    let edge = edge(&servers, "roundrobin");
    let round = || [(); 4].map(|()| who(&edge, "/url1", ""));
    let first = round();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 4, "{first:?}");
    assert_eq!([round(), round()], [first.clone(), first]);
}

#[test]
fn leastconn_has_a_server_that_lost_its_clients_catch_up() {
    let servers = servers::<2>();
    let edge = edge(&servers, "leastconn");
    let mut first: Vec<_> = (0..4).map(|_| open(&edge, "/ws")).collect();
    assert_eq!(tunnels(&edge, ["a", "b"]), [2, 2]);
    // Those of `a` end, for `b` to be ahead.
    first.remove(2);
    first.remove(0);
    wait_until_carried(&edge, ["a", "b"], [0, 2]);
    let _newcomers = [open(&edge, "/ws"), open(&edge, "/ws")];
    assert_eq!(tunnels(&edge, ["a", "b"]), [2, 2]);
}

#[test]
fn leastconn_goes_by_weight() {
    let [a, b] = servers::<2>();
    let list = [("a", a.address(), ", weight = 3"), ("b", b.address(), "")];
    let edge = edge_of(&list, "balance = \"leastconn\"");
    let _clients: Vec<_> = (0..12).map(|_| open(&edge, "/ws")).collect();
    assert_eq!(tunnels(&edge, ["a", "b"]), [9, 3]);
}

#[test]
fn random_keeps_the_servers_close_together() {
    let servers = servers::<3>();
    let edge = edge(&servers, "random");
    let _clients: Vec<_> = (0..60).map(|_| open(&edge, "/ws")).collect();
    let loads = tunnels(&edge, ["a", "b", "c"]);
    assert_eq!(loads.iter().sum::<u32>(), 60);
    // Drawn without a look at the load, one in a hundred runs would have 30 on one.
    assert!(loads.iter().all(|load| (15..=25).contains(load)), "{loads:?}");
}

#[test]
fn first_fills_one_server_after_the_other() {
    let [a, b, c] = servers::<3>();
    let list = [
        ("a", a.address(), ", maxconn = 2"),
        ("b", b.address(), ", maxconn = 2"),
        ("c", c.address(), ""),
    ];
    let edge = edge_of(&list, "balance = \"first\"");
    let mut clients: Vec<_> = (0..5).map(|_| open(&edge, "/ws")).collect();
    assert_eq!(tunnels(&edge, ["a", "b", "c"]), [2, 2, 1]);
    drop(clients.remove(0));
    wait_until_carried(&edge, ["a"], [1]);
    clients.push(open(&edge, "/ws"));
    assert_eq!(tunnels(&edge, ["a", "b", "c"]), [2, 2, 1]);
}

#[test]
fn source_sends_an_address_to_one_server() {
    let servers = servers::<3>();
    let edge = edge(&servers, "source");
    let mut seen = HashSet::new();
    for client in 1..=20 {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, client));
        let of = || {
            let mut peer = Peer::connect_from(source, edge.address());
            peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            peer.response().expect(200).text()
        };
        let server = of();
        assert_eq!((of(), of()), (server.clone(), server.clone()), "{source}");
        seen.insert(server);
    }
    assert_eq!(seen.len(), 3, "all servers have clients");
}

/// That each of 20 keys has one server, that all servers have some, and that an edge that lists the
/// same servers the other way round, elsewhere, sends all keys to the same ones.
fn expect_hashed(balance: &str, ask: impl Fn(&Tidewire, usize) -> String) {
    let (here, there) = (servers::<3>(), servers::<3>());
    let first = edge(&here, balance);
    let names = ["c", "b", "a"].into_iter().zip(there.iter().rev());
    let list: Vec<_> = names.map(|(name, server)| (name, server.address(), "")).collect();
    let second = edge_of(&list, &format!("balance = {balance:?}"));
    let mut seen = HashSet::new();
    for key in 0..20 {
        let server = ask(&first, key);
        assert_eq!(ask(&first, key), server, "{balance}, key {key}");
        assert_eq!(ask(&second, key), server, "{balance}, key {key}, at another edge");
        seen.insert(server);
    }
    assert_eq!(seen.len(), 3, "{balance}: all servers have keys");
}

#[test]
fn uri_sends_a_path_to_one_server() {
    expect_hashed("uri", |edge, key| who(edge, &format!("/rooms/{key}"), ""));
}

#[test]
fn uri_is_the_path_only() {
    let servers = servers::<3>();
    let edge = edge(&servers, "uri");
    for key in 0..10 {
        let server = who(&edge, &format!("/{key}"), "");
        assert_eq!(who(&edge, &format!("/{key}?a=b"), ""), server);
        assert_eq!(who(&edge, &format!("http://a.test/{key}?c"), ""), server);
    }
}

#[test]
fn header_query_and_cookie_send_a_value_to_one_server() {
    expect_hashed("header:X-Room", |edge, key| who(edge, "/", &format!("X-Room: {key}\r\n")));
    expect_hashed("query:room", |edge, key| who(edge, &format!("/?a=b&room={key}"), ""));
    expect_hashed("cookie:user", |edge, key| {
        who(edge, "/", &format!("Cookie: a=b; user=u{key}\r\n"))
    });
}

#[test]
fn who_has_no_key_is_spread() {
    let servers = servers::<2>();
    let edge = edge(&servers, "query:room");
    let seen: HashSet<_> = (0..4).map(|_| who(&edge, "/?other=1", "")).collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_server_that_is_gone_moves_its_own_keys_only() {
    let [a, b, c] = servers::<3>();
    let list = [("a", a.address(), ""), ("b", b.address(), ""), ("c", c.address(), "")];
    let edge = edge_of(&list, "balance = \"uri\"");
    let homes = || (0..30).map(|key| who(&edge, &format!("/{key}"), "")).collect::<Vec<_>>();
    let before = homes();
    drop(b);
    let after = homes();
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "b" && after != "b", "from {before} to {after}");
    }
    assert!(before.iter().any(|server| server == "b"));
    edge.expect_metric_at_least("edge_backend_redispatches_total", &[], 1.0);
}

#[test]
fn clients_of_one_key_stay_together_or_spill_over_as_they_are_told_to() {
    let [a, b] = servers::<2>();
    let list = [("a", a.address(), ""), ("b", b.address(), "")];
    let sorted = |more: &str| {
        let edge = edge_of(&list, &format!("balance = \"query:room\"\n{more}"));
        let _clients: Vec<_> = (0..20).map(|_| open(&edge, "/ws?room=7")).collect();
        let mut loads = tunnels(&edge, ["a", "b"]);
        loads.sort_unstable();
        loads
    };
    assert_eq!(sorted(""), [0, 20]);
    assert_eq!(sorted("hash_balance_factor = 150"), [5, 15]);
}

#[test]
fn a_key_whose_server_is_full_goes_to_another_one_and_waits_when_all_are() {
    let [a, b] = servers::<2>();
    let list = [("a", a.address(), ", maxconn = 1"), ("b", b.address(), ", maxconn = 1")];
    let edge = edge_of(&list, "balance = \"uri\"\ntimeout.queue = \"60s\"");
    let first = open(&edge, "/test-url");
    let began_with = tunnels(&edge, ["a", "b"]);
    let _second = open(&edge, "/test-url");
    assert_eq!(tunnels(&edge, ["a", "b"]), [1, 1]);
    let mut third = Peer::connect(edge.address());
    third.send(handshake("/test-url"));
    until("it waits", || (edge.metric("edge_backend_queue", &[]) == 1.0).then_some(()));
    drop(first);
    third.response().expect(101);
    assert_eq!(tunnels(&edge, ["a", "b"]), [1, 1], "the first was at {began_with:?}");
}

#[test]
fn backups_serve_while_no_other_server_is_up() {
    let port = free_port();
    let [b, c] = servers::<2>();
    let list = [
        ("main", loopback(port), ", check = true"),
        ("b", b.address(), ", backup = true"),
        ("c", c.address(), ", backup = true"),
    ];
    let check = "check = { interval = \"100ms\", timeout = \"10s\", fall = 1, rise = 1 }";
    let edge = edge_of(&list, check);
    let is_up = |expected: f64| {
        until("the edge sees it", || {
            let up = edge.metric("edge_server_up", &["server=\"main\""]);
            (up == expected).then_some(())
        });
    };
    is_up(0.0);
    let mut said = [(); 4].map(|()| who(&edge, "/", ""));
    said.sort();
    assert_eq!(said, ["a", "a", "b", "b"], "the backups' own names");
    let _main = Backend::start_on(port, serves("main"));
    is_up(1.0);
    assert_eq!([(); 4].map(|()| who(&edge, "/", "")), ["main"; 4]);
}

#[test]
fn a_server_that_has_come_up_starts_slowly() {
    let port = free_port();
    let [a] = servers::<1>();
    let list = [("a", a.address(), ", check = true"), ("late", loopback(port), ", check = true")];
    let check = "check = { interval = \"100ms\", timeout = \"10s\", fall = 1, rise = 1 }";
    let edge = edge_of(&list, &format!("slowstart = \"1h\"\n{check}"));
    let up = |expected: f64| {
        let is = || edge.metric("edge_server_up", &["server=\"late\""]) == expected;
        until("the edge sees it", || is().then_some(()));
    };
    up(0.0);
    let late = Backend::start_on(port, serves("late"));
    up(1.0);
    let slow = (0..40).filter(|_| who(&edge, "/", "") == "late").count();
    assert!(slow <= 2, "{slow} of 40 in the first of its 3600 seconds");
    drop(late);
}

#[test]
fn one_websocket_more_than_there_may_be_is_refused() {
    let [a] = servers::<1>();
    let mut edge = edge_of(&[("a", a.address(), "")], "max_tunnels = 2");
    let first = open(&edge, "/ws");
    let _second = open(&edge, "/ws");
    let refused = WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws"));
    let (answer, _) = refused.expect_err("there are two");
    assert!(answer.expect(503).text().contains("WebSockets"));
    edge.log_line(&["request", "fault=\"tunnels_full\""]);
    get(edge.address(), "/").expect(200);
    drop(first);
    wait_until_carried(&edge, ["a"], [1]);
    let mut third = open(&edge, "/ws");
    third.expect_echo("is there");
}
