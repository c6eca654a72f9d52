//! The hub with real sockets: two nodes on one broker, clients that behave and clients that do not.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{Client, Got, frame};
use support::nodes::{two_nodes, two_nodes_on};
use support::redis_server::RedisServer;
use support::service::TestNode;
use support::until;
use tidewire_hub::close::Close;
use tidewire_runtime::units::{Period, Size};
use tidewire_wire::ws::close::CloseCode;
use tidewire_wire::ws::frame::Opcode;

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_crosses_nodes() {
    let (one, two) = two_nodes(|_| {});
    messages_cross(&one, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_crosses_nodes_through_redis() {
    let Some(server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |_| {}).await;
    messages_cross(&one, &two).await;
}

async fn messages_cross(one: &TestNode, two: &TestNode) {
    let mut a = one.client("/ws/chat").await;
    let mut b = two.client("/ws/chat").await;
    let mut stranger = two.client("/ws/other").await;
    a.send("hi from a").await;
    assert_eq!(a.next().await, text("hi from a"));
    assert_eq!(b.next().await, text("hi from a"));
    b.send_frame(Opcode::Binary, b"\0\xFF").await;
    assert_eq!(a.next().await, Got::Binary(b"\0\xFF".to_vec()));
    assert_eq!(b.next().await, Got::Binary(b"\0\xFF".to_vec()));
    let big = "ü".repeat(30_000);
    a.send(&big).await;
    assert_eq!(b.next().await.text(), big);
    stranger.send("end").await;
    assert_eq!(stranger.next().await, text("end"), "other topics are other topics");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_its_101_misses_nothing() {
    let Some(server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |_| {}).await;
    // The answer waits for the broker's.
    server.freeze();
    let address = two.address;
    let mut connecting = tokio::spawn(async move { Client::connect(address, "/ws/slow").await });
    let soon = tokio::time::timeout(Duration::from_millis(100), &mut connecting).await;
    assert!(soon.is_err(), "the subscription does not stand yet");
    server.thaw();
    let _listener = connecting.await.unwrap();
    assert_eq!(two.sum(|metrics| metrics.degraded_admissions.value()), 0);

    let mut speaker = Vec::new();
    for number in 0..100 {
        speaker.push(one.client(&format!("/ws/{number}")).await);
    }
    for (number, speaker) in speaker.iter_mut().enumerate() {
        let mut listener = two.client(&format!("/ws/{number}")).await;
        speaker.send("at once").await;
        assert_eq!(listener.next().await, text("at once"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_see_one_order_on_all_nodes() {
    let Some(server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |_| {}).await;
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push([&one, &two][number % 2].client("/ws/order").await);
    }
    let count = 200;
    for round in 0..count {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&format!("{number} {round}")).await;
        }
    }
    let mut first = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let mut got = Vec::new();
        for _ in 0..8 * count {
            got.push(client.next().await.text());
        }
        if number == 0 {
            first = got;
        } else {
            assert!(first == got, "client {number} sees another order");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_can_be_left_out() {
    let (one, two) = two_nodes(|_| {});
    let mut a = one.client("/others/t").await;
    let mut same = one.client("/others/t").await;
    let mut other = two.client("/others/t").await;
    // All at once, so that a turn has own and foreign messages side by side.
    for number in 0..100 {
        a.send(&format!("a{number}")).await;
        same.send(&format!("s{number}")).await;
    }
    for number in 0..100 {
        assert_eq!(a.next().await, text(&format!("s{number}")));
        assert_eq!(same.next().await, text(&format!("a{number}")));
    }
    let mut got = Vec::new();
    for _ in 0..200 {
        got.push(other.next().await.text());
    }
    assert!(got.iter().filter(|it| it.starts_with('a')).is_sorted_by_key(|it| it[1..].len()));
    a.nothing_for(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_says_which_server_the_sender_is_on() {
    let (one, two) = two_nodes(|_| {});
    let mut a = one.client("/reply/t").await;
    let mut b = two.client("/reply/t").await;
    a.send("hi").await;
    assert_eq!(a.next().await, text("server1: hi"));
    assert_eq!(b.next().await, text("server1: hi"));
    b.send_frame(Opcode::Binary, b"bytes").await;
    assert_eq!(a.next().await, Got::Binary(b"bytes".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn v1_says_hello_and_marks_own_messages() {
    let (one, two) = two_nodes(|_| {});
    let mut a = one.client_v1("/ws/t").await;
    assert_eq!(a.subprotocol.as_deref(), Some("tidewire.v1"));
    let hello = a.next().await.json();
    assert_eq!(hello, json!({ "type": "hello", "node": "server1", "topic": "t" }));
    let mut b = two.client_v1("/ws/t").await;
    assert_eq!(b.next().await.json()["node"], "server2");
    let mut raw = two.client("/ws/t").await;
    a.send("one").await;
    raw.send("two").await;
    for _ in 0..2 {
        let (a, b) = (a.next().await.json(), b.next().await.json());
        assert_eq!(a["data"], b["data"]);
        assert_eq!(a.get("own").is_some(), a["data"] == "one");
        assert!(b.get("own").is_none());
    }
    let mut got = [raw.next().await.text(), raw.next().await.text()];
    got.sort();
    assert_eq!(got, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_closed_and_the_others_are_not_disturbed() {
    // Time enough to come to its Close.
    let (one, two) = two_nodes(|config| config.close_timeout = Period::from_secs(60));
    let mut slow = Client::connect_with(one.address, "/ws/t", &[], b"", Some(4096)).await;
    let mut fast = vec![one.client("/ws/t").await, two.client("/ws/t").await];
    let mut speaker = one.client("/others/t").await;
    let payload = "x".repeat(4_000);
    const BATCH: usize = 50; // 200 KB: less than a queue holds.
    let count = 2_000; // 8 MB: more than the kernel and the queue hold.
    for batch in 0..count / BATCH {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        for number in numbers.clone() {
            speaker.send(&format!("{number} {payload}")).await;
        }
        // However busy the machine is, they are not slow.
        for client in &mut fast {
            for number in numbers.clone() {
                let got = client.next().await.text();
                assert!(got.starts_with(&format!("{number} ")), "all, in order");
            }
        }
    }
    until("it is closed", || one.sum(|metrics| metrics.slow_closes.value()) == 1).await;
    // What it had begun to get is whole; then comes the Close, if it reads in time.
    let mut messages = 0;
    let last = loop {
        match slow.next().await {
            Got::Text(text) => {
                assert!(text.starts_with(&format!("{messages} ")) && text.len() >= 4_000);
                messages += 1;
            }
            other => break other,
        }
    };
    assert_eq!(last, Got::Close(Some(1013), "too slow for its messages".into()));
    assert!(messages < count);
    slow.send_close(1013).await;
    let end = one.end().await;
    assert_eq!((end.close, end.code), (Close::Slow, Some(CloseCode::TRY_AGAIN_LATER)));
    assert_eq!(slow.next().await, Got::End);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_that_never_reads_again_is_dropped() {
    let (one, _two) = two_nodes(|config| config.close_timeout = Period::from_millis(300));
    let _slow = Client::connect_with(one.address, "/ws/t", &[], b"", Some(4096)).await;
    let mut speaker = one.client("/others/t").await;
    let payload = "x".repeat(60_000);
    let sending = Instant::now();
    while one.sum(|metrics| metrics.slow_closes.value()) == 0 {
        speaker.send(&payload).await;
        assert!(sending.elapsed() < support::DEADLINE);
    }
    assert_eq!(one.end().await.close, Close::Slow);
    until("it is gone", || one.clients() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_closes_clients_with_1001_behind_what_is_queued() {
    let (one, two) = two_nodes(|config| config.queue = Size(32 << 20));
    let mut quiet = one.client("/ws/quiet").await;
    let mut behind = Client::connect_with(one.address, "/ws/t", &[], b"", Some(4096)).await;
    let mut speaker = two.client("/others/t").await;
    // 16 MB: more than the kernel holds for it.
    let count = 400;
    for number in 0..count {
        speaker.send(&format!("{number} {}", "x".repeat(40_000))).await;
    }
    until("all is handed over", || one.sum(|it| it.messages_out.value()) == count).await;
    one.drain(Duration::from_secs(60));
    assert_eq!(quiet.next().await, Got::Close(Some(1001), "the server goes away".into()));
    // It had not seen our Close yet when it said this.
    let mut listener = two.client("/ws/quiet").await;
    quiet.send("last words").await;
    assert_eq!(listener.next().await, text("last words"));
    quiet.send_close(1001).await;
    assert_eq!(quiet.next().await, Got::End);
    for number in 0..count {
        assert!(behind.next().await.text().starts_with(&format!("{number} ")));
    }
    assert!(matches!(behind.next().await, Got::Close(Some(1001), _)));
    drop(behind);
    for _ in 0..2 {
        assert_eq!(one.end().await.close, Close::Drained);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_the_drain_is_dropped_at_its_deadline() {
    let (one, _two) = two_nodes(|_| {});
    let mut client = one.client("/ws/t").await;
    one.drain(Duration::from_millis(300));
    assert!(matches!(client.next().await, Got::Close(Some(1001), _)));
    assert_eq!(one.end().await.close, Close::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscribers_get_every_message() {
    let (one, two) = two_nodes(|_| {});
    let mut clients = Vec::new();
    for number in 0..1_000 {
        clients.push([&one, &two][number % 2].client("/ws/t").await);
    }
    let mut speaker = one.client("/others/t").await;
    for number in 0..50 {
        speaker.send(&number.to_string()).await;
    }
    for client in &mut clients {
        for number in 0..50 {
            assert_eq!(client.next().await, text(&number.to_string()));
        }
    }
    let sum = |of: fn(&tidewire_hub::metrics::HubMetrics) -> u64| one.sum(of) + two.sum(of);
    assert_eq!(sum(|metrics| metrics.messages_out.value()), 50_000);
    assert_eq!(sum(|metrics| metrics.messages_in.value()), 50);
    drop(clients);
    until("all are gone", || one.clients() + two.clients() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_loses_nothing() {
    let (one, two) = two_nodes(|config| {
        config.queue = Size(64 << 20);
        config.worker_queue = Size(256 << 10);
    });
    let mut listener = two.client("/ws/t").await;
    let count = 100_000;
    let address = one.address;
    let flood = tokio::spawn(async move {
        let mut speaker = Client::connect(address, "/others/t").await;
        for chunk in 0..count / 1_000 {
            let numbers = chunk * 1_000..(chunk + 1) * 1_000;
            let frames: Vec<_> =
                numbers.map(|it| frame(Opcode::Text, it.to_string().as_bytes())).collect();
            speaker.send_bytes(&frames.concat()).await;
        }
        speaker
    });
    for number in 0..count {
        assert_eq!(listener.next().await, text(&number.to_string()));
    }
    flood.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_the_handshake_is_heard_first() {
    let (one, _two) = two_nodes(|_| {});
    let early = frame(Opcode::Text, b"early");
    let mut client = Client::connect_with(one.address, "/ws/t", &[], &early, None).await;
    assert_eq!(client.next().await, text("early"));
    client.send("late").await;
    assert_eq!(client.next().await, text("late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_a_close_is_too() {
    let (one, _two) = two_nodes(|_| {});
    let mut client = one.client("/ws/t").await;
    client.send_frame(Opcode::Ping, b"are you there").await;
    assert_eq!(client.next_any().await, Got::Pong(b"are you there".to_vec()));
    client.send("hi").await;
    assert_eq!(client.next().await, text("hi"));
    client.send_close(4001).await;
    assert_eq!(client.next().await, Got::Close(Some(4001), String::new()));
    assert_eq!(client.next().await, Got::End);
    let end = one.end().await;
    assert_eq!(end.close, Close::Left(Some(CloseCode::new(4001))));
    assert_eq!((end.traffic.messages_in, end.traffic.messages_out), (1, 1));
    assert!(end.traffic.bytes_in > 20 && end.traffic.bytes_out > 8);
}

/// What a client sends, and the code that it is closed with.
async fn check_violation(node: &TestNode, bytes: &[u8], code: u16) {
    let mut client = node.client("/ws/t").await;
    client.send_bytes(bytes).await;
    let got = client.next().await;
    assert!(matches!(got, Got::Close(Some(it), _) if it == code), "{got:?}, not {code}");
    client.send_close(code).await;
    assert_eq!(client.next().await, Got::End);
    drop(client);
    let end = node.end().await;
    assert!(matches!(end.close, Close::Violation(_)), "{end:?}");
    assert_eq!(end.code, Some(CloseCode::new(code)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_a_rule_is_closed_with_its_code() {
    let (one, _two) = two_nodes(|config| config.max_fragments = 3);
    check_violation(&one, b"\x81\x02hi", 1002).await;
    check_violation(&one, b"\xF1\x80\0\0\0\0", 1002).await;
    check_violation(&one, &frame(Opcode::Text, b"\xFF"), 1007).await;
    check_violation(&one, b"\x81\xFF\0\0\0\0\0\x01\0\x01\0\0\0\0", 1009).await;
    let fragments = [&b"\x01\x80\0\0\0\0"[..], &b"\x00\x80\0\0\0\0".repeat(3)].concat();
    check_violation(&one, &fragments, 1009).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_violation_is_delivered() {
    let (one, _two) = two_nodes(|_| {});
    let mut client = one.client("/ws/t").await;
    let mut other = one.client("/ws/t").await;
    client.send_bytes(&[&frame(Opcode::Text, b"good"), &b"\x81\x02no"[..]].concat()).await;
    assert_eq!(client.next().await, text("good"));
    assert!(matches!(client.next().await, Got::Close(Some(1002), _)));
    assert_eq!(other.next().await, text("good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_hears_why_although_it_goes_on() {
    let (one, _two) = two_nodes(|_| {});
    let mut client = one.client("/ws/t").await;
    // A message of 1 MiB where 64 KiB are allowed, all of it sent.
    client.send_bytes(&frame(Opcode::Binary, &vec![0; 1 << 20])).await;
    assert!(matches!(client.next().await, Got::Close(Some(1009), _)));
    client.send_close(1009).await;
    assert_eq!(client.next().await, Got::End);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_without_a_word_is_gone() {
    let (one, _two) = two_nodes(|_| {});
    let client = one.client("/ws/t").await;
    drop(client);
    let end = one.end().await;
    assert!(matches!(end.close, Close::Gone), "{end:?}");
    let client = one.client("/ws/t").await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    let end = one.end().await;
    assert!(matches!(end.close, Close::Broken(_)), "{end:?}");
    until("the topic is given back", || one.sum(|metrics| metrics.topics.value()) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_does_is_not() {
    let (one, _two) = two_nodes(|config| {
        config.ping = Period::from_millis(400);
        config.pong = Period::from_secs(3);
    });
    let mut dead = one.client("/ws/t").await;
    dead.play_dead();
    let mut alive = one.client("/ws/t").await;
    let address = one.address;
    let living = tokio::spawn(async move { alive.next().await });
    assert_eq!(dead.next().await, Got::Close(Some(1001), "no answer to a ping".into()));
    dead.send_close(1001).await;
    assert_eq!(one.end().await.close, Close::Silent);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let mut other = Client::connect(address, "/ws/t").await;
    other.send("still there?").await;
    assert_eq!(living.await.unwrap(), text("still there?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_is_closed_although_it_answers_pings() {
    let (one, _two) = two_nodes(|config| {
        config.ping = Period::from_millis(300);
        config.idle = Period::from_millis(900);
    });
    let start = Instant::now();
    let mut client = one.client("/ws/t").await;
    assert_eq!(client.next().await, Got::Close(Some(1001), "no message for too long".into()));
    assert!(start.elapsed() >= Duration::from_millis(700));
    client.send_close(1001).await;
    assert_eq!(one.end().await.close, Close::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_a_clients_end_stays_there() {
    let (one, _two) = two_nodes(|_| {});
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(one.client("/ws/t").await);
    }
    let victim = one.client("/ws/t").await;
    one.panics.store(true, Ordering::Relaxed);
    drop(victim);
    until("the panic", || !one.panics.load(Ordering::Relaxed)).await;
    until("it is gone", || one.clients() == 4).await;
    others[0].send("still here").await;
    for other in &mut others {
        assert_eq!(other.next().await, text("still here"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_unsubscribed_when_its_last_client_has_left() {
    let Some(server) = RedisServer::start() else { return };
    let (one, _two) = two_nodes_on(&server, |_| {}).await;
    let channels = || server.command(&[b"PUBSUB", b"CHANNELS"]);
    let first = one.client("/ws/t").await;
    assert!(channels().contains("tidewire:t"));
    drop(first);
    let second = one.client("/ws/t").await;
    until("the first is gone", || one.clients() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(channels().contains("tidewire:t"));
    drop(second);
    until("the channel is left", || !channels().contains("tidewire:t")).await;
}
