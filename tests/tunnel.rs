//! A WebSocket through the edge, from its 101 to its end: bytes, stalls, timeouts, the drain, and
//! the one line that is left of it.

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewire_testkit::backend::{Backend, Script};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{self, Tidewire, edge};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, client_frame, handshake, server_frame};

/// An edge before one server.
struct Rig {
    server: Backend,
    edge: Tidewire,
}

impl Rig {
    fn new(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> Self {
        Self::with(script, "")
    }

    fn with(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, more: &str) -> Self {
        let server = Backend::start(script);
        let edge = Tidewire::run(&edge(&[server.address()], more));
        Self { server, edge }
    }

    /// With one worker, so that what a thread needs once is needed once.
    fn with_one_worker(script: Script) -> Self {
        let server = Backend::start(script);
        let edge = Tidewire::run(&format!("workers = 1\n{}", edge(&[server.address()], "")));
        Self { server, edge }
    }

    fn open(&self) -> WebSocket {
        WebSocket::connect(self.edge.address(), "/ws")
    }
}

// What passes.

#[test]
fn frames_of_every_size_pass_unchanged() {
    let rig = Rig::new(script::echoes);
    let mut socket = rig.open();
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 300_000] {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        socket.send_frame(Opcode::Binary, &payload);
        assert_eq!(socket.next(), Got::Binary(payload), "{length} bytes");
    }
}

#[test]
fn frames_that_come_byte_by_byte_pass() {
    let rig = Rig::new(script::echoes);
    let mut socket = rig.open();
    for byte in client_frame(Opcode::Text, b"slowly") {
        socket.peer.send([byte]);
    }
    assert_eq!(socket.text(), "slowly");
}

#[test]
fn fragments_and_control_frames_between_them_pass_in_order() {
    let rig = Rig::new(script::echoes);
    let mut socket = rig.open();
    let mut first = client_frame(Opcode::Text, b"in ");
    first[0] &= 0x7f; // Not the final one.
    let last = client_frame(Opcode::Continuation, b"pieces");
    socket.peer.send([first, client_frame(Opcode::Ping, b"!"), last].concat());
    assert_eq!(socket.next(), Got::Pong(b"!".to_vec()));
    assert_eq!(socket.text(), "in pieces");
}

#[test]
fn what_is_not_websocket_passes_too_and_is_the_peers_affair() {
    let rig = Rig::new(|request, peer| {
        script::accepts(request, peer);
        peer.send(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff no frame at all");
        peer.close();
    });
    let mut peer = Peer::connect(rig.edge.address());
    peer.send(handshake("/"));
    peer.response_head();
    assert!(peer.rest().ends_with(b"no frame at all"));
}

#[test]
fn close_codes_and_reasons_pass_both_ways() {
    let rig = Rig::new(script::echoes);
    for (code, reason) in [(1000, ""), (1001, "tab closed"), (3000, "who?"), (4999, "own")] {
        let mut socket = rig.open();
        socket.send_close(code, reason);
        assert_eq!(socket.next(), Got::Close(Some(code), reason.to_owned()));
        assert_eq!(socket.next(), Got::End);
    }
    let rig = Rig::new(|request, peer| {
        let mut socket = script::accepts(request, peer);
        socket.send_close(4001, "kicked");
        assert_eq!(socket.next(), Got::Close(Some(4001), String::new()));
        peer.close();
    });
    rig.open().expect_close(4001);
}

#[test]
fn a_closing_handshake_that_nobody_follows_up_ends_all_the_same() {
    let rig = Rig::with(
        |request, peer| {
            let mut socket = script::accepts(request, peer);
            socket.send_close(1000, "");
            assert_eq!(socket.next(), Got::Close(Some(1000), String::new()));
            // The server is to end the connection first, and does not.
            peer.expect_gone();
        },
        "[timeout]\nclient-fin = \"300ms\"",
    );
    let start = Instant::now();
    rig.open().expect_close(1000);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let mut edge = rig.edge;
    edge.log_line(&["websocket", "by=\"server\"", "reason=\"close\"", "code=1000"]);
}

#[test]
fn a_reset_of_one_side_ends_the_other() {
    let (ended, wait) = channel();
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let _ = ended.send(socket.next());
    });
    rig.open().peer.reset();
    let got = wait.recv_timeout(Duration::from_secs(5)).expect("the server hears of it");
    assert!(matches!(got, Got::Close(Some(1001), _) | Got::End), "{got:?}");
}

#[test]
fn a_server_that_dies_takes_no_client_s_time() {
    let mut rig = Rig::new(script::echoes);
    let mut socket = rig.open();
    socket.expect_echo("there");
    let start = Instant::now();
    rig.server = Backend::start(script::echoes);
    socket.peer.expect_gone();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

// Who does not read.

#[test]
fn a_server_that_stalls_costs_one_buffer() {
    let rig = Rig::with_one_worker(script::stalls_after_101);
    let frame = client_frame(Opcode::Binary, &[0; 60_000]);
    check_stalls(&rig, || {
        let mut socket = rig.open();
        socket.peer.send_until_stuck(&frame, STUCK);
        socket.peer
    });
}

#[test]
fn a_client_that_stalls_costs_one_buffer() {
    let rig = Rig::with_one_worker(|request, peer| {
        let socket = script::accepts(request, peer);
        let mut peer = socket.peer;
        peer.send_until_stuck(&server_frame(Opcode::Binary, &[0; 60_000]), STUCK);
        peer.expect_gone();
    });
    check_stalls(&rig, || {
        let mut peer = Peer::connect_with_buffer(rig.edge.address(), 16 << 10);
        peer.send(handshake("/"));
        peer.response_head();
        // Until the server is stuck, which nobody but the server can see.
        std::thread::sleep(STUCK * 3);
        peer
    });
}

/// What `stall` leaves behind costs the edge little each time. The first one is not counted: it
/// warms up what the process needs once.
#[track_caller]
fn check_stalls(rig: &Rig, stall: impl Fn() -> Peer) {
    let first = stall();
    let before = rig.edge.child.memory();
    let others: Vec<Peer> = (0..8).map(|_| stall()).collect();
    let each = rig.edge.child.memory().saturating_sub(before) / others.len() as u64;
    assert!(each < 100 << 10, "{each} bytes are held for each");
    let spent = rig.edge.cpu_time_during(Duration::from_millis(500));
    assert!(spent < Duration::from_millis(100), "{spent:?} spent on waiting");
    drop(first);
}

const STUCK: Duration = Duration::from_millis(40);

#[test]
fn a_stalled_reader_that_goes_on_has_missed_nothing() {
    let frames = || (0..400_u32).map(|number| number.to_be_bytes().repeat(5_000));
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        frames().for_each(|payload| socket.send_frame(Opcode::Binary, &payload));
        socket.send_close(1000, "");
    });
    let mut peer = Peer::connect_with_buffer(rig.edge.address(), 16 << 10);
    peer.send(handshake("/"));
    peer.response_head();
    let mut socket = WebSocket::opened(peer);
    std::thread::sleep(Duration::from_millis(300));
    for payload in frames() {
        let Got::Binary(found) = socket.next() else { panic!("no frame") };
        assert!(found == payload, "another frame than {:?}", &payload[..4]);
    }
    assert_eq!(socket.next(), Got::Close(Some(1000), String::new()));
}

#[test]
fn one_stalled_tunnel_does_not_hold_up_the_others() {
    let rig = Rig::new(|request, peer| match request.target.as_str() {
        "/stalls" => script::stalls_after_101(request, peer),
        _ => script::echoes(request, peer),
    });
    let mut stalled = WebSocket::connect(rig.edge.address(), "/stalls");
    stalled.peer.send_until_stuck(&client_frame(Opcode::Binary, &[0; 60_000]), STUCK);
    for _ in 0..4 {
        rig.open().expect_echo("still quick");
    }
}

// Timeouts.

/// The tunnel ends by itself, not before `least`, for `reason`.
#[track_caller]
fn check_timeout(mut rig: Rig, mut socket: WebSocket, least: Duration, reason: &str) {
    let start = Instant::now();
    socket.peer.expect_gone();
    let taken = start.elapsed();
    assert!(taken + Duration::from_millis(150) > least, "after {taken:?}");
    assert!(taken < least + Duration::from_secs(3), "after {taken:?}");
    rig.edge.log_line(&["websocket", &format!("reason=\"{reason}\""), "by=\"edge\""]);
}

#[test]
fn a_tunnel_on_which_nothing_passes_ends() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"400ms\"");
    let socket = rig.open();
    check_timeout(rig, socket, Duration::from_millis(400), "tunnel_timeout");
}

#[test]
fn a_client_whose_tunnel_timed_out_is_told_so() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"300ms\"");
    assert!(matches!(rig.open().next(), Got::Close(Some(1001), _)));
}

#[test]
fn pings_keep_a_tunnel_open() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"600ms\"");
    let mut socket = rig.open();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(200));
        socket.send_frame(Opcode::Ping, b"");
        assert_eq!(socket.next(), Got::Pong(Vec::new()));
    }
}

#[test]
fn a_server_has_client_fin_to_end_what_its_client_has_ended() {
    let rig = Rig::with(script::stalls_after_101, "[timeout]\nclient-fin = \"300ms\"");
    let mut socket = rig.open();
    socket.peer.finish();
    check_timeout(rig, socket, Duration::from_millis(300), "client_fin_timeout");
}

#[test]
fn a_client_has_server_fin_to_end_what_its_server_has_ended() {
    let rig = Rig::with(script::half_closes, "[timeout]\nserver-fin = \"300ms\"");
    let mut socket = rig.open();
    assert_eq!(socket.text(), "bye");
    assert_eq!(socket.next(), Got::End);
    // Nothing is to come, so the end shows in the server's connection being closed.
    let mut rig = rig;
    rig.edge.log_line(&["websocket", "reason=\"server_fin_timeout\""]);
}

#[test]
fn a_head_that_does_not_come_is_a_408() {
    let rig = Rig::with(script::echoes, "[timeout]\nhttp-request = \"300ms\"");
    let mut peer = Peer::connect(rig.edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a");
    peer.response().expect(408);
    peer.expect_end();
    // Bytes that drip in do not buy time.
    let mut peer = Peer::connect(rig.edge.address());
    let start = Instant::now();
    peer.send("GET / HTTP/1.1\r\n");
    let mut dripping = peer.another();
    let dripper = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            dripping.send("X");
        }
    });
    peer.response().expect(408);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    peer.close();
    let _ = dripper.join();
}

#[test]
fn who_says_nothing_at_all_is_closed_without_a_word() {
    let rig = Rig::with(script::echoes, "[timeout]\nhttp_request = \"300ms\"");
    Peer::connect(rig.edge.address()).expect_end();
}

#[test]
fn a_kept_connection_is_closed_after_its_own_timeout() {
    let more = "[timeout]\nhttp-keep-alive = \"300ms\"\nhttp-request = \"10s\"";
    let rig = Rig::with(script::mirrors, more);
    let mut peer = Peer::connect(rig.edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    peer.response().expect(200);
    let start = Instant::now();
    peer.expect_end();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

// The drain.

#[test]
fn a_drain_closes_both_sides_in_good_order() {
    let (ended, wait) = channel();
    let start = Instant::now();
    let rig = Rig::new(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let got = socket.next();
        if let Got::Close(Some(code), _) = &got {
            socket.send_close(*code, "");
        }
        let _ = ended.send(got);
        peer.close();
    });
    let mut socket = rig.open();
    rig.edge.terminate();
    socket.expect_close(1001);
    let got = wait.recv_timeout(Duration::from_secs(5)).expect("the server hears of it");
    assert_eq!(got, Got::Close(Some(1001), String::new()));
    let ended = rig.edge.wait();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    let line = ["websocket", "reason=\"drain\"", "by=\"edge\"", "code=1001"];
    assert!(ended.has_line(&line), "{:#?}", ended.stderr);
}

#[test]
fn a_drain_never_cuts_a_frame() {
    let (go, wait) = channel();
    let wait = std::sync::Mutex::new(wait);
    let rig = Rig::new(move |request, peer| {
        let socket = script::accepts(request, peer);
        let mut peer = socket.peer;
        let frame = server_frame(Opcode::Text, b"one frame, in two halves");
        peer.send(&frame[..10]);
        let _ = wait.lock().expect("one request").recv_timeout(Duration::from_secs(10));
        peer.send(&frame[10..]);
        peer.expect_gone();
    });
    let mut socket = rig.open();
    let mut edge = rig.edge;
    let head = socket.peer.take(10);
    edge.terminate();
    edge.log_line(&["draining"]);
    socket.peer.expect_silence(Duration::from_millis(200));
    go.send(()).expect("the server waits");
    let rest = socket.peer.take(16);
    assert_eq!([head, rest].concat()[2..], *b"one frame, in two halves");
    assert!(matches!(socket.next(), Got::Close(Some(1001), _)));
}

#[test]
fn a_drain_under_traffic_loses_no_frame_before_the_close() {
    let rig = Rig::new(|request, peer| {
        let mut socket = script::accepts(request, peer);
        for number in 0_u32.. {
            let payload = number.to_be_bytes().repeat(1 + number as usize % 3_000);
            socket.send_frame(Opcode::Binary, &payload);
        }
    });
    let mut sockets: Vec<_> = (0..3).map(|_| rig.open()).collect();
    for socket in &mut sockets {
        assert!(matches!(socket.next(), Got::Binary(_)));
    }
    rig.edge.terminate();
    for mut socket in sockets {
        let mut expected = 1_u32;
        let end = loop {
            // The decoder looks at every frame: a cut one would be a violation.
            match socket.next() {
                Got::Binary(payload) => {
                    assert_eq!(payload[..4], expected.to_be_bytes(), "a frame is missing");
                    expected += 1;
                }
                other => break other,
            }
        };
        assert!(matches!(end, Got::Close(Some(1001), _)), "{end:?} after {expected} frames");
        socket.send_close(1001, "");
    }
    assert_eq!(rig.edge.wait().status.code(), Some(0));
}

#[test]
fn a_drain_finds_the_end_of_a_frame_in_a_stream_that_never_pauses() {
    // Frames that are longer than what the edge reads at once, and a client that is slower than
    // the server: what has been read never happens to end where a frame does.
    let rig = Rig::new(|request, peer| {
        let mut socket = script::accepts(request, peer);
        loop {
            socket.send_frame(Opcode::Binary, &[7; 100_001]);
        }
    });
    let mut socket = rig.open();
    for _ in 0..3 {
        assert!(matches!(socket.next(), Got::Binary(_)));
    }
    let start = Instant::now();
    rig.edge.terminate();
    let end = loop {
        match socket.next() {
            Got::Binary(payload) => assert_eq!(payload.len(), 100_001),
            other => break other,
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(matches!(end, Got::Close(Some(1001), _)), "{end:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_drain_ends_at_its_deadline_and_takes_no_new_client() {
    let rig = Rig::with(script::stalls_after_101, "[drain]\ndeadline = \"700ms\"");
    let address = rig.edge.address();
    let _stalled = rig.open();
    let start = Instant::now();
    rig.edge.terminate();
    until("nobody listens", || Peer::try_connect(address).is_err().then_some(()));
    assert!(start.elapsed() < Duration::from_millis(700), "it listened on");
    let ended = rig.edge.wait();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.has_line(&["websocket", "reason=\"drain\""]), "{:#?}", ended.stderr);
}

#[test]
fn a_drain_lets_a_request_finish() {
    let (go, wait) = channel();
    let wait = std::sync::Mutex::new(wait);
    let rig = Rig::new(move |request, peer| {
        let _ = wait.lock().expect("one request").recv_timeout(Duration::from_secs(10));
        script::answers(200, "late but whole")(request, peer);
    });
    let mut peer = Peer::connect(rig.edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    rig.server.request();
    let mut edge = rig.edge;
    edge.terminate();
    edge.log_line(&["draining"]);
    go.send(()).expect("the server waits");
    assert_eq!(peer.response().expect(200).text(), "late but whole");
    peer.expect_end();
    drop(peer);
    assert_eq!(edge.wait().status.code(), Some(0));
}

// The log.

/// The lines of a finished edge that are about the end of a WebSocket.
fn websocket_lines(edge: Tidewire) -> Vec<Value> {
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
    let lines = websocket_lines(rig.edge);
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
    let open = || rig.edge.metric("edge_server_connections", &[]);
    until("all have ended", || (open() == 0.0).then_some(()));
    let lines = websocket_lines(rig.edge);
    let ends: Vec<_> =
        lines.iter().map(|line| [&line["path"], &line["by"], &line["reason"]]).collect();
    assert_eq!(
        ends,
        [
            ["/server-closes", "server", "close"],
            ["/server-ends", "server", "eof"],
            ["/client-ends", "client", "eof"],
            ["/client-resets", "client", "broken"],
        ]
    );
}

#[test]
fn a_request_that_failed_leaves_one_line_with_its_status_and_fault() {
    let rig = Rig::with(script::wrong_accept, "[log]\nformat = \"json\"");
    let mut peer = Peer::connect(rig.edge.address());
    peer.send(handshake("/ws?token=secret"));
    peer.response().expect(502);
    drop(peer);
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
        let rig = Rig::with(script::mirrors, &format!("[log]\nformat = \"{format}\""));
        let mut peer = Peer::connect(rig.edge.address());
        let forged = "INFO%20access:%20websocket%20client=9.9.9.9";
        let path = format!("/x%0a{forged}\"%20by=\"edge%0d%1b[31m");
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        peer.response().expect(200);
        drop(peer);
        rig.edge.terminate();
        let ended = rig.edge.wait();
        let about: Vec<_> = ended.stderr.iter().filter(|it| it.contains("9.9.9.9")).collect();
        assert_eq!(about.len(), 1, "{about:#?}");
        assert!(!about[0].contains('\x1b'), "{}", about[0]);
        match format {
            "json" => drop(serde_json::from_str::<Value>(about[0]).expect("one object")),
            // What it says stays inside its quotes.
            _ => assert!(about[0].contains(r#"9.9.9.9\"%20by=\"edge"#), "{}", about[0]),
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
