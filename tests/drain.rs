//! SIGTERM at the edge: WebSockets are closed between two frames, requests are finished, and then
//! there is an end.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tidewire_testkit::deadline::{DEADLINE, until};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::websocket::{Got, Opcode, server_frame};

#[test]
fn a_drain_closes_both_sides_in_good_order() {
    let (ended, wait) = channel();
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
    let start = Instant::now();
    rig.edge.terminate();
    socket.expect_close(1001);
    let got = wait.recv_timeout(DEADLINE).expect("the server hears of it");
    assert_eq!(got, Got::Close(Some(1001), String::new()));
    let ended = rig.edge.wait();
    // Nobody is waited for up to a timeout, of which the shortest is of ten seconds.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    let line = ["websocket", "reason=\"drain\"", "by=\"edge\"", "code=1001"];
    assert!(ended.has_line(&line), "{:#?}", ended.stderr);
}

#[test]
fn a_drain_never_cuts_a_frame() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let rig = Rig::new(move |request, peer| {
        let socket = script::accepts(request, peer);
        let mut peer = socket.peer;
        let frame = server_frame(Opcode::Text, b"one frame, in two halves");
        peer.send(&frame[..10]);
        let _ = wait.lock().expect("one request").recv_timeout(Duration::from_secs(60));
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
    // Half of the time after which it would have been cut.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_drain_ends_at_its_deadline_and_takes_no_new_client() {
    let rig = Rig::with(script::stalls_after_101, "[drain]\ndeadline = \"5s\"");
    let address = rig.edge.address();
    let _stalled = rig.open();
    let start = Instant::now();
    rig.edge.terminate();
    until("nobody listens", || Peer::try_connect(address).is_err().then_some(()));
    assert!(start.elapsed() < Duration::from_secs(5), "it listened on");
    let ended = rig.edge.wait();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.has_line(&["websocket", "reason=\"drain\""]), "{:#?}", ended.stderr);
}

#[test]
fn a_drain_lets_a_request_finish() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let rig = Rig::new(move |request, peer| {
        let _ = wait.lock().expect("one request").recv_timeout(Duration::from_secs(60));
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
