//! What Redis does as a broker when things go wrong: killed, frozen, its connections cut, foreign
//! messages, wrong passwords. With a real redis-server.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use support::recorder::{Node, REDIS_TIMEOUT};
use support::redis_server::RedisServer;
use support::service::topic;
use support::until;
use tidewire_hub::broker::envelope::Envelope;
use tidewire_hub::broker::{BrokerState, Reach, Room};
use tidewire_hub::publication::{ClientId, Kind, NodeId, Origin, Publication};
use tidewire_hub::topic::Topic;

#[tokio::test(flavor = "multi_thread")]
async fn messages_flow_again_after_redis_was_killed() {
    let Some(mut server) = RedisServer::start() else { return };
    let (a, b) = (Node::join_redis(&server.url(), MIB).0, Node::join_redis(&server.url(), MIB).0);
    let topics: Vec<_> = (0..2_000).map(|number| topic(&number.to_string())).collect();
    for topic in &topics {
        a.broker.subscribe(topic).unwrap();
        b.broker.subscribe(topic).unwrap();
    }
    subscribe_both(&a, &b, &topic("last")).await;
    a.publish(&topics[0], "before").await;
    b.until_total(1).await;

    server.kill();
    until("both know", || a.recorder.is_away() && b.recorder.is_away()).await;
    a.publish(&topics[1], "within the node").await;
    a.until_total(2).await;
    assert_eq!(a.recorder.delivered(&topics[1])[0].1, Reach::Node);

    server.run();
    until("both are back", || is_connected(&a) && is_connected(&b)).await;
    for topic in &topics {
        a.publish(topic, "after").await;
    }
    b.until_total(1 + topics.len()).await;
    a.until_total(2 + topics.len()).await;
    assert_eq!(b.recorder.texts(&topics[1]), ["after"], "what stayed within A does not come late");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_redis_dies_is_told_apart() {
    for round in 0..5 {
        let Some(mut server) = RedisServer::start() else { return };
        let (node, metrics) = Node::join_redis(&server.url(), 64 * MIB);
        let topic = topic("t");
        node.subscribe(&topic).await;
        let count = 20_000;
        for number in 0..count {
            node.publish(&topic, &number.to_string()).await;
            if number == 10_000 + round * 500 {
                server.kill();
            }
        }
        node.until_total(count).await;
        let came = node.recorder.delivered(&topic);
        let numbers: Vec<_> = node.recorder.texts(&topic);
        let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        assert!(numbers == expected, "the node misses nothing, and nothing comes twice");
        // Everywhere, then perhaps, then certainly not: in this order.
        let reaches: Vec<_> = came.iter().map(|(_, reach)| *reach as u8).collect();
        let order = |reach: &u8| [0, 2, 1][usize::from(*reach)];
        assert!(reaches.is_sorted_by_key(order), "publications keep their order over the break");
        let unknown = came.iter().filter(|(_, reach)| *reach == Reach::Unknown).count();
        assert_eq!(metrics.unknown.value(), unknown as u64);
        assert_eq!(came.last().unwrap().1, Reach::Node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_found_and_nothing_comes_twice() {
    let Some(server) = RedisServer::start() else { return };
    let (a, a_metrics) = Node::join_redis_hasty(&server.url(), 16 * MIB);
    let (b, _) = Node::join_redis_hasty(&server.url(), MIB);
    let topic = topic("t");
    subscribe_both(&a, &b, &topic).await;
    server.freeze();
    let frozen = Instant::now();
    // More than Redis reads at once, so that new connections come between them.
    let (count, padding) = (200, "x".repeat(16 * 1024));
    for number in 0..count {
        a.publish(&topic, &format!("{number} frozen {padding}")).await;
    }
    until("both know", || a.recorder.is_away() && b.recorder.is_away()).await;
    let found = frozen.elapsed();
    assert!(found < 5 * REDIS_TIMEOUT, "found after {found:?}");
    assert!(a.recorder.why().contains("no answer"), "{}", a.recorder.why());
    a.until_total(count).await;
    assert!(a.recorder.delivered(&topic).iter().all(|(_, reach)| *reach == Reach::Unknown));

    // Redis may find some in the buffers of a connection that is gone, and publish them.
    server.thaw();
    until("both are back", || is_connected(&a) && is_connected(&b)).await;
    for number in count..2 * count {
        a.publish(&topic, &format!("{number} after")).await;
    }
    let last = format!("{} after", 2 * count - 1);
    until("the last one", || b.recorder.texts(&topic).last() == Some(&last)).await;
    a.until_total(2 * count).await;
    let texts = b.recorder.texts(&topic);
    let number = |text: &String| text.split_once(' ').unwrap().0.parse::<usize>().unwrap();
    let numbers: Vec<_> = texts.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "none late, none twice: {numbers:?}");
    assert!(numbers.ends_with(&(count..2 * count).collect::<Vec<_>>()), "no new one is missing");
    assert_eq!(a_metrics.unknown.value(), count as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_accepted_is_forgotten_when_redis_hangs() {
    let Some(server) = RedisServer::start() else { return };
    let (node, _) = Node::join_redis_hasty(&server.url(), MIB);
    let topic = topic("t");
    node.subscribe(&topic).await;
    server.freeze();
    // Until all is full: what is under way, what waits for it, and the queue.
    let padding = "x".repeat(100 * 1024);
    let mut accepted = 0;
    while !node.recorder.is_away() {
        let publication = node.publication(&format!("{accepted} {padding}"));
        match node.broker.publish(&topic, publication) {
            Ok(_) => accepted += 1,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    assert!(accepted * padding.len() > 8 * MIB, "{accepted} were accepted");
    node.until_total(accepted).await;
    let texts = node.recorder.texts(&topic);
    let number = |text: &String| text.split_once(' ').unwrap().0.parse::<usize>().unwrap();
    assert!(texts.iter().map(number).eq(0..accepted), "all, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_wanted_while_redis_comes_back_are_subscribed() {
    let Some(server) = RedisServer::start() else { return };
    let (node, _) = Node::join_redis_hasty(&server.url(), MIB);
    node.subscribe(&topic("first")).await;
    server.freeze();
    until("it knows", || node.recorder.is_away()).await;
    // Connections are accepted by the kernel and then hang, so some come during an attempt.
    let topics: Vec<_> = (0..100).map(|number| topic(&number.to_string())).collect();
    for pair in topics.chunks(2) {
        node.broker.subscribe(&pair[0]).unwrap();
        node.broker.subscribe(&pair[1]).unwrap();
        node.broker.unsubscribe(&pair[1]).unwrap();
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    server.thaw();
    until("it is back", || is_connected(&node)).await;
    let other = Node::join_redis(&server.url(), MIB).0;
    for topic in &topics {
        other.publish(topic, "after").await;
    }
    other.publish(&topic("first"), "end").await;
    until("the end", || node.recorder.texts(&topic("first")) == ["end"]).await;
    for pair in topics.chunks(2) {
        assert_eq!(node.recorder.texts(&pair[0]), ["after"]);
        assert_eq!(node.recorder.total(), 1 + topics.len() / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_flow_again_after_the_connections_were_killed() {
    let Some(server) = RedisServer::start() else { return };
    let (a, metrics) = Node::join_redis(&server.url(), MIB);
    let (b, _) = Node::join_redis(&server.url(), MIB);
    let topic = topic("t");
    subscribe_both(&a, &b, &topic).await;
    let reply = server.command(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    assert_eq!(reply, ":2\r\n");
    until("a new connection", || metrics.connects.value() == 2 && is_connected(&a)).await;
    until("b is back", || is_connected(&b)).await;
    let before = b.recorder.total();
    a.publish(&topic, "after").await;
    b.until_total(before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_is_dropped_and_counted() {
    let Some(server) = RedisServer::start() else { return };
    let (node, metrics) = Node::join_redis(&server.url(), MIB);
    let topic = topic("t");
    node.subscribe(&topic).await;
    let too_big = [&b"TW\x01\x02"[..], &[9; 24], &vec![0; 2 * MIB + 1]].concat();
    let foreign: [&[u8]; 6] =
        [b"", b"hello", b"TW", &[b'T'; 28], b"TW\x01\x01nodenode clientcl sequence\xFF", &too_big];
    for payload in foreign {
        server.command(&[b"PUBLISH", b"test:t", payload]);
    }
    node.publish(&topic, "ours").await;
    node.until_total(1).await;
    assert_eq!(metrics.foreign.value(), foreign.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_or_again_is_dropped_and_counted() {
    let Some(server) = RedisServer::start() else { return };
    let (node, metrics) = Node::join_redis(&server.url(), MIB);
    let topic = topic("t");
    node.subscribe(&topic).await;
    let elsewhere = NodeId::random();
    let say = |node: NodeId, sequence: u64| {
        let origin = Origin { node, client: ClientId(1) };
        let payload = Bytes::from(sequence.to_string());
        let publication = Publication { kind: Kind::Text, origin, payload };
        let mut bytes = Vec::new();
        Envelope { sequence, publication }.encode(&mut bytes);
        server.command(&[b"PUBLISH", b"test:t", &bytes]);
    };
    for sequence in [5, 7, 6, 7, 5, 8] {
        say(elsewhere, sequence);
    }
    // In the name of this node, which has not said it: believed, it would silence the node.
    say(node.id, 1_000_000);
    node.publish(&topic, "own").await;
    node.until_total(4).await;
    assert_eq!(node.recorder.texts(&topic), ["5", "7", "8", "own"]);
    assert_eq!((metrics.late.value(), metrics.foreign.value()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_later_is_found() {
    let Some(mut server) = RedisServer::prepare(&[]) else { return };
    let (node, _) = Node::join_redis(&server.url(), MIB);
    let topic = topic("t");
    node.broker.subscribe(&topic).unwrap();
    until("it knows", || node.recorder.is_away()).await;
    assert!(node.recorder.why().contains("cannot connect"), "{}", node.recorder.why());
    node.publish(&topic, "alone").await;
    node.until_total(1).await;
    server.run();
    until("it is there", || is_connected(&node) && node.recorder.is_subscribed(&topic)).await;
    Node::join_redis(&server.url(), MIB).0.publish(&topic, "together").await;
    node.until_total(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_permissions_count() {
    let mute = ["--user", "mute", "on", ">pw", "~*", "&*", "+@all", "-publish"];
    let options = [&["--requirepass", "s@cr:t"], &mute[..]].concat();
    let Some(server) = RedisServer::start_with(&options) else { return };
    let (good, _) = Node::join_redis(&server.url_for(":s%40cr%3At"), MIB);
    until("the right password", || is_connected(&good)).await;
    let (bad, _) = Node::join_redis(&server.url_for(":wrong"), MIB);
    until("the wrong one", || bad.recorder.is_away()).await;
    let why = bad.recorder.why();
    assert!(why.to_lowercase().contains("auth") || why.contains("WRONGPASS"), "{why}");
    let (mute, _) = Node::join_redis(&server.url_for("mute:pw"), MIB);
    until("the user that may not publish", || is_connected(&mute)).await;
    let topic = topic("t");
    mute.subscribe(&topic).await;
    mute.publish(&topic, "hi").await;
    mute.until_total(1).await;
    assert_eq!(mute.recorder.delivered(&topic)[0].1, Reach::Unknown);
    // For a moment: it may be back already.
    until("it is away for that", || mute.recorder.was_away_for("perm")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_early_that_room_is_scarce() {
    let Some(server) = RedisServer::start() else { return };
    let (node, _) = Node::join_redis_hasty(&server.url(), 64 * 1024);
    let topic = topic("t");
    node.subscribe(&topic).await;
    server.freeze();
    let text = "x".repeat(64 * 1024);
    let mut rooms = Vec::new();
    // What is under way has a bound of its own, so this takes some.
    for _ in 0..100_000 {
        rooms.push(node.broker.publish(&topic, node.publication(&text[..1000])));
        if rooms.last().unwrap().is_err() {
            break;
        }
    }
    assert!(rooms.last().unwrap().is_err(), "the bound holds");
    assert_eq!(rooms[rooms.len() - 2], Ok(Room::Scarce));
    let accepted = rooms.len() - 1;
    node.until_total(accepted).await;
}

async fn subscribe_both(a: &Node, b: &Node, topic: &Topic) {
    a.subscribe(topic).await;
    b.subscribe(topic).await;
}

fn is_connected(node: &Node) -> bool {
    matches!(node.recorder.state(), BrokerState::Connected)
}

const MIB: usize = 1024 * 1024;
