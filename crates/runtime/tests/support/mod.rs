//! Both ends of a connection over loopback: our socket, and a peer that is not ours.

// Each test uses its part of it.
#![allow(dead_code)]

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tidewire_runtime::buffer::{Backlog, with_scratch};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::tls::config::TlsConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What both sides believe in.
pub struct Authority {
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let issued = rcgen::generate_simple_self_signed(["tidewire.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        Self { certificate: issued.cert.der().clone(), key }
    }

    pub fn server(&self) -> TlsConfig {
        TlsConfig::new(self.server_config()).unwrap()
    }

    pub fn server_config(&self) -> ServerConfig {
        let chain = vec![self.certificate.clone()];
        let builder = ServerConfig::builder().with_no_client_auth();
        builder.with_single_cert(chain, self.key.clone_key()).unwrap()
    }

    pub fn server_verifying(&self, verifier: Arc<dyn ClientCertVerifier>) -> TlsConfig {
        let chain = vec![self.certificate.clone()];
        let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
        TlsConfig::new(builder.with_single_cert(chain, self.key.clone_key()).unwrap()).unwrap()
    }

    /// A client that shows a certificate of its own.
    pub fn client_with_certificate(&self) -> (CertificateDer<'static>, ClientConfig) {
        let own = Self::new();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[&TLS13]);
        let builder = builder.with_root_certificates(roots);
        let chain = vec![own.certificate.clone()];
        (own.certificate, builder.with_client_auth_cert(chain, own.key).unwrap())
    }

    pub fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[version]);
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

pub fn name() -> ServerName<'static> {
    ServerName::try_from("tidewire.test").unwrap()
}

/// Two ends of a TCP connection; the first is ours.
pub async fn tcp_pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (client, (server, _)) = (client.unwrap(), accepted.unwrap());
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (Socket::from_tcp(server), client)
}

/// As [`tcp_pair`], with TLS over it.
pub async fn tls_pair(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> (Socket, TlsStream<TcpStream>) {
    let (socket, tcp) = tcp_pair().await;
    let connector = TlsConnector::from(authority.client(version));
    let config = authority.server();
    let (accepted, connected) =
        tokio::join!(socket.accept_tls(&config), connector.connect(name(), tcp));
    let (socket, _) = accepted.unwrap();
    (socket, connected.unwrap())
}

pub async fn read(socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| socket.poll_read(cx, buffer)).await
}

/// Writes all of `bytes`, and flushes.
pub async fn write_all(socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    poll_fn(|cx: &mut Context<'_>| {
        while written < bytes.len() {
            match socket.poll_write(cx, &bytes[written..]) {
                Poll::Ready(more) => written += more?,
                Poll::Pending => return Poll::Pending,
            }
        }
        socket.poll_flush(cx)
    })
    .await
}

/// Echoes until the peer ends its direction, then ends ours.
pub async fn echo(mut socket: Socket) -> io::Result<Socket> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = read(&mut socket, &mut buffer).await?;
        if length == 0 {
            socket.shutdown_write()?;
            poll_fn(|cx| socket.poll_flush(cx)).await?;
            return Ok(socket);
        }
        write_all(&mut socket, &buffer[..length]).await?;
    }
}

/// Echoes as the data paths do: through the scratch buffer, with nothing of its own while idle.
pub async fn echo_in_scratch(mut socket: Socket) {
    let mut backlog = Backlog::default();
    poll_fn(|cx| {
        loop {
            while !backlog.is_empty() {
                match ready!(socket.poll_write(cx, backlog.bytes())) {
                    Ok(written) => backlog.consume(written),
                    Err(_) => return Poll::Ready(()),
                }
            }
            if ready!(socket.poll_flush(cx)).is_err() {
                return Poll::Ready(());
            }
            let read = with_scratch(|scratch| {
                let length = match ready!(socket.poll_read(cx, scratch)) {
                    Ok(0) | Err(_) => return Poll::Ready(false),
                    Ok(length) => length,
                };
                let written = match socket.poll_write(cx, &scratch[..length]) {
                    Poll::Ready(Ok(written)) => written,
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => 0,
                };
                backlog.fill(&scratch[written..length]);
                Poll::Ready(true)
            });
            if !ready!(read) {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// Runs `test` on one thread, as a worker does, and not for ever.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(limited).expect("a test ends within a minute")
}

pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}
