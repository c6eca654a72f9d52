//! HAProxy, with the article's own configuration, before the hub nodes.

use tidewire_testkit::article;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::haproxy::HaProxy;
use tidewire_testkit::http::get;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::redis::RedisServer;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{Got, WebSocket};

/// The article's three machines, with HAProxy as the first.
struct Rig {
    haproxy: HaProxy,
    nodes: [Tidewire; 2],
    statistics: u16,
    _redis: RedisServer,
}

impl Rig {
    fn start() -> Option<Self> {
        let redis = RedisServer::start()?;
        let nodes = article::nodes(&redis.url());
        let config = article::haproxy(nodes.each_ref().map(Tidewire::address));
        let statistics = free_port();
        // What HAProxy thinks of its servers is seen on a port beside the article's.
        let beside = format!(
            "\nlisten statistics\n        bind 127.0.0.1:{statistics}\n        stats enable\n        \
             stats uri /\n"
        );
        let haproxy = HaProxy::start(&(config + &beside))?;
        haproxy.wait_until_it_reaches_a_server("/ws");
        Some(Self { haproxy, nodes, statistics, _redis: redis })
    }

    /// A client, and the node that it is on.
    fn join(&self) -> (WebSocket, String) {
        let mut client = WebSocket::connect_v1(self.haproxy.address(), "/ws/echo");
        let hello = client.json();
        assert_eq!(hello["type"], "hello", "{hello}");
        let node = hello["node"].as_str().expect("a node has a name").to_owned();
        (client, node)
    }

    /// The column of the server's line in HAProxy's statistics.
    fn column(&self, server: &str, column: &str) -> String {
        let table = get(loopback(self.statistics), "/;csv").expect(200).text();
        let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = lines.next().expect("a line of names");
        let index = names.iter().position(|name| *name == column);
        let index = index.unwrap_or_else(|| panic!("no {column} in {names:?}"));
        let line = lines.find(|line| line[..2] == ["backendnodes", server]);
        line.unwrap_or_else(|| panic!("no {server} in\n{table}"))[index].to_owned()
    }

    fn wait_until_check_says(&self, server: &str, status: &str, check: &str) {
        until(&format!("{server} is {status}, {check}"), || {
            let found = ["status", "check_status"].map(|column| self.column(server, column));
            (found == [status, check]).then_some(())
        });
    }
}

fn message(client: &mut WebSocket) -> String {
    let message = client.json();
    assert_eq!(message["type"], "message", "{message}");
    message["data"].as_str().expect("a message has data").to_owned()
}

#[test]
fn two_clients_on_two_servers_hear_each_other() {
    let Some(rig) = Rig::start() else { return };
    let ((mut one, first), (mut other, second)) = (rig.join(), rig.join());
    assert_ne!(first, second);
    one.send("hello");
    assert_eq!(message(&mut one), "Received: hello");
    assert_eq!(message(&mut other), "Received: hello");
    other.send("hello yourself");
    assert_eq!(message(&mut one), "Received: hello yourself");
    assert_eq!(message(&mut other), "Received: hello yourself");
}

#[test]
fn the_checks_of_haproxy_pass() {
    let Some(rig) = Rig::start() else { return };
    for server in ["server1", "server2"] {
        rig.wait_until_check_says(server, "UP", "L4OK");
        assert_eq!(rig.column(server, "chkfail"), "0");
    }
}

#[test]
fn the_page_speaks_through_haproxy() {
    let Some(rig) = Rig::start() else { return };
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("http://{}/ws", rig.haproxy.address()));
    for client in ["client-1", "client-2"] {
        until(&format!("{client} is on a server"), || {
            let server = browser.attribute(client, "data-server");
            ["server1", "server2"].contains(&server.as_str()).then_some(())
        });
    }
    browser.type_into("client-1-input", "typed through HAProxy");
    browser.click("client-1-send");
    until("the other client shows it", || {
        browser.text("client-2-messages").contains("Received: typed through HAProxy").then_some(())
    });
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_node_that_is_killed_leaves_new_clients_to_the_other() {
    let Some(mut rig) = Rig::start() else { return };
    let mut clients = [rig.join(), rig.join()];
    clients.sort_by(|(_, one), (_, other)| one.cmp(other));
    let [(mut lost, first), (mut kept, second)] = clients;
    assert_eq!([first.as_str(), &second], ["server1", "server2"]);
    rig.nodes[0].child.kill();
    assert_eq!(lost.next(), Got::End);
    rig.wait_until_check_says("server1", "DOWN", "L4CON");
    for _ in 0..3 {
        let (mut newcomer, server) = rig.join();
        assert_eq!(server, "server2");
        newcomer.send("here now");
        assert_eq!(message(&mut newcomer), "Received: here now");
        assert_eq!(message(&mut kept), "Received: here now");
    }
}
