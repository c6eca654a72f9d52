//! A socket behaves the same plain, under TLS 1.2 and under TLS 1.3.

mod support;

use rustls::version::{TLS12, TLS13};
use support::{Authority, echo, pattern, run, tcp_pair, tls_pair};
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
