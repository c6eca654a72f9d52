//! One line for the end of each WebSocket and each request, which says all and cannot be forged.

use std::process::Command;

use serde_json::{Value, json};
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{self, Tidewire};
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

/// The lines of an edge that are about the end of a WebSocket, once there are so many and the edge
/// has ended.
fn websocket_lines(edge: Tidewire, count: usize) -> Vec<Value> {
    let is_about = |line: &&String| line.contains("\"message\":\"websocket\"");
    // Not left to the end: what is logged there is not waited for without end.
    until("all is logged", || {
        (edge.child.stderr().iter().filter(is_about).count() >= count).then_some(())
    });
    edge.terminate();
    let ended = edge.wait();
    let lines = ended.stderr.iter().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    });
    lines.filter(|line| line["message"] == "websocket").collect()
}

#[test]
fn a_websocket_leaves_one_line_that_says_all() {
    let rig = Rig::with(script::echoes, "[log]\nformat = \"json\"");
    let mut socket = rig.open();
    let client = socket.peer.local_address().to_string();
    socket.expect_echo("one");
    socket.expect_echo("two");
    socket.send_close(4000, "bye");
    socket.peer.expect_gone();
    let lines = websocket_lines(rig.edge, 1);
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let opened = line["opened_ms"].as_u64().expect("opened_ms");
    assert!(line["duration_ms"].as_u64().expect("duration_ms") >= opened);
    // Two texts of three bytes and a Close, masked from the client.
    let (sent, got) = (2 * (6 + 3) + 6 + 5, 2 * (2 + 3) + 2 + 5);
    for (field, expected) in [
        ("level", json!("INFO")),
        ("target", json!("access")),
        ("client", json!(client)),
        ("listener", json!("public")),
        ("route", json!("/*")),
        ("server", json!("server1")),
        ("host", json!("a.test")),
        ("path", json!("/ws")),
        ("by", json!("client")),
        ("reason", json!("close")),
        ("code", json!(4000)),
        ("phase", json!("tunnel")),
        ("bytes_in", json!(sent)),
        ("bytes_out", json!(got)),
        ("messages_in", json!(2)),
        ("messages_out", json!(2)),
    ] {
        assert_eq!(line[field], expected, "{field} in {line:#}");
    }
}

#[test]
fn the_line_names_who_ended_it() {
    let rig = Rig::with(
        |request, peer| match request.target.as_str() {
            "/server-closes" => {
                let mut socket = script::accepts(request, peer);
                socket.send_close(1011, "");
                assert_eq!(socket.next(), Got::Close(Some(1011), String::new()));
                peer.close();
            }
            "/server-ends" => {
                script::accepts(request, peer);
                peer.close();
            }
            _ => script::echoes(request, peer),
        },
        "[log]\nformat = \"json\"",
    );
    let open = |path| WebSocket::connect(rig.edge.address(), path);
    open("/server-closes").expect_close(1011);
    open("/server-ends").peer.expect_gone();
    let mut socket = open("/client-ends");
    socket.peer.finish();
    socket.peer.expect_gone();
    open("/client-resets").peer.reset();
    let mut lines = websocket_lines(rig.edge, 4);
    // Each is of a worker of its own, which may be late.
    lines.sort_by_key(|line| line["path"].to_string());
    let ends: Vec<_> =
        lines.iter().map(|line| [&line["path"], &line["by"], &line["reason"]]).collect();
    assert_eq!(
        ends,
        [
            ["/client-ends", "client", "eof"],
            ["/client-resets", "client", "broken"],
            ["/server-closes", "server", "close"],
            ["/server-ends", "server", "eof"],
        ]
    );
}

#[test]
fn a_request_that_failed_leaves_one_line_with_its_status_and_fault() {
    let mut rig = Rig::with(script::wrong_accept, "[log]\nformat = \"json\"");
    let mut peer = Peer::connect(rig.edge.address());
    peer.send(handshake("/ws?token=secret"));
    peer.response().expect(502);
    drop(peer);
    rig.edge.log_line(&["\"message\":\"request\""]);
    rig.edge.terminate();
    let ended = rig.edge.wait();
    let requests: Vec<_> =
        ended.stderr.iter().filter(|it| it.contains("\"message\":\"request\"")).collect();
    let [line] = requests.as_slice() else { panic!("{requests:#?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["status"], &line["fault"]), (&502.into(), &"server_bad_switch".into()));
    assert_eq!(line["path"], "/ws", "a query may carry a token");
    assert!(!ended.stderr.join("\n").contains("secret"));
}

#[test]
fn nothing_that_a_client_says_begins_a_line_of_its_own() {
    for format in ["text", "json"] {
        let mut rig = Rig::with(script::mirrors, &format!("[log]\nformat = \"{format}\""));
        let mut peer = Peer::connect(rig.edge.address());
        let forged = "INFO%20access:%20websocket%20client=9.9.9.9";
        let path = format!("/x%0a{forged}%22%20by=%22edge%0d%1b[31m");
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        // It reaches no server, and the log all the same.
        peer.response().expect(400);
        drop(peer);
        rig.edge.log_line(&["9.9.9.9"]);
        rig.edge.terminate();
        let ended = rig.edge.wait();
        let about: Vec<_> = ended.stderr.iter().filter(|it| it.contains("9.9.9.9")).collect();
        assert_eq!(about.len(), 1, "{about:#?}");
        assert!(!about[0].contains('\x1b'), "{}", about[0]);
        match format {
            "json" => drop(serde_json::from_str::<Value>(about[0]).expect("one object")),
            // What it says stays as it was said.
            _ => assert!(about[0].contains("9.9.9.9%22%20by=%22edge"), "{}", about[0]),
        }
    }
}

#[test]
fn requests_are_not_logged_when_the_configuration_says_so() {
    let rig = Rig::with(script::echoes, "[log]\nrequests = false");
    rig.open().expect_echo("quietly");
    rig.edge.terminate();
    let ended = rig.edge.wait();
    assert!(!ended.has_line(&["access"]), "{:#?}", ended.stderr);
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_edge() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("stderr");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The shell opens both ends of the pipe, and nobody ever reads: it is full after 64 KiB.
    let program = tidewire::command();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 2<>\"$0\""]).arg(&pipe).arg(program.get_program());
    let up = Tidewire::up_by(shell, &[]);
    let mut peer = Peer::connect(up.address());
    for _ in 0..1_000 {
        peer.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(peer.response_head().status, 200);
    }
}
