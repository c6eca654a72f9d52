//! Who may subscribe to a topic and publish to it, by the claims of its token.

use serde_json::json;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::token::{USERS, handshake_with, token};
use tidewire_testkit::websocket::{WebSocket, handshake};

fn node() -> Tidewire {
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "node"
bind = "127.0.0.1:0"

[hub]

[[route]]
path = "/ws/{{topic}}"
auth = "users"
hub = {{ topic = "{{topic}}", subscribe = ["chat:{{sub}}:*", "team:{{teams}}", "public"], publish = ["chat:{{sub}}:*", "{{app.topic}}"] }}

[[route]]
path = "/news"
hub = {{ topic = "news", publish = [] }}
{USERS}"#
    ))
}

/// Joins as `claims`, or the status and the text that refuse it.
fn join(
    node: &Tidewire,
    topic: &str,
    claims: &serde_json::Value,
    is_v1: bool,
) -> Result<WebSocket, (u16, String)> {
    let text = handshake_with(&format!("/ws/{topic}"), &token(claims), is_v1);
    WebSocket::try_upgrade(Peer::connect(node.address()), &text)
        .map_err(|(response, _)| (response.status, response.text()))
}

#[test]
fn a_topic_that_may_not_be_subscribed_is_answered_403() {
    let node = node();
    let check = |topic: &str, claims: serde_json::Value, is_allowed: bool| match join(
        &node, topic, &claims, true,
    ) {
        Ok(_) => assert!(is_allowed, "{topic} {claims}"),
        Err((status, text)) => {
            assert!(!is_allowed, "{topic} {claims}: {text}");
            assert_eq!(status, 403, "{text}");
            assert!(text.contains("may not subscribe to this topic"), "{text}");
        }
    };
    check("chat:ann:1", json!({}), true);
    check("public", json!({}), true);
    check("chat:bob:1", json!({}), false);
    check("chat:*", json!({ "sub": "*" }), false);
    check("chat:ann:bob:1", json!({ "sub": "ann:bob" }), false);
    check("team:red", json!({ "teams": ["blue", "red"] }), true);
    check("team:red", json!({}), false);
    node.expect_metric("hub_denied_total", &["subscribe"], 4.0);
}

#[test]
fn what_may_not_be_published_is_dropped_and_its_sender_told() {
    let node = node();
    for is_v1 in [true, false] {
        let mut other = join(&node, "public", &json!({ "sub": "bob" }), false).unwrap();
        let mut client = join(&node, "public", &json!({}), is_v1).unwrap();
        if is_v1 {
            assert_eq!(client.json()["type"], "hello");
        }
        for _ in 0..20 {
            client.send("not allowed");
        }
        let told = client.json();
        let event = if is_v1 { &told["event"] } else { &told["tidewire"] };
        assert_eq!((event, &told["undelivered"]), (&"denied".into(), &1.into()), "{told}");
        // No flood of them, and who may is heard.
        client.expect_silence(std::time::Duration::from_millis(200));
        let mut boss =
            join(&node, "public", &json!({ "sub": "boss", "app": { "topic": "public" } }), false)
                .unwrap();
        boss.send("allowed");
        assert_eq!(other.text(), "allowed");
    }
    node.expect_metric("hub_denied_total", &["publish"], 40.0);
}

#[test]
fn a_topic_that_nobody_may_publish_to_needs_no_token() {
    let node = node();
    let mut socket = WebSocket::upgrade(Peer::connect(node.address()), &handshake("/news"));
    socket.send("hi");
    assert_eq!(socket.json()["tidewire"], "denied");
}

#[test]
fn a_newer_token_may_allow_more() {
    let node = node();
    let mut client = join(&node, "public", &json!({}), true).unwrap();
    assert_eq!(client.json()["type"], "hello");
    client.send("one");
    assert_eq!(client.json()["event"], "denied");
    let newer = token(&json!({ "app": { "topic": "public" } }));
    client.send(&json!({ "tidewire": "renew", "token": newer }).to_string());
    assert_eq!(client.json()["event"], "renewed");
    client.send("two");
    assert_eq!(client.json()["data"], "two");
}
