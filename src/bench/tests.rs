//! The jobs against servers that do right and servers that do wrong, over real sockets.

use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use tidewire_wire::ws::frame::{Opcode, encode_frame};
use tidewire_wire::ws::handshake::accept_key;
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::client::{Client, ClientError};
use super::target::Target;
use super::{Bench, Job};

/// Ends with the test.
struct Server {
    url: String,
    accepting: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves every connection with `serve`, on a port of the OS.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Server
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Server { url, accepting: accepting.abort_handle() }
}

/// Reads a request and returns the 101 that answers it.
async fn read_upgrade(stream: &mut TcpStream) -> std::io::Result<BytesMut> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut request).await?;
    }
    let request = String::from_utf8_lossy(&request);
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
    let accept = accept_key(key.expect("the client sends a key").as_bytes());
    let accept = String::from_utf8_lossy(&accept);
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    Ok(BytesMut::from(answer.as_bytes()))
}

async fn echoes(mut stream: TcpStream) -> std::io::Result<()> {
    let mut out = read_upgrade(&mut stream).await?;
    let limits = Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragments_max: 1 };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut buffer = vec![0; 4096];
    while !decoder.is_over() {
        stream.write_all_buf(&mut out).await?;
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut bytes = &mut buffer[..count];
        while let Some(event) = decoder.next(&mut bytes).expect("a client of ours") {
            match event {
                Event::Text(payload) => encode_frame(Opcode::Text, &payload, &mut out),
                Event::Close { .. } => encode_frame(Opcode::Close, &[], &mut out),
                _ => {}
            }
        }
    }
    stream.write_all_buf(&mut out).await
}

/// Runs a job as the command line would, and returns its report.
async fn report(arguments: &str) -> anyhow::Result<serde_json::Value> {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }
    let words = std::iter::once("bench").chain(arguments.split(' '));
    Ok(match Cli::try_parse_from(words)?.bench.job {
        Job::Echo(echo) => serde_json::to_value(echo.run(1).await?)?,
        Job::Idle(idle) => serde_json::to_value(idle.run(1).await?)?,
        Job::Connect(connect) => serde_json::to_value(connect.run(1).await?)?,
        Job::Fanout(fanout) => serde_json::to_value(fanout.run(1).await?)?,
    })
}

#[tokio::test]
async fn an_echo_server_is_measured_without_warnings() {
    let server = server(echoes).await;
    let pid = std::process::id();
    let rest = "--connections 5 --window 3 --size 20KiB --warm-up 10ms --duration 200ms";
    let report = report(&format!("echo {} {rest} --pid {pid}", server.url)).await.expect("runs");
    let messages = report["messages"].as_u64().expect("a count");
    assert!(messages > 0, "{report}");
    assert_eq!(report["bytes"], messages * 20 * 1024);
    assert_eq!((&report["unasked"], &report["failures"]["count"]), (&0.into(), &0.into()));
    assert!(report["processes"][0]["cpu_us_per_unit"].as_f64().is_some_and(|cost| cost > 0.0));
}

#[tokio::test]
async fn a_rate_is_kept() {
    let server = server(echoes).await;
    let rest = "--connections 4 --warm-up 0s --duration 500ms --rate 200";
    let report = report(&format!("echo {} {rest}", server.url)).await.expect("runs");
    let messages = report["messages"].as_u64().expect("a count");
    assert!((50..=101).contains(&messages), "{messages} of 100");
}

#[tokio::test]
async fn every_cycle_of_connect_is_counted_and_closed() {
    let server = server(echoes).await;
    for close in ["handshake", "reset"] {
        let rest = format!("--connections 50 --concurrency 7 --close {close}");
        let report = report(&format!("connect {} {rest}", server.url)).await.expect("runs");
        assert_eq!(report["upgrades"], 50);
        assert_eq!(report["failures"]["count"], 0);
    }
}

#[tokio::test]
async fn idle_connections_echo_once_when_asked_to() {
    let server = server(echoes).await;
    let rest = format!("--connections 10 --echo-bytes 60KB --pid {}", std::process::id());
    let report = report(&format!("idle {} {rest} --settle 2s", server.url)).await.expect("runs");
    assert_eq!(report["connections_open"], 10);
    assert!(report["memory"]["per_connection_after_echo"].is_f64(), "{report}");
}

#[tokio::test]
async fn what_the_publisher_hears_itself_is_no_delivery() {
    let server = server(echoes).await;
    let rest = "--subscribers 3 --rate 50 --duration 200ms --drain 100ms";
    let report = report(&format!("fanout {} {rest}", server.url)).await.expect("runs");
    assert_eq!(report["published"], 10);
    assert_eq!((&report["expected"], &report["delivered"]), (&30.into(), &0.into()));
}

#[tokio::test]
async fn a_server_that_refuses_is_an_error_with_its_reason() {
    let server = server(|mut stream| async move {
        read_upgrade(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await
    })
    .await;
    for job in ["echo", "idle", "connect", "fanout"] {
        let error = report(&format!("{job} {} --connect-timeout 5s", server.url)).await;
        let error = error.expect_err("nothing opens").to_string();
        assert!(error.contains("404 Not Found"), "{job}: {error}");
    }
}

/// Opens a connection to a server that sends `answer` once, after its 101 or instead of it.
async fn open(
    answer: impl Fn(BytesMut) -> BytesMut + Send + Sync + 'static,
) -> (Server, Result<Client, ClientError>) {
    let answer = std::sync::Arc::new(answer);
    let server = server(move |mut stream| {
        let answer = std::sync::Arc::clone(&answer);
        async move {
            let switch = read_upgrade(&mut stream).await?;
            stream.write_all(&answer(switch)).await?;
            // Returns the first frame of the client to it, as a message.
            let mut frame = vec![0; 64];
            let count = stream.read(&mut frame).await?;
            let mut out = BytesMut::new();
            encode_frame(Opcode::Binary, &frame[..count], &mut out);
            stream.write_all(&out).await?;
            stream.read(&mut frame).await.map(drop)
        }
    })
    .await;
    let url = server.url.parse().expect("a URL of ours");
    let connecting = TestConnecting::parse_from(["test", "--connect-timeout", "5s"]).connecting;
    let target = Target::resolve(&url, &connecting).await.expect("an address");
    let client = Client::open(&target, 0).await;
    (server, client)
}

#[derive(clap::Parser)]
struct TestConnecting {
    #[command(flatten)]
    connecting: super::target::Connecting,
}

#[tokio::test]
async fn a_message_glued_to_the_101_is_received() {
    let (_server, client) = open(|mut switch| {
        encode_frame(Opcode::Text, b"hello", &mut switch);
        switch
    })
    .await;
    let mut received = Vec::<u8>::new();
    let received_now = client.expect("opens").receive(|message| received.extend(message)).await;
    received_now.expect("a message");
    assert_eq!(received, b"hello");
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (_server, client) = open(|mut switch| {
        encode_frame(Opcode::Ping, b"there?", &mut switch);
        switch
    })
    .await;
    let mut client = client.expect("opens");
    let mut pong = Vec::<u8>::new();
    while pong.is_empty() {
        client.receive(|message| pong.extend(message)).await.expect("the pong comes back");
    }
    assert_eq!(pong[..2], [0x8A, 0x80 | 6]);
}

#[tokio::test]
async fn a_101_for_another_key_is_refused() {
    let (_server, client) = open(|_| {
        BytesMut::from(
            &b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"[..],
        )
    })
    .await;
    assert!(matches!(client, Err(ClientError::WrongAccept)));
}

#[tokio::test]
async fn a_server_that_answers_no_close_is_waited_for_in_bounds() {
    let (_server, client) = open(|switch| switch).await;
    let closed = client.expect("opens").close(Duration::from_millis(50)).await;
    assert!(matches!(closed, Err(ClientError::CloseTimeout(_))), "{closed:?}");
}
