//! Who lives beside a flood, on the same worker, has its turn as before: while it waits for an echo,
//! the worker does no more for all others together than nobody notices.
//!
//! `tests/frame_floods.rs` asks the clock, beside attacks that end. These go on, and what is asked is
//! how much the program worked meanwhile: so it does not matter what else the machine does. `cargo
//! test --test neighbours -- --nocapture --test-threads=1` shows both, beside what a client takes
//! that is honest and as busy; with `TIDEWIRE_BIN` of another build.
//!
//! By the clock an echo is also late when the system has the processors for others just then, and
//! those who attack here are on the same machine. With `chrt --fifo 50` (as root) in front of it all
//! but them run as soon as they can, if the kernel's own work for sockets comes before (`chrt --fifo
//! --pid 51` for each thread called ksoftirqd): what remains is what the program does to its clients.

use std::thread;
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::Request;
use tidewire_testkit::neighbour::{give_precedence_to_others, waits_beside_each};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::raw_frame::{BINARY, CONTINUATION, PING, PONG, RawFrame, Side, TEXT};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge, hub};
use tidewire_testkit::websocket::{WebSocket, handshake};

/// What somebody does to a node until a moment.
type Deed = fn(&Tidewire, Instant);

/// Two turns of a flood of tiny frames, and what the kernel's clock is coarse by (4 ms, twice).
/// Without optimization a turn takes longer.
const MOST_WORK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 12 } else { 9 });
const ATTEMPTS: usize = 5;

const OFF: &str = "limits = { profile = \"off\" }\n";

#[track_caller]
fn check(
    node: &Tidewire,
    path: (&str, &'static str),
    busy: Deed,
    attacks: &[(&'static str, Deed)],
) {
    let mut names = vec!["nobody", "a busy client"];
    let mut deeds: Vec<Deed> = vec![nothing, busy];
    for &(name, attack) in attacks {
        names.push(name);
        deeds.push(attack);
    }
    let mut disturbing: Vec<&str> = Vec::new();
    for _ in 0..ATTEMPTS {
        let found = waits_beside_each(node, path, &deeds);
        disturbing.clear();
        for (name, waits) in names.iter().zip(found) {
            println!("beside {name}: p99 {:?}, of work {:?}", waits.p99, waits.p99_of_work);
            disturbing.extend((waits.p99_of_work > MOST_WORK).then_some(name));
        }
        if disturbing.is_empty() {
            return;
        }
    }
    panic!("more than {MOST_WORK:?} are worked for {disturbing:?} while the neighbour waits");
}

fn nothing(_: &Tidewire, until: Instant) {
    thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// Sends `bytes` until the moment, to somebody who takes them.
fn floods(peer: &mut Peer, bytes: &[u8], until: Instant) {
    while Instant::now() < until && peer.try_send(bytes).is_ok() {}
}

fn opened(node: &Tidewire, path: &str) -> Peer {
    WebSocket::connect(node.address(), path).peer
}

fn of_client(frame: RawFrame) -> Vec<u8> {
    frame.bytes(Side::Client)
}

#[test]
fn beside_who_floods_a_hub_it_has_its_turn() {
    let config = hub("server1", "max_fragments = 100000000");
    let node = Tidewire::run(&format!("workers = 1\n{config}{OFF}"));
    check(
        &node,
        ("/ws/neighbour", "Received: "),
        |node, until| {
            let mut peer = opened(node, "/ws/busy");
            let mut sender = peer.another();
            let texts = of_client(RawFrame::new(TEXT, "x".repeat(1000))).repeat(60);
            thread::scope(|scope| {
                scope.spawn(move || {
                    floods(&mut sender, &texts, until);
                    sender.send(of_client(RawFrame::close(1000, "")));
                });
                while let Ok(1..) = peer.wait() {
                    peer.take_some();
                }
            });
        },
        &[
            ("empty fragments", |node, until| {
                let mut peer = opened(node, "/ws/attacker");
                peer.send(of_client(RawFrame::new(TEXT, "").unfinished()));
                let part = of_client(RawFrame::new(CONTINUATION, "").unfinished());
                floods(&mut peer, &part.repeat(10_000), until);
            }),
            ("pongs", |node, until| {
                let mut peer = opened(node, "/ws/attacker");
                let pong = of_client(RawFrame::new(PONG, [b'p'; 125]));
                floods(&mut peer, &pong.repeat(500), until);
            }),
            ("pings and their pongs", |node, until| {
                let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
                let pings = of_client(RawFrame::new(PING, "p")).repeat(500);
                while Instant::now() < until {
                    socket.peer.send(&pings);
                    socket.peer.take(3 * 500);
                }
            }),
            ("messages of a byte", |node, until| {
                let mut socket = WebSocket::connect(node.address(), "/ws/attacker");
                let texts = of_client(RawFrame::new(TEXT, "x")).repeat(500);
                while Instant::now() < until {
                    socket.peer.send(&texts);
                    (0..500).for_each(|_| assert_eq!(socket.text(), "Received: x"));
                }
            }),
            ("a byte in each segment", |node, until| {
                let mut peer = opened(node, "/ws/attacker");
                let pong = of_client(RawFrame::new(PONG, ""));
                let mut bytes = pong.iter().cycle();
                floods_bytes(&mut peer, &mut bytes, until);
            }),
        ],
    );
}

fn floods_bytes<'b>(peer: &mut Peer, bytes: &mut impl Iterator<Item = &'b u8>, until: Instant) {
    while Instant::now() < until {
        let Some(&byte) = bytes.next() else { return };
        if peer.try_send(&[byte]).is_err() {
            return;
        }
    }
}

#[test]
fn beside_who_floods_a_tunnel_it_has_its_turn() {
    let server = Backend::start(|request: &Request, peer: &mut Peer| {
        match request.target.as_str() {
            "/neighbour" => script::echoes(request, peer),
            // Takes what comes, as fast as it comes.
            _ => {
                give_precedence_to_others();
                let mut socket = script::accepts(request, peer);
                while let Ok(1..) = socket.peer.wait() {
                    socket.peer.take_some();
                }
            }
        }
        peer.close();
    });
    let node = Tidewire::run(&format!(
        "workers = 1\n{}",
        edge(
            &[server.address()],
            "[limits]\nclient = { control = \"100000000/s\", max_fragments = 1000000000 }"
        )
    ));
    check(
        &node,
        ("/neighbour", ""),
        |node, until| {
            let mut peer = opened(node, "/busy");
            let message = of_client(RawFrame::new(BINARY, vec![1; 60 << 10]));
            floods(&mut peer, &message, until);
        },
        &[
            ("empty fragments", |node, until| {
                let mut peer = opened(node, "/attacker");
                peer.send(of_client(RawFrame::new(TEXT, "").unfinished()));
                let part = of_client(RawFrame::new(CONTINUATION, "").unfinished());
                floods(&mut peer, &part.repeat(10_000), until);
            }),
            ("a message without end", |node, until| {
                let mut peer = opened(node, "/attacker");
                peer.send(of_client(RawFrame::new(BINARY, "").announcing(i64::MAX as u64)));
                floods(&mut peer, &vec![b'x'; 64 << 10], until);
            }),
            ("pongs", |node, until| {
                let mut peer = opened(node, "/attacker");
                let pong = of_client(RawFrame::new(PONG, [b'p'; 125]));
                floods(&mut peer, &pong.repeat(500), until);
            }),
            ("halves of handshakes", |node, until| {
                let whole = handshake("/attacker");
                while Instant::now() < until {
                    Peer::connect(node.address()).send(&whole[..whole.len() / 2]);
                }
            }),
            ("refused handshakes", |node, until| {
                let bad = handshake("/attacker").replace("Host", "Host : b\r\nHost");
                while Instant::now() < until {
                    let mut peer = Peer::connect(node.address());
                    peer.send(&bad);
                    peer.response().expect(400);
                }
            }),
        ],
    );
}
