//! A socket behaves the same plain, under TLS 1.2 and under TLS 1.3.

mod support;

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};

use rustls::version::{TLS12, TLS13};
use support::{Authority, echo, pattern, read, run, tcp_pair, tls_pair, write_all};
use tidewire_runtime::pump::{Next, Passing, Pump};
use tidewire_runtime::socket::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The other end of a socket, whatever it speaks.
trait Peer: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Peer for T {}

/// A socket of each kind, with its peer.
async fn pairs() -> Vec<(&'static str, Socket, Box<dyn Peer>)> {
    let authority = Authority::new();
    let (plain, plain_peer) = tcp_pair().await;
    let (tls12, tls12_peer) = tls_pair(&authority, &TLS12).await;
    let (tls13, tls13_peer) = tls_pair(&authority, &TLS13).await;
    vec![
        ("plain", plain, Box::new(plain_peer)),
        ("TLS 1.2", tls12, Box::new(tls12_peer)),
        ("TLS 1.3", tls13, Box::new(tls13_peer)),
    ]
}

#[test]
fn what_comes_back_is_what_was_sent() {
    run(async {
        for (kind, socket, mut peer) in pairs().await {
            let sizes = [1, 2, 64, 125, 1000, 16383, 16384, 16385, 40_000, 65_535, 65_536, 70_000];
            let exchange = async {
                for size in sizes {
                    let sent = pattern(size);
                    let mut received = vec![0; size];
                    peer.write_all(&sent).await.unwrap();
                    peer.flush().await.unwrap();
                    peer.read_exact(&mut received).await.unwrap();
                    assert_eq!(received, sent, "{kind}, {size} bytes");
                }
                peer.shutdown().await.unwrap();
                assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "{kind}");
            };
            let (echoed, ()) = tokio::join!(echo(socket), exchange);
            assert!(!echoed.unwrap().is_truncated(), "{kind}");
        }
    });
}

#[test]
fn a_small_buffer_gets_all_in_pieces() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            let sent = pattern(50_000);
            let mut got = Vec::new();
            let reading = async {
                let mut buffer = [0; 7];
                loop {
                    match read(&mut socket, &mut buffer).await.unwrap() {
                        0 => break,
                        length => got.extend_from_slice(&buffer[..length]),
                    }
                }
            };
            let writing = async {
                peer.write_all(&sent).await.unwrap();
                peer.shutdown().await.unwrap();
            };
            tokio::join!(reading, writing);
            assert!(got == sent, "{kind}");
        }
    });
}

#[test]
fn slices_arrive_in_their_order() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            let parts: Vec<_> = [1, 0, 300, 20_000, 5].iter().map(|&size| pattern(size)).collect();
            let all = parts.concat();
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
            assert_eq!(socket.try_write_vectored(&slices).unwrap(), all.len(), "{kind}");
            poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
            let mut got = vec![0; all.len()];
            peer.read_exact(&mut got).await.unwrap();
            assert!(got == all, "{kind}");
        }
    });
}

/// Writes until nothing more is taken, and returns what was.
fn fill(socket: &mut Socket) -> Vec<u8> {
    let piece = pattern(50_000);
    let mut taken = Vec::new();
    loop {
        match socket.try_write(&piece) {
            Ok(length) => taken.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_peer_that_does_not_read_is_waited_for_and_then_gets_all() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
            let taken = fill(&mut socket);
            assert_eq!(socket.has_unsent(), socket.is_tls(), "{kind}");
            assert!(socket.unsent_bytes() < 66 * 1024, "{kind}: {}", socket.unsent_bytes());
            // Its end is said behind all that.
            socket.shutdown_write().unwrap();
            let mut got = Vec::new();
            let flush = poll_fn(|cx| socket.poll_flush(cx));
            let (flushed, read) = tokio::join!(flush, peer.read_to_end(&mut got));
            flushed.unwrap();
            read.unwrap();
            assert!(got == taken, "{kind}: {} of {}", got.len(), taken.len());
            assert!(!socket.has_unsent(), "{kind}");
            assert!(socket.try_write(b"more").is_err(), "{kind}");
        }
    });
}

#[test]
fn reading_moves_what_is_unsent() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
            let taken = fill(&mut socket);
            socket.shutdown_write().unwrap();
            let mut got = Vec::new();
            let hearing = async {
                peer.read_to_end(&mut got).await.unwrap();
                peer.shutdown().await.unwrap();
            };
            let mut byte = [0];
            let (end, ()) = tokio::join!(read(&mut socket, &mut byte), hearing);
            assert_eq!(end.unwrap(), 0, "{kind}");
            assert!(got == taken, "{kind}");
        }
    });
}

#[test]
fn each_direction_ends_by_itself() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            let mut buffer = [0; 100];
            socket.shutdown_write().unwrap();
            assert_eq!(peer.read(&mut buffer).await.unwrap(), 0, "{kind}");
            peer.write_all(b"still here").await.unwrap();
            peer.flush().await.unwrap();
            let length = read(&mut socket, &mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"still here", "{kind}");
        }
        for (kind, mut socket, mut peer) in pairs().await {
            let mut buffer = [0; 100];
            peer.shutdown().await.unwrap();
            assert_eq!(read(&mut socket, &mut buffer).await.unwrap(), 0, "{kind}");
            assert_eq!(read(&mut socket, &mut buffer).await.unwrap(), 0, "{kind}");
            write_all(&mut socket, b"still here").await.unwrap();
            drop(socket);
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"still here", "{kind}");
        }
    });
}

#[test]
fn a_reset_is_told_from_an_end() {
    run(async {
        for (kind, mut socket, mut peer) in pairs().await {
            socket.reset_on_drop();
            drop(socket);
            let error = peer.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind}");
        }
        for (kind, mut socket, mut peer) in pairs().await {
            // Unread bytes make a close a reset.
            write_all(&mut socket, b"unread").await.unwrap();
            peer.read_exact(&mut [0]).await.unwrap();
            write_all(&mut socket, &pattern(100_000)).await.unwrap();
            drop(peer);
            let mut buffer = [0; 100];
            let mut result = read(&mut socket, &mut buffer).await;
            // The peer's library may say its goodbye before.
            if matches!(result, Ok(0)) {
                result = match write_all(&mut socket, &[0]).await {
                    Ok(()) => write_all(&mut socket, &pattern(1_000_000)).await.map(|()| 0),
                    Err(error) => Err(error),
                };
            }
            let kind_of = result.unwrap_err().kind();
            assert!(
                matches!(kind_of, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{kind}: {kind_of}"
            );
        }
    });
}

/// A pump from each kind to each kind, whose reader is slow in the beginning.
#[test]
fn a_pump_moves_everything_and_holds_little() {
    run(async {
        for from in 0..3 {
            for to in 0..3 {
                let (source_kind, mut source, mut writer) = pairs().await.swap_remove(from);
                let (sink_kind, mut sink, mut reader) = pairs().await.swap_remove(to);
                let kinds = format!("{source_kind} to {sink_kind}");
                let sent = pattern(2_000_000);
                let mut got = Vec::new();
                let mut pump = Pump::default();
                let mut unsent_most = 0;
                let pumping = async {
                    let observe = |_: &mut [u8], bytes| Passing { bytes, next: Next::Read };
                    poll_fn(|cx| {
                        let polled = pump.poll(cx, &mut source, &mut sink, observe);
                        unsent_most = unsent_most.max(sink.unsent_bytes());
                        polled
                    })
                    .await
                    .unwrap();
                    assert!(pump.is_ended() && !pump.is_backed_up(&sink), "{kinds}");
                    drop(sink);
                };
                let writing = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                tokio::join!(pumping, writing, reader.read_to_end(&mut got)).2.unwrap();
                assert!(got == sent, "{kinds}: {} of {}", got.len(), sent.len());
                assert!(unsent_most < 66 * 1024, "{kinds}: {unsent_most}");
            }
        }
    });
}

#[test]
fn a_pump_has_not_ended_while_its_sink_has_unsent_bytes() {
    run(async {
        for (kind, mut sink, mut reader) in pairs().await {
            let (mut source, mut writer) = tcp_pair().await;
            writer.shutdown().await.unwrap();
            poll_fn(|cx| sink.poll_write_ready(cx)).await.unwrap();
            let taken = fill(&mut sink);
            let mut pump = Pump::default();
            let pumping = async {
                let observe = |_: &mut [u8], bytes| Passing { bytes, next: Next::Read };
                poll_fn(|cx| pump.poll(cx, &mut source, &mut sink, observe)).await.unwrap();
                assert!(!sink.has_unsent() && !pump.is_backed_up(&sink), "{kind}");
                drop(sink);
            };
            let mut got = Vec::new();
            tokio::join!(pumping, reader.read_to_end(&mut got)).1.unwrap();
            assert!(got == taken, "{kind}: {} of {}", got.len(), taken.len());
        }
    });
}
