//! What a server may do to a session: the bytes are made here, and no socket is needed.

use std::io::{Cursor, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, ServerConnection};

use super::{TlsClient, TlsError};
use crate::tls::fuzzing::feed;
use crate::tls::scratch::{CIPHERTEXT_BYTES, RECORD_BYTES, WRITE_BYTES};
use crate::tls::session::{Progress, Session};
use crate::tls::tests::{Configs, configs, seal};

#[test]
fn a_handshake_with_a_server_may_come_in_any_pieces() {
    for (version, paces) in [(&TLS13, 1..=900), (&TLS12, 1..=900)] {
        let configs = configs(version);
        for pace in paces {
            let (mut session, mut server) = fresh(&configs);
            shake_hands(&mut session, &mut server, pace);
        }
    }
}

#[test]
fn what_a_server_says_may_be_cut_anywhere() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let length = said(&mut open_pair(&configs).1).len();
        for cut in 0..length {
            let (mut session, mut server) = open_pair(&configs);
            let bytes = said(&mut server);
            let (mut heard, progress) = feed(&mut session, &bytes[..cut], usize::MAX);
            assert!(matches!(progress, Progress::More), "cut at {cut}: {progress:?}");
            let (more, progress) = feed(&mut session, &bytes[cut..], usize::MAX);
            heard.extend(more);
            assert!(matches!(progress, Progress::Closed), "cut at {cut}: {progress:?}");
            assert_eq!(heard, [&[1; 1][..], &[2; 100], &[3; 20]].concat(), "cut at {cut}");
            assert_eq!(session.kept_bytes(), 0);
        }
    }
}

/// Three messages, a change of keys in TLS 1.3, and the end.
fn said(server: &mut ServerConnection) -> Vec<u8> {
    server.writer().write_all(&[1; 1]).unwrap();
    server.writer().write_all(&[2; 100]).unwrap();
    let _ = server.refresh_traffic_keys();
    server.writer().write_all(&[3; 20]).unwrap();
    server.send_close_notify();
    written(server)
}

#[test]
fn what_a_client_writes_is_what_a_server_hears() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        for lengths in [&[20][..], &[0, 5, 0], &[RECORD_BYTES + 1], &[10, 40_000, 10], &[70_000]] {
            let (mut session, mut server) = open_pair(&configs);
            let parts: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(at, &length)| vec![at as u8; length]).collect();
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let (taken, sealed) = seal(&mut session, &slices);
            let all = parts.concat();
            assert_eq!(taken, all.len().min(WRITE_BYTES), "{lengths:?}");
            assert_eq!(heard(&mut server, &sealed), all[..taken], "{lengths:?}");
        }
    }
}

#[test]
fn both_ends_may_be_ours() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let (client, _) = fresh(&configs);
        let mut ends = [client, Session::server(configs.server.server()).unwrap()];
        let mut said = [Vec::new(), Vec::new()];
        ends[0].begin(&mut said[0]).unwrap();
        let mut scratch = vec![0; CIPHERTEXT_BYTES];
        while said.iter().any(|said| !said.is_empty()) {
            for from in [0, 1] {
                for piece in std::mem::take(&mut said[from]).chunks(7) {
                    let to = &mut ends[1 - from];
                    let kept = to.kept_bytes();
                    scratch[kept..kept + piece.len()].copy_from_slice(piece);
                    let answer = &mut said[1 - from];
                    let progress = to.open(&mut scratch, piece.len(), |_| (), answer);
                    assert!(matches!(progress, Progress::More), "{progress:?}");
                }
            }
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let message: Vec<u8> = (0..60_000).map(|at| at as u8).collect();
            let (taken, sealed) = seal(&mut ends[from], &[IoSlice::new(&message)]);
            assert_eq!(taken, message.len());
            let (plaintext, _) = feed(&mut ends[to], &sealed, 1_460);
            assert!(plaintext == message, "from {from} to {to}");
            assert_eq!(ends[to].kept_bytes(), 0);
        }
    }
}

#[test]
fn keys_of_an_earlier_connection_are_used_again_and_never_those_of_another_server() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let client = client(&configs);
        let kind = |name: &str| {
            let client = client.towards(ServerName::try_from(name.to_owned()).unwrap());
            let session = Session::client(client.config(), client.name());
            let (mut session, mut server) = (session.unwrap(), server(&configs));
            shake_hands(&mut session, &mut server, usize::MAX);
            // The tickets of TLS 1.3 follow the handshake.
            feed(&mut session, &written(&mut server), usize::MAX);
            session.facts().handshake_kind()
        };
        assert_eq!(kind("tidewire.test"), Some(HandshakeKind::Full));
        assert_eq!(kind("tidewire.test"), Some(HandshakeKind::Resumed));
        assert_eq!(kind("another.tidewire.test"), Some(HandshakeKind::Full));
        assert_eq!(kind("another.tidewire.test"), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_server_that_is_not_believed_is_told_and_told_apart() {
    let (ours, theirs) = (configs(&TLS13), configs(&TLS13));
    let configs = Configs { server: theirs.server, client: ours.client };
    let (mut session, mut server) = fresh(&configs);
    let mut hello = Vec::new();
    session.begin(&mut hello).unwrap();
    heard(&mut server, &hello);
    let mut alert = Vec::new();
    let flight = written(&mut server);
    let mut scratch = vec![0; CIPHERTEXT_BYTES];
    scratch[..flight.len()].copy_from_slice(&flight);
    let progress = session.open(&mut scratch, flight.len(), |_| (), &mut alert);
    let Progress::Failed(error @ TlsError::ServerCertificate(_)) = progress else {
        panic!("{progress:?}");
    };
    // The issuer that is believed has the same name.
    assert!(error.to_string().contains("is signed with another key than its issuer's"), "{error}");
    let error = server.read_tls(&mut &alert[..]).map(|_| server.process_new_packets());
    assert!(matches!(error, Ok(Err(rustls::Error::AlertReceived(_)))), "{error:?}");
}

#[test]
fn what_is_not_tls_is_told_apart_however_it_comes() {
    let configs = configs(&TLS13);
    for text in ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "-ERR unknown\r\n"]
    {
        for pace in 1..=text.len() {
            let (mut session, _) = fresh(&configs);
            session.begin(&mut Vec::new()).unwrap();
            let (_, progress) = feed(&mut session, text.as_bytes(), pace);
            assert!(matches!(progress, Progress::Failed(TlsError::ServerNotTls)), "{progress:?}");
        }
    }
}

#[test]
fn an_alert_of_a_server_says_what_it_wants() {
    let configs = configs(&TLS13);
    for (alert, words) in [
        (40, "it shares no cipher with us, or wants a certificate of ours (HandshakeFailure)"),
        (70, "it speaks no version that is spoken here (ProtocolVersion)"),
        (112, "it does not know the name (UnrecognisedName)"),
        (116, "it wants a certificate of ours (CertificateRequired)"),
        (48, "it does not take our certificate (UnknownCA)"),
        (80, "InternalError"),
    ] {
        let (mut session, _) = fresh(&configs);
        session.begin(&mut Vec::new()).unwrap();
        let (_, progress) = feed(&mut session, &[21, 3, 3, 0, 2, 2, alert], 1);
        let Progress::Failed(error @ TlsError::ServerAlert(_)) = progress else {
            panic!("{progress:?}");
        };
        assert_eq!(error.to_string(), format!("the server ended it: {words}"));
    }
    let other = TlsError::ServerAlert(AlertDescription::NoApplicationProtocol).to_string();
    assert!(other.contains("http/1.1"), "{other}");
}

#[test]
fn a_server_whose_flight_never_gets_whole_is_given_up() {
    let (mut session, _) = fresh(&configs(&TLS13));
    session.begin(&mut Vec::new()).unwrap();
    // A ServerHello of 65,535 bytes, one in each record.
    let mut records = vec![22, 3, 3, 0, 4, 2, 0, 0xff, 0xff];
    records.extend([22, 3, 3, 0, 1, 0].repeat(30_000));
    let (_, progress) = feed(&mut session, &records, 1_000);
    let Progress::Failed(TlsError::TooBig(most)) = progress else { panic!("{progress:?}") };
    assert!(most < CIPHERTEXT_BYTES);
}

/// The first bytes of a server, in either version.
pub(in crate::tls) fn server_flights() -> [Vec<u8>; 2] {
    [&TLS12, &TLS13].map(|version| {
        let (mut session, mut server) = fresh(&configs(version));
        let mut hello = Vec::new();
        session.begin(&mut hello).unwrap();
        heard(&mut server, &hello);
        written(&mut server)
    })
}

#[test]
fn that_servers_are_connected_to_costs_the_connections_of_clients_nothing() {
    let kept_and_which = 3 * size_of::<usize>();
    let most = size_of::<UnbufferedServerConnection>() + kept_and_which;
    assert!(size_of::<Session>() <= most, "{} > {most}", size_of::<Session>());
}

fn client(configs: &Configs) -> TlsClient {
    let name = ServerName::try_from("tidewire.test").unwrap();
    TlsClient::new((*configs.client).clone(), name)
}

fn server(configs: &Configs) -> ServerConnection {
    ServerConnection::new(Arc::clone(&configs.server.server())).unwrap()
}

fn fresh(configs: &Configs) -> (Session, ServerConnection) {
    let client = client(configs);
    (Session::client(client.config(), client.name()).unwrap(), server(configs))
}

fn open_pair(configs: &Configs) -> (Session, ServerConnection) {
    let (mut session, mut server) = fresh(configs);
    shake_hands(&mut session, &mut server, usize::MAX);
    (session, server)
}

fn shake_hands(session: &mut Session, server: &mut ServerConnection, pace: usize) {
    let mut scratch = vec![0; CIPHERTEXT_BYTES];
    let mut said = Vec::new();
    session.begin(&mut said).unwrap();
    heard(server, &said);
    while session.facts().is_handshaking() || server.is_handshaking() {
        let mut answer = Vec::new();
        for piece in written(server).chunks(pace) {
            let kept = session.kept_bytes();
            scratch[kept..kept + piece.len()].copy_from_slice(piece);
            let progress = session.open(&mut scratch, piece.len(), |_| (), &mut answer);
            assert!(matches!(progress, Progress::More), "{progress:?}");
        }
        heard(server, &answer);
    }
    assert_eq!(session.kept_bytes(), 0);
}

/// All that the server has to send.
fn written(server: &mut ServerConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut out).unwrap();
    }
    out
}

/// What the server hears in `sealed`.
fn heard(server: &mut ServerConnection, sealed: &[u8]) -> Vec<u8> {
    let mut plaintext = Vec::new();
    let mut sealed = Cursor::new(sealed);
    while sealed.position() < sealed.get_ref().len() as u64 {
        server.read_tls(&mut sealed).unwrap();
        server.process_new_packets().unwrap();
        let mut piece = [0; RECORD_BYTES];
        while let Ok(length @ 1..) = server.reader().read(&mut piece) {
            plaintext.extend_from_slice(&piece[..length]);
        }
    }
    plaintext
}
