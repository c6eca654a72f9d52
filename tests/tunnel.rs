//! A WebSocket through the edge, from its 101 to its end: what passes, who does not read, and for
//! how long.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, client_frame, handshake, server_frame};

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
fn without_limits_what_is_not_websocket_passes_too_and_is_the_peers_affair() {
    let script = |request: &Request, peer: &mut Peer| {
        script::accepts(request, peer);
        peer.send(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff no frame at all");
        peer.close();
    };
    let rig = Rig::with(script, "[limits]\nprofile = \"off\"");
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
fn each_message_is_counted_once_in_its_direction() {
    let rig = Rig::new(|request, peer| {
        let mut socket = script::accepts(request, peer);
        for _ in 0..3 {
            socket.text();
            socket.send("one");
            socket.send("two");
        }
        socket.peer.expect_gone();
    });
    let mut socket = rig.open();
    for _ in 0..3 {
        socket.send("hello");
        assert_eq!((socket.text(), socket.text()), ("one".into(), "two".into()));
    }
    for (direction, messages) in [("from_client", 3.0), ("to_client", 6.0)] {
        let label = format!("direction=\"{direction}\"");
        rig.edge.expect_metric("edge_tunnel_messages_total", &[&label], messages);
    }
}

#[test]
fn what_comes_with_the_handshake_is_counted_too() {
    let rig = Rig::new(script::swallows);
    let frame = client_frame(Opcode::Text, b"early");
    let mut peer = rig.connect();
    peer.send([handshake("/ws").into_bytes(), frame.clone()].concat());
    peer.response_head().expect(101);
    let of_client = ["direction=\"from_client\""];
    rig.edge.expect_metric("edge_tunnel_messages_total", &of_client, 1.0);
    rig.edge.expect_metric("edge_tunnel_bytes_total", &of_client, frame.len() as f64);
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
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
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
    let got = wait.recv_timeout(Duration::from_secs(20)).expect("the server hears of it");
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
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
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

/// The tunnel ends by itself, not before `least` has passed since `start`, for `reason`.
#[track_caller]
fn check_timeout(
    (mut rig, start): (Rig, Instant),
    mut socket: WebSocket,
    least: Duration,
    reason: &str,
) {
    socket.peer.expect_gone();
    let taken = start.elapsed();
    assert!(taken + Duration::from_millis(150) > least, "after {taken:?}");
    assert!(taken < least + Duration::from_secs(10), "after {taken:?}");
    rig.edge.log_line(&["websocket", &format!("reason=\"{reason}\""), "by=\"edge\""]);
}

#[test]
fn a_tunnel_on_which_nothing_passes_ends() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"400ms\"");
    let start = Instant::now();
    let socket = rig.open();
    check_timeout((rig, start), socket, Duration::from_millis(400), "tunnel_timeout");
}

#[test]
fn a_client_whose_tunnel_timed_out_is_told_so() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"300ms\"");
    assert!(matches!(rig.open().next(), Got::Close(Some(1001), _)));
}

#[test]
fn pings_keep_a_tunnel_open() {
    let rig = Rig::with(script::echoes, "[timeout]\ntunnel = \"4s\"");
    let mut socket = rig.open();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        socket.send_frame(Opcode::Ping, b"");
        assert_eq!(socket.next(), Got::Pong(Vec::new()));
    }
}

#[test]
fn a_server_has_client_fin_to_end_what_its_client_has_ended() {
    let rig = Rig::with(script::stalls_after_101, "[timeout]\nclient-fin = \"300ms\"");
    let mut socket = rig.open();
    let start = Instant::now();
    socket.peer.finish();
    check_timeout((rig, start), socket, Duration::from_millis(300), "client_fin_timeout");
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
    let rig = Rig::with(script::echoes, "[timeout]\nhttp-request = \"3s\"");
    let mut peer = Peer::connect(rig.edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a");
    peer.response().expect(408);
    peer.expect_end();
    // Bytes that drip in do not buy time.
    let mut peer = Peer::connect(rig.edge.address());
    let start = Instant::now();
    peer.send("GET / HTTP/1.1\r\n");
    let mut dripping = peer.another();
    let (enough, is_enough) = channel::<()>();
    let dripper = std::thread::spawn(move || {
        while is_enough.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            dripping.send("X");
        }
    });
    peer.response().expect(408);
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    peer.close();
    drop(enough);
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
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
