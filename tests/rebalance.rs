//! Clients of servers that have more than their share, or that drain, are told to come again: with
//! Close 1012, between two frames, no faster than they may.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::{until, until_within};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, handshake, server_frame, switch};
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// An edge before these servers, the last of which is in maintenance.
fn edge(servers: &[SocketAddr], more: &str) -> Tidewire {
    let server = |(index, address): (usize, &SocketAddr)| {
        let state = if index + 1 == servers.len() { "maintenance" } else { "ready" };
        format!("{{ name = \"s{}\", address = \"{address}\", state = \"{state}\" }},", index + 1)
    };
    let servers: String = servers.iter().enumerate().map(server).collect();
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
balance = "leastconn"
server = [{servers}]
{more}
"#
    ))
}

/// Has the operator say what a server is to be.
#[track_caller]
fn set(node: &Tidewire, server: &str, change: &str) {
    let admin = format!("http://{}", node.admin());
    let name = format!("nodes/{server}");
    let output =
        command().args(["servers", "set", &name, change, "--admin", &admin]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The clients of each server now.
fn spread(edge: &Tidewire, servers: usize) -> Vec<usize> {
    let text = edge.metrics();
    let of = |index: usize| {
        let label = format!("server=\"s{index}\"");
        let line =
            |line: &&str| line.starts_with("edge_server_connections{") && line.contains(&label);
        let line = text.lines().find(line).expect("each server has a line");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (1..=servers).map(of).collect()
}

/// Many clients, and servers for them, on a few threads.
struct Fleet {
    runtime: Runtime,
    seen: Arc<Seen>,
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    closes: Mutex<Vec<(Instant, Option<u16>, String)>>,
    /// What else has ended a connection.
    faults: Mutex<Vec<String>>,
}

impl Fleet {
    fn new() -> Self {
        tidewire_runtime::limit::raise_open_files().expect("the limit can be raised");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        Self { runtime, seen: Arc::default() }
    }

    /// A server that takes WebSockets, and answers a Close.
    fn server(&self) -> SocketAddr {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        address
    }

    /// Clients that come again when they are told to.
    fn join(&self, edge: SocketAddr, count: usize) {
        for first in (0..count).step_by(100) {
            for _ in first..count.min(first + 100) {
                self.runtime.spawn(live(edge, Arc::clone(&self.seen)));
            }
            self.wait_for(count.min(first + 100));
        }
    }

    #[track_caller]
    fn wait_for(&self, open: usize) {
        until_within(Duration::from_secs(60), &format!("{open} clients are there"), || {
            (self.seen.open.load(Ordering::SeqCst) == open).then_some(())
        });
    }

    /// Each that was told to go was told so with 1012, and no faster than `rate` in a second since
    /// `start`, before which nobody can have been told. When they hear of it is no measure of that:
    /// they may all be late, and then hear it at once.
    #[track_caller]
    fn expect_told(&self, text: &str, rate: usize, start: Instant) -> usize {
        let faults = self.seen.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        let closes = self.seen.closes.lock().unwrap();
        for (_, code, reason) in closes.iter() {
            assert_eq!((*code, reason.as_str()), (Some(1012), text));
        }
        let mut times: Vec<_> = closes.iter().map(|(at, ..)| *at - start).collect();
        times.sort_unstable();
        for (before, time) in times.iter().enumerate() {
            // A tick's worth at once, and the first of the next one.
            let most = rate as f64 * time.as_secs_f64() + rate as f64 / 4.0;
            assert!(before as f64 <= most, "{before} within {time:?}, and {rate} a second may");
        }
        closes.len()
    }
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let head = head(&mut stream).await?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    })?;
    stream.write_all(switch(&key).as_bytes()).await.ok()?;
    let close = until_close(&mut stream, Role::Server).await.ok()?;
    let mut frame = BytesMut::new();
    encode_close(CloseCode::new(close.0.unwrap_or(1000)), "", None, &mut frame);
    stream.write_all(&frame).await.ok()
}

async fn live(edge: SocketAddr, seen: Arc<Seen>) {
    let fault = |what: String| seen.faults.lock().unwrap().push(what);
    loop {
        let Ok(mut stream) = TcpStream::connect(edge).await else {
            return fault("cannot connect".into());
        };
        stream.write_all(handshake("/ws").as_bytes()).await.unwrap();
        match head(&mut stream).await {
            Some(head) if head.starts_with("HTTP/1.1 101") => {}
            other => return fault(format!("{other:?}")),
        }
        seen.open.fetch_add(1, Ordering::SeqCst);
        let close = until_close(&mut stream, Role::Client).await;
        seen.open.fetch_sub(1, Ordering::SeqCst);
        let Ok((code, reason)) = close else { return fault("the end without a Close".into()) };
        seen.closes.lock().unwrap().push((Instant::now(), code, reason));
        let mut frame = BytesMut::new();
        encode_close(CloseCode::new(code.unwrap_or(1000)), "", Some([1, 2, 3, 4]), &mut frame);
        let _ = stream.write_all(&frame).await;
        let _ = stream.read(&mut [0; 16]).await;
        drop(stream);
        // As clients should: not all at once.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
    }
}

/// The head of a request or an answer, which nothing follows yet.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

async fn until_close(stream: &mut TcpStream, role: Role) -> Result<(Option<u16>, String), ()> {
    let limits = Limits { frame_bytes_max: 1024, message_bytes_max: 1024, fragments_max: 8 };
    let mut decoder = Decoder::new(role, limits);
    let mut buffer = [0; 256];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|_| ())?;
        if read == 0 {
            return Err(());
        }
        let mut input = &mut buffer[..read];
        while let Some(event) = decoder.next(&mut input).map_err(|_| ())? {
            if let Event::Close { code, reason } = event {
                return Ok((code.map(CloseCode::as_u16), reason.into_owned()));
            }
        }
    }
}

#[test]
fn a_server_that_is_added_gets_its_share_of_three_thousand_tunnels() {
    let fleet = Fleet::new();
    let servers = [(); 3].map(|()| fleet.server());
    let rebalance =
        "rebalance = { band = \"2%\", rate = \"200/s\", delay = \"1s\", min_age = \"0s\" }";
    let mut edge = edge(&servers, rebalance);
    fleet.join(edge.address(), 3000);
    assert_eq!(spread(&edge, 3), [1500, 1500, 0]);
    let start = Instant::now();
    set(&edge, "s3", "ready");
    edge.log_line(&["INFO", "rebalancing begins", "backend=\"nodes\""]);
    assert!(start.elapsed() > Duration::from_millis(900), "it did not wait for the delay");
    edge.log_line(&["INFO", "rebalancing is over", "moved="]);
    fleet.wait_for(3000);
    // 1,000 at 200 a second, and those who are last come back.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // Of those who have gone, some may be counted for a moment yet.
    until("all have their share", || {
        let spread = spread(&edge, 3);
        let (most, least) = (*spread.iter().max().unwrap(), *spread.iter().min().unwrap());
        (most as f64 / least as f64 <= 1.02).then_some(())
    });
    let told = fleet.expect_told("rebalance", 200, start + Duration::from_secs(1));
    assert!((900..=1010).contains(&told), "{told} were moved for 1000 that were missing");
    let by_the_edge = ["reason=\"rebalance\"", "by=\"edge\""];
    edge.expect_metric("edge_ends_total", &by_the_edge, told as f64);
    edge.expect_metric("edge_backend_moved_total", &["reason=\"rebalance\""], told as f64);
    edge.log_line(&["websocket", "reason=\"rebalance\"", "code=1012"]);
}

#[test]
fn a_server_that_starts_slowly_is_filled_as_it_grows_and_nobody_is_moved_in_vain() {
    let fleet = Fleet::new();
    let servers = [(); 3].map(|()| fleet.server());
    let rebalance = "slowstart = \"4s\"\n\
        rebalance = { band = \"5%\", rate = \"200/s\", delay = \"100ms\", min_age = \"0s\" }";
    let edge = edge(&servers, rebalance);
    fleet.join(edge.address(), 300);
    let start = Instant::now();
    set(&edge, "s3", "ready");
    until("it has its share", || (spread(&edge, 3)[2] >= 95).then_some(()));
    fleet.wait_for(300);
    let told = fleet.expect_told("rebalance", 200, start);
    assert!((90..=110).contains(&told), "{told} were moved for 100 that were missing");
}

#[test]
fn a_server_that_drains_is_emptied_and_one_in_maintenance_only_when_that_is_wanted() {
    let fleet = Fleet::new();
    let servers = [(); 3].map(|()| fleet.server());
    let rebalance = "rebalance = { rate = \"100/s\", delay = \"200ms\", min_age = \"0s\" }";
    let edge = edge(&servers, rebalance);
    fleet.join(edge.address(), 200);
    set(&edge, "s1", "maintenance");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(spread(&edge, 3), [100, 100, 0], "who is there stays");
    let start = Instant::now();
    set(&edge, "s1", "drain");
    until("it is empty", || (spread(&edge, 3) == [0, 200, 0]).then_some(()));
    fleet.wait_for(200);
    assert_eq!(fleet.expect_told("rebalance", 100, start), 100);
    // The last one is not emptied: there is nowhere to go.
    set(&edge, "s2", "drain");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(spread(&edge, 3), [0, 200, 0]);
}

#[test]
fn the_clients_of_a_server_in_maintenance_are_closed_when_that_is_wanted() {
    let fleet = Fleet::new();
    let servers = [(); 3].map(|()| fleet.server());
    let edge = edge(&servers, "on_down = \"close\"");
    fleet.join(edge.address(), 300);
    let start = Instant::now();
    set(&edge, "s1", "maintenance");
    until("it is empty", || (spread(&edge, 3) == [0, 300, 0]).then_some(()));
    fleet.wait_for(300);
    assert_eq!(fleet.expect_told("server down", 100, start), 150);
    edge.expect_metric("edge_ends_total", &["reason=\"server_down\""], 150.0);
}

#[test]
fn what_becomes_of_a_server_is_acted_on_at_once() {
    let fleet = Fleet::new();
    let servers = [(); 2].map(|()| fleet.server());
    let edge = edge(&servers, "on_down = \"close\"");
    let waits = [("s1", "s2"), ("s2", "s1"), ("s1", "s2"), ("s2", "s1")].map(|(server, other)| {
        let mut socket = WebSocket::connect(edge.address(), "/ws");
        set(&edge, other, "ready");
        // While there is something to do, it is looked at ten times a second anyway.
        std::thread::sleep(Duration::from_millis(300));
        set(&edge, server, "maintenance");
        let start = Instant::now();
        assert_eq!(socket.next(), Got::Close(Some(1012), "server down".into()));
        start.elapsed()
    });
    // And otherwise once a second: a second after the one before it.
    let fastest = waits[1..].iter().min().expect("there are some");
    assert!(*fastest < Duration::from_millis(500), "{waits:?}");
}

#[test]
fn the_clients_of_a_server_that_is_not_listed_any_more_go_to_the_others() {
    let fleet = Fleet::new();
    let servers = [(); 2].map(|()| fleet.server());
    let server = |index: usize| {
        format!("[[server]]\nname = \"s{}\"\naddress = \"{}\"\n", index + 1, servers[index])
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("servers.toml");
    std::fs::write(&path, server(0) + &server(1)).expect("the directory can be written to");
    let edge = Tidewire::run(&format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\nbackend = \"nodes\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n[[backend]]\nname = \"nodes\"\nbalance = \"leastconn\"\n\
         discovery = {{ file = \"{}\" }}\n\
         rebalance = {{ rate = \"100/s\", delay = \"200ms\", min_age = \"0s\" }}",
        path.display()
    ));
    fleet.join(edge.address(), 60);
    let start = Instant::now();
    std::fs::write(&path, server(1)).expect("the file can be written again");
    edge.child.signal(Signal::HUP);
    let here = || edge.metric("edge_server_connections", &["server=\"s2\""]);
    until("the one that is left has them all", || (here() == 60.0).then_some(()));
    fleet.wait_for(60);
    assert_eq!(fleet.expect_told("rebalance", 100, start), 30);
}

#[test]
fn the_clients_of_a_server_that_fails_its_checks_are_closed_when_that_is_wanted() {
    let is_ill = Arc::<AtomicBool>::default();
    let seems_ill = Arc::clone(&is_ill);
    let server = Backend::start(move |request, peer| match request.target.as_str() {
        "/check" if seems_ill.load(Ordering::SeqCst) => script::answers(500, "ill")(request, peer),
        "/check" => script::answers(200, "well")(request, peer),
        _ => script::echoes(request, peer),
    });
    let mut edge = Tidewire::run(&format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\nbackend = \"nodes\"\n\
         [[backend]]\nname = \"nodes\"\non_down = \"close\"\n\
         server = [{{ name = \"s1\", address = \"{}\", check = true }}]\n\
         check = {{ type = \"http\", path = \"/check\", interval = \"200ms\", fall = 2 }}",
        server.address()
    ));
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    is_ill.store(true, Ordering::SeqCst);
    edge.log_line(&["server is down"]);
    socket.expect_close(1012);
    edge.log_line(&["websocket", "reason=\"server_down\"", "by=\"edge\"", "code=1012"]);
}

#[test]
fn the_young_stay_where_they_are() {
    let fleet = Fleet::new();
    let servers = [(); 3].map(|()| fleet.server());
    let rebalance = "rebalance = { rate = \"100/s\", delay = \"0s\", min_age = \"1h\" }";
    let edge = edge(&servers, rebalance);
    fleet.join(edge.address(), 100);
    set(&edge, "s3", "ready");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(spread(&edge, 3), [50, 50, 0]);
}

#[test]
fn who_is_moved_gets_whole_frames_and_the_server_hears_of_it() {
    let (told, heard) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = Backend::start(move |request, peer| {
        let mut socket = script::accepts(request, peer);
        let frame = server_frame(Opcode::Text, b"one frame, in two halves");
        socket.peer.send(&frame[..10]);
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
        socket.peer.send(&frame[10..]);
        let _ = told.send(socket.next());
    });
    let other = Backend::start(script::echoes);
    let rebalance = "rebalance = { rate = \"100/s\", delay = \"0s\", min_age = \"0s\" }";
    let mut edge = edge(&[server.address(), other.address()], rebalance);
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    let head = socket.peer.take(10);
    set(&edge, "s2", "ready");
    set(&edge, "s1", "drain");
    edge.log_line(&["rebalancing begins"]);
    // The server's direction is between two frames, and is told at once; the client's is not.
    let heard = heard.recv_timeout(Duration::from_millis(300));
    assert!(heard.is_err(), "the server reads nothing yet: {heard:?}");
    socket.peer.expect_silence(Duration::from_millis(200));
    go.send(()).unwrap();
    let rest = socket.peer.take(16);
    assert_eq!([head, rest].concat()[2..], *b"one frame, in two halves");
    assert_eq!(socket.next(), Got::Close(Some(1012), "rebalance".into()));
}
