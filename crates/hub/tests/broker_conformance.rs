//! What every broker promises, asked of each of them: the memory broker, and Redis with a real
//! redis-server. What only Redis can be asked is in `redis_faults.rs`.

mod support;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use support::recorder::{Node, Recorder};
use support::redis_server::RedisServer;
use support::service::topic;
use tidewire_hub::broker::Reach;
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_hub::publication::{ClientId, Kind, NodeId, Origin, Publication};

/// A broker that nodes can join.
trait Factory: Send + Sync + 'static {
    fn join(&self) -> Node;
}

struct Memory(MemoryBroker);

impl Factory for Memory {
    fn join(&self) -> Node {
        let recorder = Arc::new(Recorder::default());
        let broker = Arc::new(self.0.join(recorder.clone()));
        Node { id: NodeId::random(), broker, recorder }
    }
}

struct Redis(RedisServer);

impl Factory for Redis {
    fn join(&self) -> Node {
        Node::join_redis(&self.0.url(), 8 * MIB).0
    }
}

/// Makes a test of each promise for each broker.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                super::$promise(Arc::new(Memory(MemoryBroker::new()))).await;
            })*
        }

        mod redis {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let Some(server) = RedisServer::start() else { return };
                super::$promise(Arc::new(Redis(server))).await;
            })*
        }
    };
}

promises![
    all_subscribers_see_one_order,
    a_message_comes_to_its_topic_only,
    a_message_after_the_subscription_is_seen,
    no_message_comes_after_the_unsubscription,
    subscribing_twice_delivers_once,
    a_node_without_subscribers_gets_nothing,
    a_node_that_left_disturbs_nobody,
    five_thousand_topics_at_once,
    a_hundred_thousand_messages,
    big_and_binary_messages_stay_whole,
    everything_is_out_after_a_flush,
];

async fn all_subscribers_see_one_order(factory: Arc<dyn Factory>) {
    let topic = topic("order");
    let nodes: Vec<_> = (0..3).map(|_| Arc::new(factory.join())).collect();
    for node in &nodes {
        node.subscribe(&topic).await;
    }
    let publishers: Vec<_> = (0..6)
        .map(|publisher| {
            let (node, topic) = (nodes[publisher % 3].clone(), topic.clone());
            tokio::spawn(async move {
                for number in 0..5_000 {
                    node.publish(&topic, &format!("{publisher} {number}")).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    for node in &nodes {
        node.until_total(30_000).await;
    }
    let texts = nodes[0].recorder.texts(&topic);
    for node in &nodes[1..] {
        assert!(node.recorder.texts(&topic) == texts, "one order for all");
    }
    for publisher in 0..6 {
        let prefix = format!("{publisher} ");
        let numbers = texts.iter().filter_map(|text| text.strip_prefix(&prefix));
        let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, (0..5_000).collect::<Vec<_>>(), "as publisher {publisher} said it");
    }
}

async fn a_message_comes_to_its_topic_only(factory: Arc<dyn Factory>) {
    let long = "ü".repeat(127) + "x";
    let names = [
        "a",
        "A",
        "ab",
        "a*",
        "*",
        "?",
        "[a-z]",
        "a:b",
        "test:a",
        "{a}",
        "{b}a",
        "\\*",
        " ",
        "a ",
        "ü🌊",
        "\u{202e}a",
        "'\"$1;--",
        &long,
    ];
    let topics: Vec<_> = names.iter().map(|name| topic(name)).collect();
    let (publisher, all) = (factory.join(), factory.join());
    let mut singles = Vec::new();
    for topic in &topics {
        all.subscribe(topic).await;
        let single = factory.join();
        single.subscribe(topic).await;
        singles.push(single);
    }
    for topic in &topics {
        publisher.publish(topic, topic.as_str()).await;
    }
    all.until_total(topics.len()).await;
    for (topic, single) in topics.iter().zip(&singles) {
        single.until_total(1).await;
        assert_eq!(single.recorder.topics(), [topic.as_str()]);
        assert_eq!(single.recorder.texts(topic), [topic.as_str()]);
        assert_eq!(all.recorder.texts(topic), [topic.as_str()]);
    }
}

async fn a_message_after_the_subscription_is_seen(factory: Arc<dyn Factory>) {
    let node = factory.join();
    for number in 0..500 {
        let topic = topic(&format!("{number}"));
        node.broker.subscribe(&topic).unwrap();
        node.publish(&topic, "at once").await;
    }
    node.until_total(500).await;
}

async fn no_message_comes_after_the_unsubscription(factory: Arc<dyn Factory>) {
    let (node, other) = (factory.join(), factory.join());
    let (topic, end) = (topic("t"), topic("end"));
    node.subscribe(&topic).await;
    node.subscribe(&end).await;
    node.publish(&topic, "before").await;
    node.broker.unsubscribe(&topic).unwrap();
    node.publish(&topic, "after").await;
    node.publish(&end, "end").await;
    node.until_total(2).await;
    other.publish(&topic, "after, from another node").await;
    other.publish(&end, "end").await;
    node.until_total(3).await;
    assert_eq!(node.recorder.texts(&topic), ["before"]);
}

async fn subscribing_twice_delivers_once(factory: Arc<dyn Factory>) {
    let node = factory.join();
    let topic = topic("t");
    node.subscribe(&topic).await;
    node.broker.subscribe(&topic).unwrap();
    node.publish(&topic, "once").await;
    node.publish(&topic, "end").await;
    node.until_total(2).await;
}

async fn a_node_without_subscribers_gets_nothing(factory: Arc<dyn Factory>) {
    let (busy, idle) = (factory.join(), factory.join());
    let topic = topic("busy");
    busy.subscribe(&topic).await;
    idle.subscribe(&self::topic("other")).await;
    for number in 0..1_000 {
        busy.publish(&topic, &number.to_string()).await;
    }
    busy.until_total(1_000).await;
    busy.publish(&self::topic("other"), "end").await;
    idle.until_total(1).await;
}

async fn a_node_that_left_disturbs_nobody(factory: Arc<dyn Factory>) {
    let (stays, leaves) = (factory.join(), factory.join());
    let topic = topic("t");
    stays.subscribe(&topic).await;
    leaves.subscribe(&topic).await;
    stays.publish(&topic, "1").await;
    leaves.until_total(1).await;
    let Node { broker, recorder, .. } = leaves;
    drop(broker);
    stays.publish(&topic, "2").await;
    stays.until_total(2).await;
    assert!(recorder.total() <= 2);
}

async fn five_thousand_topics_at_once(factory: Arc<dyn Factory>) {
    let (node, other) = (factory.join(), factory.join());
    let topics: Vec<_> = (0..5_000).map(|number| topic(&format!("topic {number}"))).collect();
    for topic in &topics {
        node.broker.subscribe(topic).unwrap();
    }
    node.subscribe(&self::topic("last")).await;
    for topic in &topics {
        other.publish(topic, topic.as_str()).await;
    }
    node.until_total(5_000).await;
    for topic in &topics {
        assert_eq!(node.recorder.texts(topic), [topic.as_str()]);
        node.broker.unsubscribe(topic).unwrap();
    }
    node.broker.unsubscribe(&self::topic("last")).unwrap();
    node.publish(&topics[7], "nobody").await;
    node.broker.flushed().await.ok();
    node.until_total(5_000).await;
}

async fn a_hundred_thousand_messages(factory: Arc<dyn Factory>) {
    let (node, other) = (factory.join(), factory.join());
    let topic = topic("many");
    node.subscribe(&topic).await;
    let start = Instant::now();
    for number in 0..100_000 {
        other.publish(&topic, &number.to_string()).await;
    }
    node.until_total(100_000).await;
    eprintln!("100,000 messages in {:?}", start.elapsed());
    let expected: Vec<_> = (0..100_000).map(|number| number.to_string()).collect();
    assert!(node.recorder.texts(&topic) == expected, "all, in order");
}

async fn big_and_binary_messages_stay_whole(factory: Arc<dyn Factory>) {
    let (node, other) = (factory.join(), factory.join());
    let topic = topic("big");
    node.subscribe(&topic).await;
    let origin = Origin { node: other.id, client: ClientId(u64::MAX) };
    let payloads: [Vec<u8>; 4] = [
        (0..MIB).map(|at| (at * 7) as u8).collect(),
        Vec::new(),
        (0..=255).collect(),
        b"$5\r\nhello\r\n*1\r\n".to_vec(),
    ];
    let said = payloads.map(|payload| {
        let payload = Bytes::from(payload);
        Publication { kind: Kind::Binary, origin, payload }
    });
    for publication in &said {
        other.broker.publish(&topic, publication.clone()).unwrap();
    }
    node.until_total(said.len()).await;
    let came = node.recorder.delivered(&topic);
    assert!(came == said.map(|publication| (publication, Reach::Everywhere)), "byte for byte");
}

async fn everything_is_out_after_a_flush(factory: Arc<dyn Factory>) {
    let (node, other) = (factory.join(), factory.join());
    let topic = topic("t");
    node.subscribe(&topic).await;
    for number in 0..1_000 {
        other.publish(&topic, &number.to_string()).await;
    }
    let _ = tokio::time::timeout(support::DEADLINE, other.broker.flushed()).await.unwrap();
    drop(other);
    node.until_total(1_000).await;
}

const MIB: usize = 1024 * 1024;
