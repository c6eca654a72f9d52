//! Handshakes: what is known after a good one, and who hears what of a bad one.

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::{Authority, name, read, run, tcp_pair, tls_pair, write_all};
use tidewire_runtime::socket::{Refused, Socket};
use tidewire_runtime::tls::Secured;
use tidewire_runtime::tls::config::TlsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Client = tokio_rustls::client::TlsStream<TcpStream>;

async fn shake_hands(
    server: &TlsConfig,
    client: Arc<ClientConfig>,
) -> (Result<(Socket, Secured), Refused>, std::io::Result<Client>) {
    let (socket, tcp) = tcp_pair().await;
    tokio::join!(socket.accept_tls(server), TlsConnector::from(client).connect(name(), tcp))
}

#[test]
fn what_a_handshake_has_settled_is_known() {
    run(async {
        let authority = Authority::new();
        for (version, told) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
            let mut client = ClientConfig::clone(&authority.client(version));
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
            let mut server = authority.server_config();
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let server = TlsConfig::new(server).unwrap();
            let (accepted, _) = shake_hands(&server, Arc::new(client)).await;
            let secured = accepted.unwrap().1;
            assert_eq!(secured.version, told);
            assert!(secured.cipher.starts_with("TLS_"), "{}", secured.cipher);
            assert_eq!(secured.server_name.as_deref(), Some("tidewire.test"));
            assert_eq!(secured.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert!(secured.certificates.is_empty() && !secured.resumed);
        }
    });
}

#[test]
fn a_ticket_resumes_and_the_name_is_known_then_too() {
    run(async {
        let authority = Authority::new();
        for version in [&TLS12, &TLS13] {
            let server = authority.server();
            let client = authority.client(version);
            for resumed in [false, true, true] {
                let (accepted, connected) = shake_hands(&server, Arc::clone(&client)).await;
                let (mut socket, secured) = accepted.unwrap();
                assert_eq!(secured.resumed, resumed, "{version:?}");
                assert_eq!(secured.server_name.as_deref(), Some("tidewire.test"));
                // The client takes its ticket with the first bytes that it reads.
                let mut connected = connected.unwrap();
                write_all(&mut socket, b"hello").await.unwrap();
                connected.read_exact(&mut [0; 5]).await.unwrap();
            }
            // Another configuration has other keys, and does not believe the ticket.
            let (accepted, _) = shake_hands(&authority.server(), client).await;
            assert!(!accepted.unwrap().1.resumed);
        }
    });
}

#[test]
fn a_ticket_does_not_wait_for_words_of_ours() {
    run(async {
        let authority = Authority::new();
        let (mut socket, mut client) = tls_pair(&authority, &TLS13).await;
        assert!(socket.has_unsent(), "the ticket goes with the first write");
        let (mut byte, mut other) = ([0], [0]);
        tokio::select! {
            _ = read(&mut socket, &mut byte) => panic!("nothing was said"),
            _ = client.read(&mut other) => panic!("nothing was said"),
            () = async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            } => {}
        }
        assert!(!socket.has_unsent());
    });
}

#[test]
fn the_certificate_of_a_client_is_known_also_when_it_resumes() {
    run(async {
        let authority = Authority::new();
        let (issued, mut client) = authority.client_with_certificate();
        let mut roots = RootCertStore::empty();
        roots.add(issued.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let server = authority.server_verifying(verifier);
        for resumed in [false, true] {
            let (accepted, connected) = shake_hands(&server, Arc::new(client.clone())).await;
            let (mut socket, secured) = accepted.unwrap();
            assert_eq!(secured.resumed, resumed);
            assert_eq!(&secured.certificates[..], std::slice::from_ref(&issued));
            write_all(&mut socket, b"hello").await.unwrap();
            connected.unwrap().read_exact(&mut [0; 5]).await.unwrap();
        }
        // Without one, in TLS 1.3, the client hears of it with its first read.
        client = ClientConfig::clone(&authority.client(&TLS13));
        client.resumption = Resumption::disabled();
        let (accepted, connected) = shake_hands(&server, Arc::new(client)).await;
        assert_eq!(accepted.unwrap_err().error.as_str(), "client-certificate");
        let error = connected.unwrap().read(&mut [0]).await.unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
    });
}

#[test]
fn a_client_that_cannot_be_served_is_told_why() {
    run(async {
        let authority = Authority::new();
        let check = async |server: &TlsConfig, client: Arc<ClientConfig>, word, alert| {
            let (accepted, connected) = shake_hands(server, client).await;
            let error = accepted.unwrap_err().error;
            assert_eq!(error.as_str(), word, "{error}");
            assert!(!error.is_ours(), "{error}");
            let error = connected.unwrap_err().to_string();
            assert!(error.contains(alert), "{error}");
        };
        let only = ServerConfig::builder_with_protocol_versions(&[&TLS13]).with_no_client_auth();
        let nobody = Arc::new(ResolvesServerCertUsingSni::new());
        let nobody = TlsConfig::new(only.with_cert_resolver(nobody)).unwrap();
        check(&nobody, authority.client(&TLS13), "no-certificate", "UnrecognisedName").await;
        check(&nobody, authority.client(&TLS12), "nothing-shared", "ProtocolVersion").await;
        let mut server = authority.server_config();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = ClientConfig::clone(&authority.client(&TLS13));
        client.alpn_protocols = vec![b"h2".to_vec()];
        let server = TlsConfig::new(server).unwrap();
        check(&server, Arc::new(client), "no-protocol", "NoApplicationProtocol").await;
        // One that does not trust us says so itself.
        let stranger = Authority::new().client(&TLS13);
        check(&authority.server(), stranger, "alert", "invalid peer certificate").await;
    });
}

/// What a client that says `bytes` gets for it, and the word for it.
async fn say(bytes: &[u8]) -> (Vec<u8>, &'static str) {
    let authority = Authority::new();
    let (socket, mut client) = tcp_pair().await;
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let Refused { error, mut socket } = socket.accept_tls(&authority.server()).await.unwrap_err();
    assert!(!socket.is_tls());
    let _ = socket.shutdown_write();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (answer, error.as_str())
}

#[test]
fn what_is_not_tls_is_answered_in_its_own_words() {
    run(async {
        let (answer, word) = say(b"GET / HTTP/1.1\r\nHost: tidewire.test\r\n\r\n").await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(word, "plain-http");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        assert!(body.contains("https://"), "{answer}");

        let (answer, word) = say(b"\x00\x01\x02\x03\x04\x05\x06\x07").await;
        // A fatal alert.
        assert_eq!((answer[0], answer[5], word), (21, 2, "not-tls"));
        let (answer, word) = say(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00").await;
        assert_eq!((answer[0], answer[5], word), (21, 2, "violation"));
        assert_eq!(say(b"").await, (vec![], "silent"));
        // It stops in the middle of its hello.
        assert_eq!(say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await, (vec![], "eof"));
    });
}

#[test]
fn an_end_without_a_goodbye_is_known_as_one() {
    run(async {
        let authority = Authority::new();
        for version in [&TLS12, &TLS13] {
            let (mut socket, client) = tls_pair(&authority, version).await;
            let (mut tcp, _) = client.into_inner();
            tcp.shutdown().await.unwrap();
            assert_eq!(read(&mut socket, &mut [0]).await.unwrap(), 0);
            assert!(socket.is_truncated());
        }
    });
}

#[test]
fn what_is_changed_on_its_way_ends_the_connection_with_an_alert() {
    run(async {
        let authority = Authority::new();
        let (mut socket, client) = tls_pair(&authority, &TLS13).await;
        let (mut tcp, mut tls) = client.into_inner();
        tcp.write_all(&[&[23, 3, 3, 0, 30][..], &[7; 30]].concat()).await.unwrap();
        let error = read(&mut socket, &mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(read(&mut socket, &mut [0]).await.is_err());
        assert!(poll_fn(|cx| socket.poll_write(cx, b"more")).await.is_err());
        drop(socket);
        let mut heard = Vec::new();
        tcp.read_to_end(&mut heard).await.unwrap();
        tls.read_tls(&mut &heard[..]).unwrap();
        let alert = tls.process_new_packets().unwrap_err().to_string();
        assert!(alert.contains("BadRecordMac"), "{alert}");
    });
}

#[test]
fn the_name_is_only_what_the_client_says() {
    run(async {
        let authority = Authority::new();
        let (socket, tcp) = tcp_pair().await;
        let mut client = ClientConfig::clone(&authority.client(&TLS13));
        client.enable_sni = false;
        let connector = TlsConnector::from(Arc::new(client));
        let address = ServerName::try_from("tidewire.test").unwrap();
        let config = authority.server();
        let (accepted, _) =
            tokio::join!(socket.accept_tls(&config), connector.connect(address, tcp));
        assert_eq!(accepted.unwrap().1.server_name, None);
    });
}
