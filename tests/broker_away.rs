//! Redis goes and comes back: clients stay, hear who is on their server, and are told the rest.

use std::time::Duration;

use serde_json::Value;
use tidewire_testkit::deadline::until;
use tidewire_testkit::redis::RedisServer;
use tidewire_testkit::tidewire::{Tidewire, hub};
use tidewire_testkit::websocket::{Got, WebSocket};

/// Two hub nodes with Redis between them.
struct Rig {
    redis: RedisServer,
    nodes: [Tidewire; 2],
}

impl Rig {
    fn start(more: &str) -> Option<Self> {
        let redis = RedisServer::start()?;
        let nodes = ["server1", "server2"].map(|name| {
            // One that is killed is seen to be away at once: only one that hangs is waited for.
            let timeout = match more.contains("broker_timeout") {
                true => "",
                false => "broker_timeout = \"15s\"",
            };
            let broker = format!("broker = \"{}\"\n{timeout}", redis.url());
            let node = Tidewire::run(&hub(name, &format!("{broker}\n{more}")));
            node.wait_until_ready();
            node
        });
        Some(Self { redis, nodes })
    }

    /// A client of each node that speaks `tidewire.v1`, with its hello heard.
    fn join(&self) -> [WebSocket; 2] {
        self.nodes.each_ref().map(|node| {
            let mut client = WebSocket::connect_v1(node.address(), "/ws/echo");
            assert_eq!(client.json()["type"], "hello");
            client
        })
    }

    /// Waits until both nodes say that they are not ready, and why.
    fn wait_until_away(&self) {
        for (node, name) in self.nodes.iter().zip(["server1", "server2"]) {
            until("a node says that its broker is away", || {
                let answer = node.readiness();
                let says_why = answer.text().contains(&format!("{name}: broker away for"));
                (answer.status == 503 && says_why).then_some(())
            });
        }
    }
}

/// The next frame of `tidewire.v1` that is a notice.
#[track_caller]
fn notice(client: &mut WebSocket) -> Value {
    let frame = client.json();
    assert_eq!(frame["type"], "notice", "{frame}");
    frame
}

#[track_caller]
fn expect_message(client: &mut WebSocket, text: &str) {
    let frame = client.json();
    assert_eq!(frame["data"], format!("Received: {text}"), "{frame}");
}

#[test]
fn when_redis_dies_senders_are_told_and_when_it_is_back_all_hear_each_other() {
    let Some(mut rig) = Rig::start("") else { return };
    let [mut one, mut other] = rig.join();
    one.send("before");
    expect_message(&mut one, "before");
    expect_message(&mut other, "before");
    rig.redis.kill();
    rig.wait_until_away();
    for client in [&mut one, &mut other] {
        assert_eq!(notice(client)["event"], "degraded");
    }
    one.send("meanwhile");
    expect_message(&mut one, "meanwhile");
    other.expect_silence(Duration::from_millis(100));
    rig.redis.run();
    rig.nodes.iter().for_each(Tidewire::wait_until_ready);
    let restored = notice(&mut one);
    assert_eq!((&restored["event"], &restored["undelivered"]), (&"restored".into(), &1.into()));
    let restored = notice(&mut other);
    assert_eq!((&restored["event"], &restored["undelivered"]), (&"restored".into(), &0.into()));
    one.send("after");
    expect_message(&mut one, "after");
    expect_message(&mut other, "after");
}

#[test]
fn a_redis_that_hangs_is_away_too() {
    let Some(rig) = Rig::start("broker_timeout = \"3s\"") else { return };
    let [mut one, mut other] = rig.join();
    rig.redis.freeze();
    one.send("into the silence");
    expect_message_or_notice(&mut one, "into the silence");
    rig.wait_until_away();
    rig.redis.thaw();
    rig.nodes.iter().for_each(Tidewire::wait_until_ready);
    one.send("after");
    // What was under way may arrive late, or not; what is said now arrives.
    for client in [&mut one, &mut other] {
        until("the message arrives", || (client.json()["data"] == "Received: after").then_some(()));
    }
}

/// The message is delivered on its node, and the notice that it went no further comes before or
/// after it.
#[track_caller]
fn expect_message_or_notice(client: &mut WebSocket, text: &str) {
    let frames = [client.json(), client.json()];
    assert!(frames.iter().any(|it| it["data"] == format!("Received: {text}")), "{frames:?}");
    assert!(frames.iter().any(|it| it["event"] == "degraded"), "{frames:?}");
}

#[test]
fn a_client_that_comes_while_redis_is_away_is_served_and_told() {
    let Some(mut rig) = Rig::start("") else { return };
    rig.redis.kill();
    rig.wait_until_away();
    let [mut one, mut other] = rig.join();
    assert_eq!(notice(&mut one)["event"], "degraded");
    one.send("alone for now");
    expect_message(&mut one, "alone for now");
    rig.redis.run();
    rig.nodes.iter().for_each(Tidewire::wait_until_ready);
    assert_eq!(notice(&mut one)["event"], "restored");
    one.send("together");
    until("the other hears it", || (other.json()["data"] == "Received: together").then_some(()));
}

#[test]
fn a_hub_that_is_to_close_its_clients_closes_those_whose_messages_are_concerned() {
    let Some(mut rig) = Rig::start("away = \"close\"") else { return };
    let [mut one, mut other] = rig.join();
    rig.redis.kill();
    rig.wait_until_away();
    one.send("concerned");
    until("it is closed", || match one.next() {
        Got::Text(_) => None,
        got => {
            assert!(matches!(got, Got::Close(Some(1013), _)), "{got:?}");
            Some(())
        }
    });
    other.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_node_starts_without_redis_and_joins_when_it_comes() {
    let Some(mut redis) = RedisServer::start() else { return };
    redis.kill();
    let node = Tidewire::run(&hub("server1", &format!("broker = \"{}\"", redis.url())));
    assert_eq!(node.readiness().status, 503);
    let mut client = WebSocket::connect(node.address(), "/ws/echo");
    redis.run();
    node.wait_until_ready();
    client.send("here");
    // A client without a subprotocol is told in texts as well.
    until("the message arrives", || (client.text() == "Received: here").then_some(()));
}
