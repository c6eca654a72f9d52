//! The article's picture, from the files of its example: an edge, two hub nodes, Redis, and people
//! with browsers.

use serde_json::{Value, json};
use tidewire_testkit::article;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::{SLOW_PROGRAM, until, until_within};
use tidewire_testkit::redis::RedisServer;
use tidewire_testkit::tidewire::Tidewire;

/// The article's machines: an edge before two hub nodes, with Redis between those.
struct Rig {
    redis: RedisServer,
    nodes: [Tidewire; 2],
    edge: Tidewire,
}

impl Rig {
    fn start() -> Option<Self> {
        let redis = RedisServer::start()?;
        let nodes = article::nodes(&redis.url());
        let edge = article::edge(nodes.each_ref().map(Tidewire::address));
        edge.wait_until_ready();
        Some(Self { redis, nodes, edge })
    }

    fn page(&self) -> String {
        format!("http://{}/ws", self.edge.address())
    }
}

/// A person's window: a browser of its own, whose page has two clients, on a server each.
struct Window {
    browser: Browser,
}

/// One of the clients of a page.
#[derive(Clone, Copy)]
struct Client<'a> {
    browser: &'a Browser,
    number: u8,
}

impl Window {
    fn open(url: &str) -> Option<Self> {
        let browser = Browser::start()?;
        browser.open(url);
        let window = Self { browser };
        // The servers take turns, so the second client gets the other one sooner or later.
        until_within(SLOW_PROGRAM, "the clients are on a server each", || {
            let [first, second] = window.clients();
            let servers = [first.wait_until_open(), second.wait_until_open()];
            if servers[0] != servers[1] {
                return Some(());
            }
            second.click("toggle");
            second.click("toggle");
            None
        });
        Some(window)
    }

    fn clients(&self) -> [Client<'_>; 2] {
        [1, 2].map(|number| Client { browser: &self.browser, number })
    }

    /// The client that is on this server.
    #[track_caller]
    fn on(&self, server: &str) -> Client<'_> {
        let found = self.clients().into_iter().find(|client| client.server() == server);
        found.unwrap_or_else(|| panic!("no client on {server}"))
    }
}

impl Client<'_> {
    fn wait_until_open(self) -> String {
        until(&format!("client {} is on a server", self.number), || {
            let server = self.server();
            (self.phase() == "open" && !server.is_empty()).then_some(server)
        })
    }

    fn wait_until_on(self, server: &str) {
        until(&format!("client {} is on {server}", self.number), || {
            (self.phase() == "open" && self.server() == server).then_some(())
        });
    }

    fn phase(self) -> String {
        self.browser.attribute(&format!("client-{}", self.number), "data-phase")
    }

    fn server(self) -> String {
        self.browser.attribute(&format!("client-{}", self.number), "data-server")
    }

    fn click(self, part: &str) {
        self.browser.click(&format!("client-{}-{part}", self.number));
    }

    /// Types a message and sends it.
    fn say(self, text: &str) {
        self.browser.type_into(&format!("client-{}-input", self.number), text);
        self.click("send");
    }

    /// The texts of the messages that it shows.
    fn messages(self) -> Vec<String> {
        self.entries("[data-kind=message] .text")
    }

    fn wait_until_it_shows(self, text: &str) {
        let expected = format!("Received: {text}");
        until(&format!("client {} shows {expected:?}", self.number), || {
            self.messages().contains(&expected).then_some(())
        });
    }

    /// The notice of this event, once there is one.
    fn notice(self, event: &str) -> String {
        until(&format!("client {} is told {event}", self.number), || {
            self.entries(&format!("[data-event={event}]")).pop()
        })
    }

    /// How often it has lost its connection.
    fn losses(self) -> usize {
        let notes = self.entries("[data-kind=fault]");
        notes.iter().filter(|note| note.contains("Connection closed")).count()
    }

    fn entries(self, selector: &str) -> Vec<String> {
        let list = format!("[data-testid=client-{}-messages] {selector}", self.number);
        let texts = self.browser.run(TEXTS, &json!(list));
        let texts = texts.as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

const TEXTS: &str =
    "return [...document.querySelectorAll(arguments[0])].map((it) => it.textContent)";

#[test]
fn what_is_typed_into_a_page_is_seen_in_the_other_on_the_other_server() {
    let Some(rig) = Rig::start() else { return };
    check_two_pages(&rig.page());
}

#[test]
fn the_same_goes_for_up_with_the_broker_in_the_program() {
    let up = Tidewire::up(&[]);
    check_two_pages(&format!("http://{}/", up.address()));
}

fn check_two_pages(url: &str) {
    let (Some(here), Some(there)) = (Window::open(url), Window::open(url)) else { return };
    let (one, other) = (here.on("server1"), there.on("server2"));
    one.say("hello from the first");
    other.wait_until_it_shows("hello from the first");
    other.say("hello yourself, <b>first</b>");
    one.wait_until_it_shows("hello yourself, <b>first</b>");
    for window in [&here, &there] {
        assert_eq!(window.browser.errors(), Vec::<String>::new());
    }
}

#[test]
fn clients_of_a_server_that_is_killed_come_back_on_the_other_and_hear_each_other() {
    let Some(mut rig) = Rig::start() else { return };
    let url = rig.page();
    let (Some(here), Some(there)) = (Window::open(&url), Window::open(&url)) else { return };
    let moved = [here.on("server1"), there.on("server1")];
    let stayed = there.on("server2");
    rig.nodes[0].child.kill();
    for client in moved {
        client.wait_until_on("server2");
        assert_eq!(client.losses(), 1);
    }
    assert_eq!(stayed.losses(), 0);
    moved[0].say("I have moved");
    stayed.wait_until_it_shows("I have moved");
    stayed.say("I have not");
    for client in moved {
        client.wait_until_it_shows("I have not");
    }
}

#[test]
fn redis_that_is_killed_and_comes_back_parts_the_servers_and_nobody_else() {
    let Some(mut rig) = Rig::start() else { return };
    let url = rig.page();
    let (Some(here), Some(there)) = (Window::open(&url), Window::open(&url)) else { return };
    let (sender, neighbour) = (here.on("server1"), there.on("server1"));
    let far = there.on("server2");
    let everyone = [here.clients(), there.clients()].concat();

    rig.redis.kill();
    for node in &rig.nodes {
        until("the node says why it is not ready", || {
            let answer = node.readiness();
            (answer.status == 503 && answer.text().contains("broker away")).then_some(())
        });
    }
    sender.notice("degraded");
    sender.say("only to neighbours");
    neighbour.wait_until_it_shows("only to neighbours");

    rig.redis.run();
    rig.nodes.iter().for_each(Tidewire::wait_until_ready);
    let told = sender.notice("restored");
    assert!(told.contains("1 message did not reach the other servers"), "{told}");
    for client in &everyone {
        client.notice("restored");
    }
    sender.say("to everyone again");
    far.wait_until_it_shows("to everyone again");
    far.say("and back");
    sender.wait_until_it_shows("and back");

    assert!(!far.messages().contains(&"Received: only to neighbours".to_owned()));
    for client in everyone {
        assert_eq!(client.losses(), 0, "client {}", client.number);
    }
}
