//! The article's own express-ws servers behind the edge, unchanged.

use std::time::Duration;

use serde_json::{Value, json};
use tidewire_testkit::article;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::get;
use tidewire_testkit::node_app::{NodeApp, NodePackages};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{Got, WebSocket};

/// Two of the article's servers behind the article's edge.
struct Rig {
    servers: [NodeApp; 2],
    edge: Tidewire,
}

impl Rig {
    fn start() -> Option<Self> {
        let packages = NodePackages::install_folder("express-ws", &article::path("express"))?;
        let servers = [packages.start("index.js"), packages.start("index.js")];
        let edge = article::edge(servers.each_ref().map(NodeApp::address));
        edge.wait_until_ready();
        Some(Self { servers, edge })
    }

    fn join(&self) -> WebSocket {
        WebSocket::connect(self.edge.address(), "/ws/echo")
    }

    /// Requests and WebSockets that each server was given so far.
    fn leases(&self) -> [f64; 2] {
        self.per_server("edge_server_leases_total")
    }

    fn per_server(&self, metric: &str) -> [f64; 2] {
        ["server=\"server1\"", "server=\"server2\""].map(|label| self.edge.metric(metric, &[label]))
    }
}

#[test]
fn a_broadcast_reaches_every_client_of_its_server_and_no_other() {
    let Some(rig) = Rig::start() else { return };
    let mut clients = [(); 6].map(|()| rig.join());
    for (sender, text) in [(0, "to the first"), (1, "to the second")] {
        clients[sender].send(text);
        // In turn: every other client is on the sender's server.
        for client in clients.iter_mut().skip(sender).step_by(2) {
            assert_eq!(client.text(), format!("Received: {text}"));
        }
    }
    for client in &mut clients {
        client.expect_silence(Duration::from_millis(50));
    }
}

#[test]
fn clients_are_given_to_the_servers_in_turn() {
    let Some(rig) = Rig::start() else { return };
    let before = rig.leases();
    let _clients = [(); 6].map(|()| rig.join());
    let after = rig.leases();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [3.0, 3.0]);
    assert_eq!(rig.per_server("edge_server_connections"), [3.0, 3.0]);
}

#[test]
fn the_page_is_served_by_each_of_them() {
    let Some(rig) = Rig::start() else { return };
    let before = rig.leases();
    for _ in 0..2 {
        let page = get(rig.edge.address(), "/ws").expect(200);
        assert_eq!(page.headers.get("x-powered-by"), Some("Express"));
        let file = std::fs::read(article::path("express/index.html")).unwrap();
        assert_eq!(page.body, file);
    }
    let after = rig.leases();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1.0, 1.0]);
}

#[test]
fn the_page_speaks_through_the_edge() {
    let Some(rig) = Rig::start() else { return };
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("http://{}/ws", rig.edge.address()));
    let shows = |text: &str| {
        until(&format!("the page shows {text:?}"), || {
            let lines = browser.run(LINES, &Value::Null);
            lines.as_array()?.iter().any(|line| line == text).then_some(())
        });
    };
    shows("Received: Client connected!");
    browser.run(SAY, &json!("hello"));
    shows("Received: hello");
}

#[test]
fn a_server_that_dies_leaves_new_clients_to_the_other() {
    let Some(mut rig) = Rig::start() else { return };
    let mut clients = [rig.join(), rig.join()];
    rig.servers[0].kill();
    let is_alive = clients.each_mut().map(|client| {
        client.send("who is there?");
        matches!(client.next(), Got::Text(text) if text == "Received: who is there?")
    });
    assert_eq!(is_alive.iter().filter(|&&it| it).count(), 1, "{is_alive:?}");
    // At once: the edge need not have seen yet that the server is down.
    let mut newcomers = [(); 4].map(|()| rig.join());
    newcomers[0].send("all of us");
    for client in &mut newcomers {
        assert_eq!(client.text(), "Received: all of us");
    }
}

/// The lines that the article's page has printed.
const LINES: &str =
    "return [...document.querySelectorAll('#output > div')].map((it) => it.textContent)";

const SAY: &str = "document.getElementById('message').value = arguments[0]; \
                   document.getElementById('sendButton').click()";
