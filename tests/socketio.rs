//! Unmodified Socket.IO clients and servers (npm), two servers behind the edge: long-polling first,
//! then the upgrade to WebSocket.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidewire_testkit::child::Child;
use tidewire_testkit::deadline::until;
use tidewire_testkit::node_app::{NodeApp, NodePackages};
use tidewire_testkit::tidewire::Tidewire;

/// Two servers behind an edge.
struct Rig {
    packages: NodePackages,
    servers: [NodeApp; 2],
    edge: Tidewire,
}

/// What became of one client.
#[derive(Debug)]
struct Client {
    /// The servers that have answered it.
    servers: HashSet<String>,
    answers: usize,
    transport: String,
    error: Option<String>,
}

impl Rig {
    /// With `from` in the example's configuration replaced by `to`.
    fn start(from: &str, to: &str) -> Option<Self> {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/socketio");
        let packages = NodePackages::install_folder("socketio", &example)?;
        let servers = [packages.start("server.js"), packages.start("server.js")];
        let quoted = |server: &NodeApp| format!("\"{}\"", server.address());
        let [first, second] = servers.each_ref().map(quoted);
        let mut config = std::fs::read_to_string(example.join("edge.toml")).unwrap();
        for (from, to) in [
            (r#""127.0.0.1:8080""#, r#""127.0.0.1:0""#),
            (r#""127.0.0.1:3001""#, &first),
            (r#""127.0.0.1:3002""#, &second),
            (from, to),
        ] {
            assert!(config.contains(from), "no {from} in the example");
            config = config.replace(from, to);
        }
        let edge = Tidewire::run(&config);
        Some(Self { packages, servers, edge })
    }

    /// As the example has it.
    fn of_example() -> Option<Self> {
        Self::start("leastconn", "leastconn")
    }

    /// The program of the clients, running.
    fn clients(&self, count: usize, options: &str) -> Child {
        let mut command = self.packages.command("client.js");
        command.arg(format!("http://{}", self.edge.address()));
        Child::spawn({
            command.arg(count.to_string()).arg(options);
            command
        })
    }

    /// What becomes of so many clients at once.
    fn run(&self, count: usize, options: &str) -> Vec<Client> {
        let ended = self.clients(count, options).wait_for(Duration::from_secs(60));
        let lines = ended.stdout.iter().map(|line| serde_json::from_str(line));
        let clients: Vec<_> = lines.map(|line| Client::of(&line.expect("JSON"))).collect();
        assert_eq!(clients.len(), count, "{:#?}", ended.stderr);
        clients
    }

    fn server_names(&self) -> HashSet<String> {
        self.servers.iter().map(|server| port(server.address())).collect()
    }

    fn metric(&self, name: &str) -> f64 {
        self.edge.metric(name, &[])
    }
}

impl Client {
    fn of(line: &Value) -> Self {
        let answers = line["answers"].as_array().expect("a list");
        let server = |it: &Value| it.as_str().and_then(|it| it.split_once(": ")).unwrap().0.into();
        Self {
            servers: answers.iter().map(server).collect(),
            answers: answers.len(),
            transport: line["transport"].as_str().unwrap_or_default().to_owned(),
            error: line["error"].as_str().map(str::to_owned),
        }
    }
}

fn port(address: SocketAddr) -> String {
    address.port().to_string()
}

/// That each has been answered thrice by one server, at the end by `transport`, and that both
/// servers have had some.
#[track_caller]
fn expect_served(rig: &Rig, clients: &[Client], transport: &str) {
    for client in clients {
        assert_eq!((&client.error, client.answers), (&None, 3), "{client:?}");
        assert_eq!((client.servers.len(), client.transport.as_str()), (1, transport), "{client:?}");
    }
    let servers: HashSet<_> = clients.iter().flat_map(|it| it.servers.clone()).collect();
    assert_eq!(servers, rig.server_names(), "both servers have clients");
}

#[test]
fn clients_without_cookies_poll_and_upgrade() {
    let Some(rig) = Rig::of_example() else { return };
    let clients = rig.run(12, "{}");
    expect_served(&rig, &clients, "websocket");
    assert_eq!(rig.metric("edge_backend_sessions"), 12.0);
    rig.edge.expect_metric_at_least("edge_server_stuck_total", &[], 12.0 * 3.0);
    assert_eq!(rig.metric("edge_backend_unstuck_total"), 0.0);
}

#[test]
fn clients_that_only_poll_stay_where_they_began() {
    let Some(rig) = Rig::of_example() else { return };
    expect_served(&rig, &rig.run(6, r#"{ "transports": ["polling"] }"#), "polling");
}

#[test]
fn clients_that_begin_with_websocket_need_nothing() {
    let Some(rig) = Rig::start("stick = { session = { query = \"sid\" } }", "") else { return };
    expect_served(&rig, &rig.run(6, r#"{ "transports": ["websocket"] }"#), "websocket");
}

#[test]
fn without_stickiness_sessions_are_unknown() {
    let Some(rig) = Rig::start("stick = { session = { query = \"sid\" } }", "") else { return };
    // Each has several requests, and both servers are asked in turn: few can be lucky.
    let clients = rig.run(16, "{}");
    let lost = clients.iter().filter(|it| it.error.is_some()).count();
    assert!(lost >= 4, "the tests above would pass without stickiness: {clients:#?}");
}

#[test]
fn clients_with_cookies_need_no_memory_of_sessions() {
    let stick = "stick = { insert = {}, secret = \"0123456789abcdef\" }";
    let Some(rig) = Rig::start("stick = { session = { query = \"sid\" } }", stick) else { return };
    expect_served(&rig, &rig.run(8, r#"{ "withCredentials": true }"#), "websocket");
    let lost = rig.run(16, "{}").iter().filter(|it| it.error.is_some()).count();
    assert!(lost >= 4, "who keeps no cookies is lost");
}

#[test]
fn clients_of_a_server_that_dies_begin_anew_on_the_other() {
    let Some(mut rig) = Rig::of_example() else { return };
    expect_served(&rig, &rig.run(4, "{}"), "websocket");
    rig.servers[0].kill();
    let survivor = port(rig.servers[1].address());
    // Also before the edge has seen that it is down.
    let clients = rig.run(6, "{}");
    for client in &clients {
        assert!(client.error.is_none() && client.servers.contains(&survivor), "{client:?}");
    }
    let is_down =
        || (rig.edge.metric("edge_server_up", &["server=\"server1\""]) == 0.0).then_some(());
    until("the edge sees it", is_down);
    assert!(rig.run(2, "{}").iter().all(|client| client.error.is_none()));
}
