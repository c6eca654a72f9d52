//! Two nodes that hear each other, in the ways that tests need them.

use tidewire_hub::broker::BrokerState;
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_hub::config::HubConfig;

use super::redis_server::RedisServer;
use super::service::{TestNode, config};
use super::until;

/// Two nodes that hear each other.
pub fn two_nodes(change: impl Fn(&mut HubConfig)) -> (TestNode, TestNode) {
    let memory = MemoryBroker::new();
    let node = |name| {
        let mut config = config(name);
        change(&mut config);
        TestNode::start(config, &memory, 2)
    };
    (node("server1"), node("server2"))
}

/// The same through a real Redis.
pub async fn two_nodes_on(
    server: &RedisServer,
    change: impl Fn(&mut HubConfig),
) -> (TestNode, TestNode) {
    let (one, two) = two_nodes(|config| {
        config.broker = server.url().parse().unwrap();
        change(config);
    });
    until_connected(&[&one, &two]).await;
    (one, two)
}

pub async fn until_connected(nodes: &[&TestNode]) {
    until("the broker", || nodes.iter().all(|node| node.hub.state().broker.is_connected())).await;
}

pub async fn until_away(nodes: &[&TestNode]) {
    let is_away = |node: &&TestNode| matches!(node.hub.state().broker, BrokerState::Away { .. });
    until("the broker is away", || nodes.iter().all(is_away)).await;
}
