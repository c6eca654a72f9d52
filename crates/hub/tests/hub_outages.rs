//! What clients notice while the broker is away, and when it is back.

mod support;

use std::time::Duration;

use serde_json::json;
use support::client::Got;
use support::nodes::{two_nodes_on, until_away, until_connected};
use support::redis_server::RedisServer;
use support::until;
use tidewire_hub::close::Close;
use tidewire_hub::config::{Away, HubConfig};
use tidewire_runtime::units::Period;

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_senders_are_told_and_the_node_goes_on() {
    let Some(mut server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |_| {}).await;
    let mut speaker = one.client("/ws/t").await;
    let mut neighbour = one.client("/ws/t").await;
    let mut page = one.client_v1("/ws/t").await;
    assert_eq!(page.next().await.json()["type"], "hello");
    let mut remote = two.client("/ws/t").await;
    server.kill();
    until_away(&[&one, &two]).await;
    let told = page.next().await.json();
    assert_eq!((&told["type"], &told["event"]), (&json!("notice"), &json!("degraded")));

    for number in 0..3 {
        speaker.send(&number.to_string()).await;
        assert_eq!(speaker.next().await, text(&number.to_string()));
        assert_eq!(neighbour.next().await, text(&number.to_string()));
        assert_eq!(page.next().await.json()["data"], json!(number.to_string()));
        if number == 0 {
            let told = speaker.next().await.json();
            assert_eq!(told["tidewire"], "degraded");
            assert_eq!(told["undelivered"], 1);
        }
    }
    // Who comes now comes all the same, and is told.
    let mut late = two.client_v1("/ws/late").await;
    assert_eq!(late.next().await.json()["type"], "hello");
    assert_eq!(late.next().await.json()["event"], "degraded");

    server.run();
    until_connected(&[&one, &two]).await;
    let told = speaker.next().await.json();
    assert_eq!((&told["tidewire"], &told["undelivered"]), (&json!("restored"), &json!(3)));
    let told = page.next().await.json();
    assert_eq!((&told["event"], &told["undelivered"]), (&json!("restored"), &json!(0)));
    assert_eq!(late.next().await.json()["event"], "restored");
    speaker.send("together again").await;
    for client in [&mut speaker, &mut neighbour, &mut remote] {
        assert_eq!(client.next().await, text("together again"));
    }
    until("all three", || one.sum(|metrics| metrics.publish_undelivered.value()) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_to_a_redis_that_hangs_is_told_to_its_sender() {
    let Some(server) = RedisServer::start() else { return };
    let hasty = |config: &mut HubConfig| config.broker_timeout = Period::from_secs(3);
    let (one, two) = two_nodes_on(&server, hasty).await;
    let mut speaker = one.client("/ws/t").await;
    server.freeze();
    speaker.send("is anyone there").await;
    assert_eq!(speaker.next().await, text("is anyone there"));
    assert_eq!(speaker.next().await.json()["tidewire"], "degraded");
    server.thaw();
    until_connected(&[&one, &two]).await;
    assert_eq!(speaker.next().await.json()["undelivered"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_can_be_closed_while_the_broker_is_away() {
    let Some(mut server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |config| config.away = Away::Close).await;
    let mut speaker = one.client("/ws/t").await;
    let mut listener = one.client("/ws/t").await;
    server.kill();
    until_away(&[&one, &two]).await;
    speaker.send("hi").await;
    assert_eq!(listener.next().await, text("hi"));
    assert_eq!(speaker.next().await, text("hi"));
    assert!(matches!(speaker.next().await, Got::Close(Some(1013), _)));
    speaker.send_close(1013).await;
    assert_eq!(one.end().await.close, Close::BrokerAway);
    listener.nothing_for(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_can_be_left_alone_while_the_broker_is_away() {
    let Some(mut server) = RedisServer::start() else { return };
    let (one, two) = two_nodes_on(&server, |config| config.away = Away::Quiet).await;
    let mut speaker = one.client_v1("/ws/t").await;
    assert_eq!(speaker.next().await.json()["type"], "hello");
    server.kill();
    until_away(&[&one, &two]).await;
    speaker.send("hi").await;
    assert_eq!(speaker.next().await.json()["data"], "hi");
    server.run();
    until_connected(&[&one, &two]).await;
    speaker.nothing_for(Duration::from_millis(50)).await;
    until("it is counted", || one.sum(|metrics| metrics.publish_undelivered.value()) == 1).await;
}

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}
