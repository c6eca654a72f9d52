//! What is revoked on one node holds on all, stays over restarts, and only who may revokes.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::child::{Child, Ended};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::redis::RedisServer;
use tidewire_testkit::script::echoes;
use tidewire_testkit::tidewire::{Tidewire, command, hub};
use tidewire_testkit::token::{USERS, handshake_with, next_second, token};
use tidewire_testkit::websocket::{Got, WebSocket};

/// A hub node at a broker, with `more` behind its configuration.
fn node(name: &str, redis: &RedisServer, more: &str) -> Tidewire {
    let broker = format!("broker = \"{}\"\nbroker_timeout = \"10s\"", redis.url());
    Tidewire::run(&format!("{}\n{more}", hub(name, &broker)))
}

/// What a node says to a POST to `/revocations` with these header lines.
fn post(node: &Tidewire, headers: &str, body: &str) -> Response {
    let length = body.len();
    ask(
        node.admin(),
        &format!(
            "POST /revocations HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ),
    )
}

const JSON: &str = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n";

#[track_caller]
fn revoke(node: &Tidewire, what: &Value) -> Value {
    let answer = post(node, JSON, &what.to_string()).expect(200);
    serde_json::from_slice(&answer.body).expect("the answer is JSON")
}

/// The names that a node knows as revoked.
#[track_caller]
fn revoked(node: &Tidewire) -> Vec<String> {
    let get = "GET /revocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer: Value = serde_json::from_slice(&ask(node.admin(), get).expect(200).body).unwrap();
    let list = answer["revocations"].as_array().expect("a list");
    let name = |one: &Value| one.get("subject").or(one.get("token_id")).cloned();
    let mut names: Vec<String> =
        list.iter().map(|one| name(one).unwrap().as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn expect_revoked(node: &Tidewire, expected: &[&str]) {
    until(&format!("it knows {expected:?}"), || (revoked(node) == expected).then_some(()));
}

#[test]
fn what_is_revoked_on_one_node_is_known_on_the_others_and_to_who_comes_late() {
    let Some(redis) = RedisServer::start() else { return };
    let nodes = ["server1", "server2"].map(|name| node(name, &redis, ""));
    nodes.iter().for_each(Tidewire::wait_until_ready);
    let answer = revoke(&nodes[0], &json!({ "subject": "ann", "for": "1h" }));
    assert_eq!((&answer["subject"], &answer["reach"]), (&"ann".into(), &"everywhere".into()));
    assert_eq!(answer["until"].as_u64().unwrap() - answer["at"].as_u64().unwrap(), 3600);
    expect_revoked(&nodes[1], &["ann"]);
    revoke(&nodes[1], &json!({ "token_id": "t-1" }));
    expect_revoked(&nodes[0], &["ann", "t-1"]);
    let late = node("server3", &redis, "");
    expect_revoked(&late, &["ann", "t-1"]);
    late.expect_metric("auth_revocations", &["server3"], 2.0);
    assert_eq!(late.metric("auth_revocations_malformed_total", &[]), 0.0);
}

#[test]
fn what_is_revoked_while_the_broker_is_away_is_told_when_it_is_back() {
    let Some(mut redis) = RedisServer::start() else { return };
    let nodes = ["server1", "server2"].map(|name| node(name, &redis, ""));
    nodes.iter().for_each(Tidewire::wait_until_ready);
    redis.kill();
    for node in &nodes {
        until("it says that its broker is away", || (node.readiness().status == 503).then_some(()));
    }
    let answer = revoke(&nodes[0], &json!({ "subject": "ann" }));
    assert_eq!(answer["reach"], "broker_away");
    revoke(&nodes[1], &json!({ "subject": "bob" }));
    assert_eq!(revoked(&nodes[0]), ["ann"]);
    redis.run();
    nodes.iter().for_each(|node| expect_revoked(node, &["ann", "bob"]));
}

#[test]
fn what_others_publish_on_the_channel_is_looked_at() {
    let Some(redis) = RedisServer::start() else { return };
    let node = node("server1", &redis, "");
    node.wait_until_ready();
    for junk in ["junk", "TW", "{\"version\":1}"] {
        let line = format!("PUBLISH \"tidewire:\\x01control\" '{junk}'");
        until("the node listens there", || {
            redis.command(&line).unwrap().starts_with(":1").then_some(())
        });
    }
    // An envelope of another node, around what is no message of ours.
    let envelope = "TW\\x01\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x00\\x00\
                    \\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01";
    redis.command(&format!("PUBLISH \"tidewire:\\x01control\" \"{envelope}nonsense\"")).unwrap();
    node.expect_metric("auth_revocations_malformed_total", &[], 1.0);
    assert_eq!(revoked(&node), [""; 0]);
    revoke(&node, &json!({ "subject": "ann" }));
}

#[test]
fn a_file_keeps_them_over_a_restart_and_a_broken_one_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("revocations.json");
    let config = |file: &str| {
        let more = format!("[revocation]\nfile = \"{file}\"\nmax = 2\n");
        format!("{}\n{more}", hub("server1", ""))
    };
    let node = Tidewire::run(&config(file.to_str().unwrap()));
    let answer = revoke(&node, &json!({ "token_id": "t-1" }));
    assert_eq!((&answer["reach"], &answer["saved"]), (&"node".into(), &true.into()));
    drop(node); // As kill -9.
    let node = Tidewire::run(&config(file.to_str().unwrap()));
    assert_eq!(revoked(&node), ["t-1"]);
    revoke(&node, &json!({ "token_id": "t-2" }));
    let full = post(&node, JSON, r#"{"token_id":"t-3"}"#).expect(507);
    assert!(full.text().contains("revocation.max"), "{}", full.text());
    node.expect_metric("auth_revocations_refused_total", &[], 1.0);
    drop(node);
    fs::write(&file, "{").unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, config(file.to_str().unwrap())).unwrap();
    let mut run = command();
    run.arg("run").arg("-c").arg(&path);
    let ended = Child::spawn(run).wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.has_line(&["revocations.json", "is broken"]), "{:#?}", ended.stderr);
}

#[test]
fn only_who_may_revokes() {
    let node = Tidewire::run(&hub("server1", ""));
    let check = |headers: &str, body: &str, expected: u16| {
        let answer = post(&node, headers, body);
        assert_eq!(answer.status, expected, "{headers} {body}: {}", answer.text());
        let fault: Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
        assert!(!fault["error"].as_str().unwrap().is_empty());
    };
    let ann = r#"{"subject":"ann"}"#;
    check(&format!("{JSON}Origin: http://127.0.0.1\r\n"), ann, 403);
    check(&format!("{JSON}Sec-Fetch-Site: cross-site\r\n"), ann, 403);
    check("Host: evil.test\r\nContent-Type: application/json\r\n", ann, 403);
    check("Host: 127.0.0.1\r\nContent-Type: text/plain\r\n", ann, 415);
    check("Host: 127.0.0.1\r\n", ann, 415);
    check(JSON, "", 400);
    check(JSON, "{}", 400);
    check(JSON, r#"{"subject":"ann","token_id":"t"}"#, 400);
    check(JSON, r#"{"subject":"ann","extra":1}"#, 400);
    check(JSON, r#"{"subject":""}"#, 400);
    check(JSON, r#"{"subject":"a\nb"}"#, 400);
    check(JSON, r#"{"subject":"ann","for":"0s"}"#, 400);
    check(JSON, r#"{"subject":"ann","for":"401d"}"#, 400);
    check(JSON, &format!(r#"{{"subject":"{}"}}"#, "x".repeat(1025)), 400);
    assert_eq!(post(&node, JSON, &" ".repeat(9_000)).status, 413);
    assert_eq!(revoked(&node), [""; 0]);
}

/// `tidewire revoke` with these arguments, at a node.
fn run_revoke(node: &Tidewire, arguments: &[&str], token: &str) -> Ended {
    let mut revoke = command();
    revoke.arg("revoke").args(arguments).arg("--admin").arg(format!("http://{}", node.admin()));
    revoke.env("TIDEWIRE_ADMIN_TOKEN", token);
    Child::spawn(revoke).wait()
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let config = format!(
        "{}\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = \"${{TOKEN}}\"\n",
        hub("server1", "")
    );
    let mut run = command();
    run.env("TOKEN", TOKEN);
    let node = Tidewire::run_by(run, &config);
    post(&node, JSON, r#"{"subject":"ann"}"#).expect(401);
    let ended = run_revoke(&node, &["--subject", "ann"], "wrong");
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.has_line(&["401", "this is not the token"]), "{:#?}", ended.stderr);
    let ended = run_revoke(&node, &["--subject", "ann", "--for", "2h"], TOKEN);
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    assert_eq!(
        ended.stdout,
        ["subject ann is revoked for 2h: on this node, which has no broker to others"]
    );
    let ended = run_revoke(&node, &["--list"], TOKEN);
    let [line] = &ended.stdout[..] else { panic!("{:#?}", ended.stdout) };
    assert!(line.starts_with("subject\tann\trevoked "), "{line}");
    node.terminate();
    let ended = node.wait();
    assert!(!ended.stderr.iter().any(|line| line.contains(TOKEN)), "{:#?}", ended.stderr);
}

#[test]
fn all_nodes_of_a_process_take_part() {
    let up = Tidewire::up(&["--nodes", "2"]);
    revoke(&up, &json!({ "subject": "ann" }));
    up.expect_metric("auth_revocations", &[], 3.0);
    assert_eq!(revoked(&up), ["ann"]);
    let unreachable = run_revoke_nowhere();
    assert!(unreachable.has_line(&["http://127.0.0.1:1", "cannot be reached"]), "{unreachable:#?}");
}

fn run_revoke_nowhere() -> Ended {
    let mut revoke = command();
    revoke.args(["revoke", "--subject", "ann", "--admin", "http://127.0.0.1:1"]);
    Child::spawn(revoke).wait_for(Duration::from_secs(20))
}

/// What ends a WebSocket and what does not: a token of ann on a hub node and through an edge, a
/// token of bob beside it.
#[test]
fn a_subject_that_is_revoked_on_one_node_is_closed_on_all() {
    let Some(redis) = RedisServer::start() else { return };
    let with_auth = |name: &str, route: &str| {
        let broker = format!("broker = \"{}\"\nbroker_timeout = \"10s\"", redis.url());
        format!("{}{route}{USERS}", hub(name, &broker))
            .replace("path = \"/ws/{topic}\"", "path = \"/ws/{topic}\"\nauth = \"users\"")
    };
    let server = Backend::start(echoes);
    let tunnel = format!(
        "\n[[route]]\npath = \"/tunnel\"\nauth = \"users\"\nbackend = \"nodes\"\n\
         [[backend]]\nname = \"nodes\"\nserver = [{{ name = \"a\", address = \"{}\" }}]\n",
        server.address()
    );
    let one = Tidewire::run(&with_auth("server1", ""));
    let other = Tidewire::run(&with_auth("server2", &tunnel));
    one.wait_until_ready();
    other.wait_until_ready();
    let join = |path: &str, token: &str| {
        WebSocket::try_upgrade(Peer::connect(other.address()), &handshake_with(path, token, false))
    };
    let (ann, bob) = (token(&json!({ "jti": "a1" })), token(&json!({ "sub": "bob", "jti": "b1" })));
    let open = ["/ws/echo", "/tunnel"].map(|path| join(path, &ann).unwrap());
    let mut others = ["/ws/echo", "/tunnel"].map(|path| join(path, &bob).unwrap());
    assert_eq!(revoke(&one, &json!({ "subject": "ann" }))["reach"], "everywhere");
    for mut socket in open {
        assert_eq!(socket.next(), Got::Close(Some(3003), "revoked".to_owned()));
        socket.send("after");
        socket.send_close(3003, "");
        socket.peer.expect_gone();
    }
    // The token does not come back, on any node; one that is issued later does.
    for path in ["/ws/echo", "/tunnel"] {
        let (answer, _) = join(path, &ann).unwrap_err();
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    next_second();
    let newer = token(&json!({ "jti": "a2" }));
    let mut back = join("/tunnel", &newer).unwrap();
    back.expect_echo("back");
    others[1].expect_echo("untouched");
    // A token by its id, and only that one.
    revoke(&one, &json!({ "token_id": "b1" }));
    for socket in &mut others {
        let end = until("its Close", || match socket.next() {
            Got::Text(_) => None,
            other => Some(other),
        });
        assert_eq!(end, Got::Close(Some(3003), "revoked".to_owned()));
        socket.send_close(3003, "");
        socket.peer.expect_gone();
    }
    back.expect_echo("still back");
    other.expect_metric("edge_ends_total", &["reason=\"revoked\""], 4.0);
}
