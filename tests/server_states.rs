//! Which servers take clients, as their operator says: in the configuration, by `tidewire servers`
//! and by the admin listener.

use std::fs;
use std::net::SocketAddr;
use std::process::Output;

use serde_json::{Value, json};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Response, ask, get};
use tidewire_testkit::port::free_port;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::WebSocket;

/// An edge before two servers that echo, the first of which begins with `more`.
fn rig(more: &str) -> (Tidewire, [Backend; 2]) {
    // Of a server that ends, nobody else may get the port.
    let servers = [(); 2].map(|()| Backend::start_on(free_port(), script::echoes));
    let [a, b] = servers.each_ref().map(Backend::address);
    let edge = Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{a}", {more} }}, {{ name = "b", address = "{b}" }}]
check = {{ type = "tcp", interval = "50ms", rise = 3 }}
"#
    ));
    (edge, servers)
}

/// `tidewire servers` at this node.
fn servers(node: &Tidewire, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", node.admin());
    let mut command = command();
    command.env_remove("TIDEWIRE_ADMIN").env_remove("TIDEWIRE_ADMIN_TOKEN");
    command.arg("servers").args(arguments).args(["--admin", &admin]).output().unwrap()
}

/// What `tidewire servers` prints.
#[track_caller]
fn printed(node: &Tidewire, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = servers(node, arguments);
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Has the operator say what a server is to be.
#[track_caller]
fn set(node: &Tidewire, server: &str, change: &str) {
    let text = printed(node, &["set", &format!("nodes/{server}"), change]);
    assert!(text.contains(&format!("nodes/{server}")), "{text}");
}

#[track_caller]
fn expect_state(node: &Tidewire, server: &str, state: &str) {
    let labels = [format!("server=\"{server}\""), format!("state=\"{state}\"")];
    let labels = labels.each_ref().map(String::as_str);
    assert_eq!(node.metric("edge_server_state", &labels), 1.0, "{server} is not {state}");
}

/// The clients that a server was given so far.
fn leases(edge: &Tidewire, server: &str) -> f64 {
    edge.metric("edge_server_leases_total", &[&format!("server=\"{server}\"")])
}

/// `count` clients come and go, and none of them gets server `a`.
#[track_caller]
fn expect_none_for_a(edge: &Tidewire, count: usize) {
    let before = leases(edge, "a");
    for _ in 0..count {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    assert_eq!(leases(edge, "a"), before, "a was given a client");
}

#[test]
fn a_server_that_drains_keeps_its_clients_and_gets_no_new_ones() {
    let (mut edge, _servers) = rig("");
    let mut stays = WebSocket::connect(edge.address(), "/ws");
    assert_eq!(leases(&edge, "a"), 1.0);
    set(&edge, "a", "drain");
    expect_state(&edge, "a", "drain");
    edge.log_line(&["INFO", "server drains", "server=\"a\"", "as its operator says"]);
    expect_none_for_a(&edge, 4);
    stays.expect_echo("still here");
    set(&edge, "a", "ready");
    expect_state(&edge, "a", "up");
    for _ in 0..2 {
        WebSocket::connect(edge.address(), "/ws").expect_echo("served");
    }
    assert_eq!(leases(&edge, "a"), 2.0);
}

#[test]
fn a_server_in_maintenance_is_not_checked_and_comes_back_by_a_good_check() {
    let (edge, servers) = rig("check = true");
    until("it is checked", || (servers[0].accepted() > 0).then_some(()));
    let mut stays = WebSocket::connect(edge.address(), "/ws");
    set(&edge, "a", "maintenance");
    expect_state(&edge, "a", "maintenance");
    expect_none_for_a(&edge, 4);
    stays.expect_echo("still here");
    // A check that was under way may have come through.
    let checks = || edge.metric("edge_server_checks_total", &["server=\"a\""]);
    let before = (servers[0].accepted(), checks());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(servers[0].accepted() <= before.0 + 1 && checks() <= before.1 + 1.0);
    // One good check is enough, though `rise` is 3: with the one that was under way there are two.
    // Whoever looks late sees more of them, and looks again.
    until("it is up by less than `rise`", || {
        set(&edge, "a", "maintenance");
        let before = checks();
        set(&edge, "a", "ready");
        let is_up = || edge.metric("edge_server_up", &["server=\"a\""]) == 1.0;
        until("it is up", || is_up().then_some(()));
        (checks() <= before + 2.0).then_some(())
    });
}

#[test]
fn a_dead_server_that_is_set_ready_after_maintenance_gets_nobody() {
    let (edge, servers) = rig("check = true");
    let [dead, _alive] = servers;
    set(&edge, "a", "maintenance");
    drop(dead);
    let before = leases(&edge, "a");
    set(&edge, "a", "ready");
    expect_state(&edge, "a", "down");
    let table = printed(&edge, &[]);
    assert!(table.contains("not probed since its maintenance") || table.contains("cannot connect"));
    expect_none_for_a(&edge, 4);
    assert_eq!(leases(&edge, "a"), before);
}

#[test]
fn a_configuration_says_how_servers_begin() {
    let (edge, _servers) = rig("state = \"drain\"");
    expect_state(&edge, "a", "drain");
    expect_none_for_a(&edge, 4);
    let (edge, _servers) = rig("state = \"maintenance\", check = true");
    expect_state(&edge, "a", "maintenance");
    expect_none_for_a(&edge, 4);
    assert_eq!(edge.metric("edge_server_checks_total", &["server=\"a\""]), 0.0);
    set(&edge, "a", "ready");
    until("it is up", || (edge.metric("edge_server_up", &["server=\"a\""]) == 1.0).then_some(()));
}

#[test]
fn when_nobody_takes_clients_they_are_told() {
    let (edge, _servers) = rig("");
    set(&edge, "a", "drain");
    set(&edge, "b", "maintenance");
    let answer = get(edge.address(), "/").expect(503);
    assert!(answer.text().contains("no server is up"), "{}", answer.text());
    edge.readiness().expect(503);
}

#[test]
fn the_servers_are_listed_with_their_state_and_why() {
    let (edge, servers) = rig("");
    let _client = WebSocket::connect(edge.address(), "/ws");
    set(&edge, "b", "drain");
    let table = printed(&edge, &[]);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    let [a, b] = servers.each_ref().map(|server| server.address().to_string());
    assert_eq!(lines[0], ["SERVER", "ADDRESS", "STATE", "WEIGHT", "CLIENTS", "WHY"]);
    assert_eq!(lines[1], ["nodes/a", a.as_str(), "up", "1", "1"]);
    assert_eq!(lines[2][..5], ["nodes/b", b.as_str(), "drain", "1", "0"]);
    assert!(table.trim_end().ends_with("as its operator says"), "{table}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let (edge, _servers) = rig("");
    let said = |arguments: &[&str]| {
        let Output { status, stderr, .. } = servers(&edge, arguments);
        assert!(!status.success());
        String::from_utf8(stderr).unwrap()
    };
    let unknown = said(&["set", "nodes/c", "drain"]);
    assert!(unknown.contains("404") && unknown.contains("no server nodes/c"), "{unknown}");
    assert!(said(&["set", "nodes", "drain"]).contains("BACKEND/SERVER"));
    assert!(said(&["set", "nodes/a", "off"]).contains("ready, drain, maintenance or weight=N"));
    assert!(said(&["set", "nodes/a"]).contains("CHANGE"));
}

#[test]
fn a_weight_is_set_at_run_time() {
    let (edge, _servers) = rig("");
    let given = || {
        let before = [leases(&edge, "a"), leases(&edge, "b")];
        for _ in 0..8 {
            WebSocket::connect(edge.address(), "/ws").expect_echo("served");
        }
        [leases(&edge, "a") - before[0], leases(&edge, "b") - before[1]]
    };
    assert_eq!(given(), [4.0, 4.0]);
    let table = printed(&edge, &["set", "nodes/a", "weight=3"]);
    assert_eq!(table.lines().nth(1).unwrap().split_whitespace().nth(3), Some("3"), "{table}");
    assert_eq!(given(), [6.0, 2.0]);
    // Both at once; a weight of 0 is as good as a drain.
    printed(&edge, &["set", "nodes/a", "weight=0", "ready"]);
    assert_eq!(given(), [0.0, 8.0]);
    expect_state(&edge, "a", "up");
    let too_much = servers(&edge, &["set", "nodes/a", "weight=257"]);
    assert!(String::from_utf8_lossy(&too_much.stderr).contains("0 to 256"));
}

/// What the admin listener at `address` says to a POST to `/servers`.
fn post(address: SocketAddr, headers: &str, body: &Value) -> Response {
    let body = body.to_string();
    let length = body.len();
    ask(
        address,
        &format!(
            "POST /servers HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ),
    )
}

#[test]
fn only_an_operator_may_see_and_change_servers() {
    const JSON: &str = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n";
    let (edge, _servers) = rig("");
    let drain = json!({ "backend": "nodes", "server": "a", "state": "drain" });
    let of_a_page = format!("{JSON}Origin: http://127.0.0.1\r\n");
    post(edge.admin(), &of_a_page, &drain).expect(403);
    post(edge.admin(), &JSON.replace("127.0.0.1", "evil.test"), &drain).expect(403);
    post(edge.admin(), "Host: 127.0.0.1\r\nContent-Type: text/plain\r\n", &drain).expect(415);
    let get = "GET /servers HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n";
    ask(edge.admin(), get).expect(403);
    expect_state(&edge, "a", "up");
    post(edge.admin(), JSON, &json!({ "backend": "nodes", "server": "a" })).expect(400);
    let wrong = json!({ "backend": "nodes", "server": "a", "state": "off" });
    post(edge.admin(), JSON, &wrong).expect(400);
    let elsewhere = json!({ "node": "x", "backend": "nodes", "server": "a", "state": "drain" });
    post(edge.admin(), JSON, &elsewhere).expect(404);
    let answer = post(edge.admin(), JSON, &drain).expect(200);
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["servers"][0]["state"], "drain");
    expect_state(&edge, "a", "drain");
}

#[test]
fn the_verb_shows_the_token_of_a_file() {
    let server = Backend::start(script::echoes);
    let config = tidewire_testkit::tidewire::edge(&[server.address()], ADMIN);
    let edge = Tidewire::run(&config);
    let refused = servers(&edge, &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "0123456789abcdef\n").unwrap();
    let table = printed(&edge, &["--admin-token-file", file.to_str().unwrap()]);
    assert!(table.contains("nodes/server1"), "{table}");
}

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n";
