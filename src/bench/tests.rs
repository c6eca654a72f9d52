//! The jobs against servers that do right and servers that do wrong, over real sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use rustls_pki_types::PrivateKeyDer;
use tidewire_wire::ws::frame::{Opcode, encode_frame};
use tidewire_wire::ws::handshake::accept_key;
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

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

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut request).await?;
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}

/// Reads a request and returns the 101 that answers it.
async fn read_upgrade(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<BytesMut> {
    let request = read_request(stream).await?;
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
    let accept = accept_key(key.expect("the client sends a key").as_bytes());
    let accept = String::from_utf8_lossy(&accept);
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    Ok(BytesMut::from(answer.as_bytes()))
}

async fn echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let out = read_upgrade(&mut stream).await?;
    echo(stream, out).await
}

/// Sends `out`, then each message back.
async fn echo(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut out: BytesMut,
) -> std::io::Result<()> {
    let limits = Limits { frame_bytes_max: 1 << 24, message_bytes_max: 1 << 24, fragments_max: 1 };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut buffer = vec![0; 4096];
    while !decoder.is_over() {
        stream.write_all_buf(&mut out).await?;
        stream.flush().await?;
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
    stream.write_all_buf(&mut out).await?;
    stream.shutdown().await
}

/// Runs a job as the command line would, and returns its report.
async fn report(arguments: &str) -> anyhow::Result<serde_json::Value> {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }
    let words = std::iter::once("bench").chain(arguments.split_whitespace());
    Ok(match Cli::try_parse_from(words)?.bench.job {
        Job::Echo(echo) => serde_json::to_value(echo.run(1).await?)?,
        Job::Idle(idle) => serde_json::to_value(idle.run(1).await?)?,
        Job::Connect(connect) => serde_json::to_value(connect.run(1).await?)?,
        Job::Fanout(fanout) => serde_json::to_value(fanout.run(1).await?)?,
    })
}

/// The report of a run that `fits`. One that was held up in the middle may not, as on any busy
/// machine, and is made again; what is wrong with the program is so each time.
async fn undisturbed(
    arguments: &str,
    fits: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let mut last = report(arguments).await;
    for _ in 1..RUNS {
        if last.as_ref().is_ok_and(&fits) {
            break;
        }
        last = report(arguments).await;
    }
    let report = last.expect("runs");
    assert!(fits(&report), "{report}");
    report
}

const RUNS: usize = 10;

/// Whether no connection has waited too long for its end.
fn is_closed_in_time(report: &serde_json::Value) -> bool {
    let reason = report["failures"]["first_reason"].as_str().unwrap_or_default();
    !reason.starts_with("closing took longer")
}

#[tokio::test]
async fn an_echo_server_is_measured_without_warnings() {
    let server = server(echoes).await;
    let pid = std::process::id();
    let rest = "--connections 5 --window 3 --size 20KiB --warm-up 10ms --duration 200ms";
    // Processor time has steps of 10 ms: of a run that had less, there is none.
    let has_cost = |report: &serde_json::Value| {
        report["processes"][0]["cpu_us_per_unit"].as_f64().is_some_and(|cost| cost > 0.0)
    };
    let report = undisturbed(&format!("echo {} {rest} --pid {pid}", server.url), has_cost).await;
    let messages = report["messages"].as_u64().expect("a count");
    assert!(messages > 0, "{report}");
    assert_eq!(report["bytes"], messages * 20 * 1024);
    assert_eq!((&report["unasked"], &report["failures"]["count"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_rate_is_kept() {
    let server = server(echoes).await;
    let rest = "--connections 4 --warm-up 0s --duration 500ms --rate 200";
    // Of 100: what was due while it was held up is sent later, all at once.
    let is_kept = |report: &serde_json::Value| {
        report["messages"].as_u64().is_some_and(|messages| (50..=101).contains(&messages))
    };
    undisturbed(&format!("echo {} {rest}", server.url), is_kept).await;
}

#[tokio::test]
async fn every_cycle_of_connect_is_counted_and_closed() {
    let server = server(echoes).await;
    for close in ["handshake", "reset"] {
        let rest = format!("--connections 50 --concurrency 7 --close {close}");
        let arguments = format!("connect {} {rest}", server.url);
        let report = undisturbed(&arguments, is_closed_in_time).await;
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
    // A publisher that is held up leaves messages out.
    let is_whole = |report: &serde_json::Value| report["published"] == 10;
    let report = undisturbed(&format!("fanout {} {rest}", server.url), is_whole).await;
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
        let error = report(&format!("{job} {} --connect-timeout 20s", server.url)).await;
        let error = error.expect_err("nothing opens").to_string();
        assert!(error.contains("404 Not Found"), "{job}: {error}");
    }
}

/// Opens a connection to a server that sends `answer` once, after its 101 or instead of it.
async fn open(
    answer: impl Fn(BytesMut) -> BytesMut + Send + Sync + 'static,
) -> (Server, Result<Client, ClientError>) {
    let answer = Arc::new(answer);
    let server = server(move |mut stream| {
        let answer = Arc::clone(&answer);
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
    let connecting = TestConnecting::parse_from(["test", "--connect-timeout", "20s"]).connecting;
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

/// A certificate in a file, and a server that has it.
struct TlsServer {
    server: Server,
    ca: PathBuf,
    _directory: tempfile::TempDir,
}

/// Serves every connection with `serve`, with TLS by a certificate for `name`.
async fn tls_server<F>(
    name: &str,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> TlsServer
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, certified.cert.pem()).expect("a file");
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("both versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a key of this certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut server = server(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move { serve(acceptor.accept(stream).await?).await }
    })
    .await;
    server.url = server.url.replace("ws://", "wss://");
    TlsServer { server, ca, _directory: directory }
}

#[tokio::test]
async fn handshakes_are_full_unless_resumption_is_asked_for() {
    let TlsServer { server, ca, .. } = &tls_server("127.0.0.1", echoes).await;
    let common = format!("{} --ca {} --connections 30 --concurrency 10", server.url, ca.display());
    for version in ["1.2", "1.3"] {
        let options = format!("{common} --tls-version {version} --cipher aes-128-gcm");
        let full = report(&format!("connect {options} --group x25519")).await.expect("runs");
        assert_eq!((&full["tls"]["full"], &full["tls"]["resumed"]), (&30.into(), &0.into()));
        assert_eq!(full["tls"]["group"], "X25519");
        assert!(full["tls"]["cipher"].as_str().is_some_and(|name| name.contains("AES_128_GCM")));
        // None of the first ten can, all others do.
        let is_resumed = |report: &serde_json::Value| {
            report["tls"]["resumed"] == 20 && is_closed_in_time(report)
        };
        let again = undisturbed(&format!("connect {options} --resume"), is_resumed).await;
        assert_eq!(again["failures"]["count"], 0, "{again}");
    }
}

#[tokio::test]
async fn messages_larger_than_all_buffers_pass_tls() {
    let TlsServer { server, ca, .. } = &tls_server("127.0.0.1", echoes).await;
    let rest = format!("--connections 2 --echo-bytes 8MiB --pid {}", std::process::id());
    let arguments = format!("idle {} --ca {} {rest} --settle 1s", server.url, ca.display());
    let report = report(&arguments).await.expect("runs");
    assert_eq!(report["connections_open"], 2, "{report}");
    let warnings = report["warnings"].to_string();
    assert!(!warnings.contains("echo") && !warnings.contains("ended"), "{report}");
}

/// A TLS session takes more than its socket: what is left must not wait for the next message.
#[tokio::test]
async fn what_tls_has_taken_is_sent_without_another_message() {
    let reads = Arc::new(Notify::new());
    let may_read = Arc::clone(&reads);
    let TlsServer { server, ca, .. } = &tls_server("127.0.0.1", move |mut stream| {
        let may_read = Arc::clone(&may_read);
        async move {
            let mut out = read_upgrade(&mut stream).await?;
            stream.write_all_buf(&mut out).await?;
            stream.flush().await?;
            may_read.notified().await;
            echo(stream, out).await
        }
    })
    .await;
    let options = ["test", "--ca", ca.to_str().expect("ASCII")];
    let connecting = TestConnecting::parse_from(options).connecting;
    let url = server.url.parse().expect("a URL of ours");
    let target = Target::resolve(&url, &connecting).await.expect("an address");
    let mut client = Client::open(&target, 0).await.expect("opens");
    let mut frame = BytesMut::new();
    super::client::encode(Opcode::Text, &[b'x'; 1000], &mut frame);
    let (mut sent, mut unsent) = (0, &frame[..]);
    let full = Duration::from_millis(200);
    while timeout(full, client.turn(&mut unsent, |_| {})).await.is_ok() {
        if unsent.is_empty() {
            (sent, unsent) = (sent + 1, &frame[..]);
        }
    }
    reads.notify_one();
    let mut echoed = 0;
    while echoed < sent {
        let received = timeout(Duration::from_secs(20), client.receive(|_| echoed += 1)).await;
        received.expect("all comes back").expect("open");
    }
}

#[tokio::test]
async fn a_certificate_is_checked_unless_asked_not_to() {
    let TlsServer { server, ca, .. } = &tls_server("chat.example", echoes).await;
    let connect = async |options: &str| {
        report(&format!("connect {} --connections 1 {options}", server.url)).await
    };
    let ca = ca.display();
    for wrong in ["", &format!("--ca {ca}"), &format!("--ca {ca} --sni other.example")] {
        let error = connect(wrong).await.expect_err(wrong).to_string();
        assert!(error.contains("TLS handshake: invalid peer certificate"), "{wrong}: {error}");
    }
    for right in ["--insecure", &format!("--ca {ca} --sni chat.example")] {
        connect(right).await.expect(right);
    }
}

#[tokio::test]
async fn each_connection_has_a_token_of_its_own() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = server(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let request = read_request(&mut stream).await?;
            seen.lock().expect("no panic").push(request);
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await
        }
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "first\n\nsecond\n").expect("a file");
    let options =
        "--connections 4 --concurrency 1 --header X-Token:{token} --subprotocol t-{token}";
    let without = report(&format!("connect {} {options}", server.url)).await;
    assert!(without.expect_err("no tokens").to_string().contains("--tokens"));
    let url = format!("{}?number={{i}}", server.url);
    let refused = report(&format!("connect {url} {options} --tokens {}", tokens.display())).await;
    assert!(refused.expect_err("401").to_string().contains("401"));
    let requests = requests.lock().expect("no panic");
    assert_eq!(requests.len(), 4);
    for (number, request) in requests.iter().enumerate() {
        let token = ["first", "second"][number % 2];
        for line in [
            format!("GET /?number={number} "),
            format!("X-Token: {token}\r\n"),
            format!("Sec-WebSocket-Protocol: t-{token}\r\n"),
        ] {
            assert!(request.contains(&line), "{line} in {request}");
        }
    }
}

#[tokio::test]
async fn tls_options_without_tls_are_a_mistake() {
    let error = report("echo ws://127.0.0.1:9/ --insecure").await.expect_err("ws is no TLS");
    assert!(error.to_string().contains("wss://"), "{error}");
}
