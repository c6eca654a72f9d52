//! Too much of what is allowed: floods, messages without end, peers that never read, handshakes
//! that do not end. Whoever attacks is bounded or gone, and its neighbour notices nothing.
//!
//! `cargo test --test frame_floods -- --nocapture` shows the figures.

use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::DEADLINE;
use tidewire_testkit::http::Request;
use tidewire_testkit::neighbour::Street;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::raw_frame::{BINARY, CLOSE, CONTINUATION, PING, PONG, RawFrame, Side, TEXT};
use tidewire_testkit::rss::RssWatch;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

/// One attack at a time: each has a neighbour whose echoes are timed.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node with one worker, which the neighbour shares with whoever attacks.
struct Scene {
    /// Before the node: whoever lives there ends first.
    street: Street,
    node: Tidewire,
    _server: Option<Backend>,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    #[track_caller]
    fn hub(more: &str) -> Self {
        Self::of(&hub("server1", more))
    }

    /// A hub whose route has no limits, so that nobody is slowed down before the hub's own bounds.
    #[track_caller]
    fn hub_without_limits(more: &str) -> Self {
        Self::of(&format!("{}limits = {{ profile = \"off\" }}\n", hub("server1", more)))
    }

    #[track_caller]
    fn of(config: &str) -> Self {
        let alone = alone();
        let node = Tidewire::run(&format!("workers = 1\n{config}"));
        let street = Street::start(&node, "/ws/neighbour", "Received: ");
        Self { street, node, _server: None, _alone: alone }
    }

    /// An edge before a server that echoes for the neighbour, and does as `script` says for the
    /// attacker.
    #[track_caller]
    fn tunnel(script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static, more: &str) -> Self {
        let alone = alone();
        let server = Backend::start(move |request, peer| match request.target.as_str() {
            "/neighbour" => script::echoes(request, peer),
            _ => {
                script(request, peer);
                peer.close();
            }
        });
        let config = format!("workers = 1\n{}", edge(&[server.address()], more));
        let node = Tidewire::run(&config);
        let street = Street::start(&node, "/neighbour", "");
        Self { street, node, _server: Some(server), _alone: alone }
    }

    /// Makes the attack: the neighbour is not disturbed, and the process is at no time bigger by
    /// more than `mebibytes`.
    #[track_caller]
    fn withstands(&mut self, what: &str, mebibytes: u64, mut attack: impl FnMut(&mut Tidewire)) {
        let Self { street, node, .. } = self;
        let rss = RssWatch::start(&node.child);
        street.is_calm_during(what, || attack(node));
        let growth = rss.growth();
        println!("{what}: {} KiB more", growth >> 10);
        assert!(growth <= mebibytes << 20, "{what}: {growth} bytes more");
    }
}

/// A WebSocket of somebody who reads next to nothing of what comes, and its address as in the log.
#[track_caller]
fn deaf(node: &Tidewire, path: &str) -> (Peer, String) {
    let mut peer = Peer::connect_with_buffer(node.address(), 4 << 10);
    peer.send(handshake(path));
    assert_eq!(peer.response_head().status, 101);
    let address = format!("client={} ", peer.local_address());
    (peer, address)
}

/// Sends `bytes` up to `times` times, as long as anybody takes them. How often it was.
fn flood(peer: &mut Peer, bytes: &[u8], times: usize) -> usize {
    (0..times).take_while(|_| peer.try_send(bytes).is_ok()).count()
}

fn client_bytes(frame: RawFrame) -> Vec<u8> {
    frame.bytes(Side::Client)
}

/// The next Close, whatever comes before it.
#[track_caller]
fn close_of(socket: &mut WebSocket) -> (Option<u16>, String) {
    loop {
        match socket.next() {
            Got::Close(code, reason) => return (code, reason),
            Got::End => panic!("the end without a Close"),
            _ => {}
        }
    }
}

// Messages without end.

#[test]
fn two_million_empty_fragments_are_too_many() {
    let mut scene = Scene::hub("");
    let start = client_bytes(RawFrame::new(TEXT, "").unfinished());
    let batch = client_bytes(RawFrame::new(CONTINUATION, "").unfinished()).repeat(10_000);
    scene.withstands("2 M empty fragments", 4, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        socket.peer.send(&start);
        flood(&mut socket.peer, &batch, 200);
        let (code, reason) = close_of(&mut socket);
        assert_eq!(code, Some(1009), "{reason}");
        assert!(reason.contains("more than 1024 fragments"), "{reason}");
    });
}

/// Where somebody has set the limit that high.
#[test]
fn two_million_empty_fragments_hold_no_memory() {
    let mut scene = Scene::hub_without_limits("max_fragments = 4000000");
    let start = client_bytes(RawFrame::new(TEXT, "a").unfinished());
    let batch = client_bytes(RawFrame::new(CONTINUATION, "").unfinished()).repeat(10_000);
    let end = client_bytes(RawFrame::new(CONTINUATION, "b"));
    scene.withstands("2 M empty fragments, allowed", 4, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        socket.peer.send(&start);
        assert_eq!(flood(&mut socket.peer, &batch, 200), 200);
        socket.peer.send(&end);
        assert_eq!(socket.text(), "Received: ab");
    });
}

#[test]
fn a_message_of_256_mib_in_fragments_ends_at_its_limit() {
    let mut scene = Scene::hub("max_message = \"4MiB\"\nqueue = \"4MiB\"");
    let start = client_bytes(RawFrame::new(TEXT, "").unfinished());
    let part = client_bytes(RawFrame::new(CONTINUATION, vec![b'x'; 64 << 10]).unfinished());
    // A message of 4 MiB, half of it while it grows, and what the allocator has not given back yet.
    scene.withstands("4,096 fragments of 64 KiB", 12, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        socket.peer.send(&start);
        flood(&mut socket.peer, &part, 4096);
        let (code, reason) = close_of(&mut socket);
        assert_eq!(code, Some(1009), "{reason}");
        assert!(reason.contains("the limit is 4194304"), "{reason}");
    });
}

#[test]
fn a_length_is_a_promise_and_takes_no_memory() {
    let mut scene = Scene::hub("max_message = \"1GiB\"\nqueue = \"1GiB\"");
    let head = client_bytes(RawFrame::new(TEXT, "x").announcing(1 << 30));
    scene.withstands("100 promises of 1 GiB", 8, |node| {
        let mut sockets: Vec<_> =
            (0..100).map(|_| WebSocket::connect(node.address(), "/ws/attacker")).collect();
        sockets.iter_mut().for_each(|socket| socket.peer.send(&head));
        // The node has read them all when it has read what is behind one of them.
        let mut last = WebSocket::connect(node.address(), "/ws/attacker");
        last.send("read");
        assert_eq!(last.text(), "Received: read");
    });
}

// Floods of control frames.

#[test]
fn pings_whose_pongs_nobody_reads_end_as_slow() {
    let mut scene = Scene::hub_without_limits("close_timeout = \"300ms\"");
    let batch = client_bytes(RawFrame::new(PING, [b'p'; 125])).repeat(1000);
    scene.withstands("100 k pings unread", 4, |node| {
        let (mut peer, client) = deaf(node, "/ws/attacker");
        flood(&mut peer, &batch, 100);
        node.log_line(&["websocket", &client, "reason=\"slow\"", "code=1013"]);
    });
}

#[test]
fn pings_that_are_read_are_answered_all_of_them() {
    let mut scene = Scene::hub_without_limits("");
    let ping = client_bytes(RawFrame::new(PING, "p"));
    scene.withstands("50 k pings read", 4, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        let (mut sender, batch) = (socket.peer.another(), ping.repeat(500));
        let sending = thread::spawn(move || flood(&mut sender, &batch, 100));
        for _ in 0..50_000 {
            assert_eq!(socket.next(), Got::Pong(b"p".to_vec()));
        }
        assert_eq!(sending.join().expect("it sends"), 100);
    });
}

#[test]
fn pongs_are_heard_and_forgotten() {
    let mut scene = Scene::hub_without_limits("");
    let batch = client_bytes(RawFrame::new(PONG, [b'p'; 125])).repeat(1000);
    scene.withstands("200 k pongs", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        assert_eq!(flood(&mut socket.peer, &batch, 200), 200);
        socket.send("still there");
        assert_eq!(socket.text(), "Received: still there");
    });
}

#[test]
fn of_many_closes_the_first_one_counts() {
    let mut scene = Scene::hub("");
    let batch = client_bytes(RawFrame::new(CLOSE, 4000_u16.to_be_bytes())).repeat(1000);
    scene.withstands("100 k Closes", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        let client = format!("client={} ", socket.peer.local_address());
        flood(&mut socket.peer, &batch, 100);
        // They may still be on their way when the node is done: then a reset ends what it says.
        let mut waiting = Vec::new();
        while let Ok(1..) = socket.peer.wait() {
            waiting = socket.peer.take_some();
        }
        assert!(waiting.len() <= 4, "one Close comes back: {waiting:?}");
        node.log_line(&["websocket", &client, "reason=\"close\"", "code=4000"]);
    });
}

// Those who do not read.

#[test]
fn who_never_reads_its_topic_is_bounded_and_ends_as_slow() {
    let mut scene = Scene::hub("close_timeout = \"300ms\"");
    scene.withstands("16 MiB to who never reads", 8, |node| {
        let (_peer, client) = deaf(node, "/ws/loud");
        let mut publisher = WebSocket::connect(node.address(), "/ws/loud");
        let text = "x".repeat(60 << 10);
        for _ in 0..270 {
            publisher.send(&text);
            assert_eq!(publisher.text().len(), text.len() + "Received: ".len());
        }
        node.log_line(&["websocket", &client, "reason=\"slow\"", "code=1013"]);
    });
}

#[test]
fn who_publishes_and_never_reads_ends_as_slow() {
    let mut scene = Scene::hub("close_timeout = \"300ms\"");
    let batch = client_bytes(RawFrame::new(TEXT, [b'x'; 60 << 10]));
    scene.withstands("128 MiB echoed to who never reads", 12, |node| {
        let (mut peer, client) = deaf(node, "/ws/attacker");
        flood(&mut peer, &batch, 2048);
        node.log_line(&["websocket", &client, "reason=\"slow\"", "code=1013"]);
    });
}

// Small pieces.

#[test]
fn a_byte_in_each_segment_makes_one_message() {
    let mut scene = Scene::hub("");
    let bytes = client_bytes(RawFrame::new(TEXT, [b'x'; 30_000]));
    scene.withstands("a byte in each segment", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        bytes.iter().for_each(|&byte| socket.peer.send([byte]));
        assert_eq!(socket.text().len(), 30_000 + "Received: ".len());
    });
}

#[test]
fn a_byte_in_each_fragment_makes_one_message() {
    let mut scene = Scene::hub("max_fragments = 50000");
    let part = client_bytes(RawFrame::new(CONTINUATION, "x").unfinished());
    scene.withstands("a byte in each of 40 k fragments", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        socket.peer.send(client_bytes(RawFrame::new(TEXT, "x").unfinished()));
        for _ in 0..400 {
            socket.peer.send(part.repeat(100));
        }
        socket.peer.send(client_bytes(RawFrame::new(CONTINUATION, "x")));
        assert_eq!(socket.text().len(), 40_002 + "Received: ".len());
    });
}

#[test]
fn a_byte_in_each_of_many_messages_is_what_it_is() {
    let mut scene = Scene::hub("");
    let batch = client_bytes(RawFrame::new(TEXT, "x")).repeat(100);
    scene.withstands("20 k messages of a byte", 8, |node| {
        let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
        let (mut sender, batch) = (socket.peer.another(), batch.clone());
        let sending = thread::spawn(move || flood(&mut sender, &batch, 200));
        for _ in 0..20_000 {
            assert_eq!(socket.text(), "Received: x");
        }
        assert_eq!(sending.join().expect("it sends"), 200);
    });
}

// Handshakes.

#[test]
fn half_a_handshake_is_cut_at_its_deadline() {
    let mut scene = Scene::of(&format!("{}\n[timeout]\nhttp_request = \"3s\"", hub("server1", "")));
    let whole = handshake("/ws/attacker");
    scene.withstands("200 halves of handshakes", 8, |node| {
        let mut peers: Vec<_> = (0..200).map(|_| Peer::connect(node.address())).collect();
        let start = Instant::now();
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.send(&whole[..whole.len() * (index % 99 + 1) / 100]);
        }
        for peer in &mut peers {
            peer.response().expect(408);
            peer.expect_end();
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    });
}

/// CVE-2021-32640, CVE-2020-7662, CVE-2020-7663: parsers that went back for each offer.
#[test]
fn offers_without_end_cost_no_time() {
    let mut scene = Scene::hub("");
    let with = |name: &str, value: &str| {
        let line = format!("\r\n{name}: {value}\r\n\r\n");
        handshake("/ws/attacker").replace("\r\n\r\n", &line)
    };
    let (protocol, extensions) = ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions");
    let handshakes = [
        with(protocol, &"a,".repeat(6_000)),
        with(protocol, &",".repeat(12_000)),
        with(protocol, &"a\t \t".repeat(3_000)),
        with(protocol, &" ".repeat(12_000)),
        with(protocol, &format!("{}tidewire.v1", "x,".repeat(6_000))),
        with(extensions, &"a;b,".repeat(3_000)),
        with(extensions, &"permessage-deflate,".repeat(600)),
        with(extensions, &format!("a; b=\"{}", "\\".repeat(12_000))),
        with(extensions, &format!("a; b=\"{}", "\\\\\\\"".repeat(3_000))),
        with("Connection", &format!("{}upgrade", "x,".repeat(6_000))),
        with("Upgrade", &"a,".repeat(6_000)),
        with("Cookie", &"a=b;".repeat(3_000)),
    ];
    scene.withstands("12 offers without end", 4, |node| {
        for text in &handshakes {
            let mut peer = Peer::connect(node.address());
            let before = node.child.cpu_time();
            peer.send(text);
            let status = peer.response_head().status;
            assert!(matches!(status, 101 | 400 | 431), "{status} for {}", &text[150..260]);
            // A quadratic parser needs seconds for 12 KB, without optimization at least.
            let spent = node.child.cpu_time() - before;
            assert!(spent < Duration::from_millis(500), "{spent:?}");
        }
    });
}

/// CVE-2024-37890 (thousands of headers), CVE-2023-43669 (one of megabytes).
#[test]
fn heads_without_end_are_refused() {
    let mut scene = Scene::hub("");
    let start = "GET /ws/attacker HTTP/1.1\r\nHost: a.test\r\n";
    let many = format!("{start}{}\r\n", "X: 1\r\n".repeat(2_000));
    let long = format!("{start}X: {}", "x".repeat(8 << 20));
    let key = handshake("/ws/attacker").replace("Key: ", &format!("Key: {}", "A".repeat(12_000)));
    let expected = [(many, 431), (long, 431), (key, 431)];
    scene.withstands("heads without end", 4, |node| {
        for (text, status) in &expected {
            let mut peer = Peer::connect(node.address());
            // It need not take all of it.
            let _ = peer.try_send(text.as_bytes());
            assert_eq!(peer.response_head().status, *status);
        }
    });
}

// Tunnels.

/// Takes what comes, as fast as it comes, and answers nothing.
fn takes(request: &Request, peer: &mut Peer) {
    length_of_rest(&mut script::accepts(request, peer).peer);
}

/// What a server says that has much to say.
fn says(request: &Request, peer: &mut Peer, bytes: &[u8], times: usize) {
    flood(&mut script::accepts(request, peer).peer, bytes, times);
}

fn server_bytes(frame: RawFrame) -> Vec<u8> {
    frame.bytes(Side::Server)
}

/// Reads to the end; how much it was.
#[track_caller]
fn length_of_rest(peer: &mut Peer) -> usize {
    let mut length = 0;
    while let Ok(1..) = peer.wait() {
        length += peer.take_some().len();
    }
    length
}

#[test]
fn a_message_without_end_passes_a_tunnel_through_one_buffer() {
    let mut scene = Scene::tunnel(takes, "");
    let start = client_bytes(RawFrame::new(TEXT, "").unfinished());
    let part = client_bytes(RawFrame::new(CONTINUATION, vec![b'x'; 64 << 10]).unfinished());
    let giant = client_bytes(RawFrame::new(BINARY, "").announcing(i64::MAX as u64));
    scene.withstands("4,096 fragments of 64 KiB to a server", 2, |node| {
        let mut peer = Peer::connect(node.address());
        peer.send(handshake("/attacker"));
        peer.response_head();
        peer.send(&start);
        assert_eq!(flood(&mut peer, &part, 4096), 4096);
    });
    scene.withstands("128 MiB of a frame of 2^63 bytes", 2, |node| {
        let mut peer = Peer::connect(node.address());
        peer.send(handshake("/attacker"));
        peer.response_head();
        peer.send(&giant);
        assert_eq!(flood(&mut peer, &part, 2048), 2048);
    });
}

#[test]
fn a_servers_message_without_end_passes_a_tunnel_through_one_buffer() {
    let mut scene = Scene::tunnel(
        |request, peer| {
            let part = RawFrame::new(CONTINUATION, vec![b'x'; 64 << 10]).unfinished();
            let start = server_bytes(RawFrame::new(TEXT, "").unfinished());
            says(request, peer, &[start, server_bytes(part).repeat(4096)].concat(), 1);
        },
        "",
    );
    scene.withstands("4,096 fragments of 64 KiB to a client", 2, |node| {
        let mut peer = Peer::connect(node.address());
        peer.send(handshake("/attacker"));
        peer.response_head();
        assert!(length_of_rest(&mut peer) > 256 << 20);
    });
}

#[test]
fn pings_whose_pongs_nobody_reads_stop_at_the_tunnel() {
    let mut scene = Scene::tunnel(script::echoes, "");
    let batch = client_bytes(RawFrame::new(PING, [b'p'; 125])).repeat(1000);
    scene.withstands("pings unread through a tunnel", 2, |node| {
        let (mut peer, _) = deaf(node, "/attacker");
        // Until the server, which does not read on either, has no room left.
        peer.send_until_stuck(&batch, Duration::from_millis(300));
    });
}

#[test]
fn a_server_that_pings_who_does_not_read_stops_at_the_tunnel() {
    let (stuck, is_stuck) = channel();
    let pings = move |request: &Request, peer: &mut Peer| {
        let batch = server_bytes(RawFrame::new(PING, [b'p'; 125])).repeat(1000);
        let mut peer = script::accepts(request, peer).peer;
        let _ = stuck.send(peer.send_until_stuck(&batch, Duration::from_millis(300)));
        length_of_rest(&mut peer);
    };
    let mut scene = Scene::tunnel(pings, "");
    scene.withstands("a server's pings unread", 2, |node| {
        let _deaf = deaf(node, "/attacker");
        is_stuck.recv_timeout(DEADLINE).expect("the server is not read from any more");
    });
}

#[test]
fn a_server_that_goes_on_behind_its_close_is_cut() {
    let mut scene = Scene::tunnel(
        |request, peer| {
            let close = server_bytes(RawFrame::close(1000, ""));
            let more = server_bytes(RawFrame::new(BINARY, vec![0; 64 << 10]));
            let mut peer = script::accepts(request, peer).peer;
            peer.send(close);
            while peer.try_send(&more).is_ok() {}
        },
        "[timeout]\nclient_fin = \"300ms\"\nserver_fin = \"300ms\"",
    );
    scene.withstands("a server's flood behind its Close", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/attacker");
        let client = format!("client={} ", socket.peer.local_address());
        assert_eq!(close_of(&mut socket).0, Some(1000));
        // It may be late, and cut off by then.
        let _ = socket.peer.try_send(&client_bytes(RawFrame::close(1000, "")));
        length_of_rest(&mut socket.peer);
        node.log_line(&["websocket", &client, "by=\"server\"", "reason=\"close\"", "code=1000"]);
    });
}

#[test]
fn frames_without_payload_pass_a_tunnel_and_disturb_nobody() {
    let mut scene = Scene::tunnel(takes, "[limits]\nprofile = \"off\"");
    let batch = client_bytes(RawFrame::new(CONTINUATION, "").unfinished()).repeat(10_000);
    scene.withstands("2 M empty fragments through a tunnel", 2, |node| {
        let mut socket = WebSocket::connect(node.address(), "/attacker");
        socket.peer.send(client_bytes(RawFrame::new(TEXT, "").unfinished()));
        assert_eq!(flood(&mut socket.peer, &batch, 200), 200);
    });
}
