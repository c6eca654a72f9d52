//! What a client may do to a session: the bytes are made here, and no socket is needed.

use std::io::{Cursor, IoSlice, Read, Write};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, PeerMisbehaved, RootCertStore,
    ServerConfig, SupportedProtocolVersion,
};

use super::config::TlsConfig;
use super::error::TlsError;
use super::fuzzing::feed;
use super::scratch::{CIPHERTEXT_BYTES, RECORD_BYTES, WRITE_BYTES, with_outgoing};
use super::session::{Progress, Session};

#[test]
fn a_handshake_may_come_in_any_pieces() {
    let configs = configs(&TLS13);
    for pace in 1..=client_hello().len() {
        let (mut session, mut client) = fresh(&configs);
        shake_hands(&mut session, &mut client, pace);
    }
    let configs = self::configs(&TLS12);
    for pace in 1..=300 {
        let (mut session, mut client) = fresh(&configs);
        shake_hands(&mut session, &mut client, pace);
    }
}

#[test]
fn what_a_client_says_may_be_cut_anywhere() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let length = said(&mut open_pair(&configs).1).len();
        for cut in 0..length {
            let (mut session, mut client) = open_pair(&configs);
            let bytes = said(&mut client);
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
fn said(client: &mut ClientConnection) -> Vec<u8> {
    client.writer().write_all(&[1; 1]).unwrap();
    client.writer().write_all(&[2; 100]).unwrap();
    let _ = client.refresh_traffic_keys();
    client.writer().write_all(&[3; 20]).unwrap();
    client.send_close_notify();
    written(client)
}

#[test]
fn small_slices_become_one_record_and_big_ones_full_records() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        check_records(&configs, &[3; 20], 1);
        check_records(&configs, &[0, 5, 0], 1);
        check_records(&configs, &[RECORD_BYTES], 1);
        check_records(&configs, &[RECORD_BYTES + 1], 2);
        check_records(&configs, &[10, RECORD_BYTES, 10], 2);
        check_records(&configs, &[40_000, 1, 1], 3);
        check_records(&configs, &[WRITE_BYTES], 4);
        check_records(&configs, &[1, 70_000], 4);
        check_records(&configs, &[1_000; 64], 4);
    }
}

fn check_records(configs: &Configs, lengths: &[usize], records: usize) {
    let (mut session, mut client) = open_pair(configs);
    let parts: Vec<Vec<u8>> =
        lengths.iter().enumerate().map(|(at, &length)| vec![at as u8; length]).collect();
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let (taken, sealed) = seal(&mut session, &slices);
    let all = parts.concat();
    assert_eq!(taken, all.len().min(WRITE_BYTES), "{lengths:?}");
    assert_eq!(heard(&mut client, &sealed), all[..taken], "{lengths:?}");
    let mut rest = &sealed[..];
    let mut count = 0;
    while let [_, _, _, high, low, ..] = rest {
        rest = &rest[5 + usize::from(u16::from_be_bytes([*high, *low]))..];
        count += 1;
    }
    assert_eq!(count, records, "{lengths:?}");
}

#[test]
fn a_change_of_keys_is_answered_before_what_is_said_next() {
    let (mut session, mut client) = open_pair(&configs(&TLS13));
    for round in 0..100 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"in").unwrap();
        let (plaintext, _) = feed(&mut session, &written(&mut client), 7);
        assert_eq!(plaintext, b"in", "round {round}");
        let (_, sealed) = seal(&mut session, &[IoSlice::new(b"out")]);
        assert_eq!(heard(&mut client, &sealed), b"out", "round {round}");
    }
}

#[test]
fn a_client_that_only_changes_keys_is_ended() {
    let (mut session, mut forger) = forged_pair();
    let update = |forger: &mut Forger| forger.seal(22, &[24, 0, 0, 1, 0]);
    // The keys stay the same to the forger, so one is all that it can do with them.
    let (_, progress) = feed(&mut session, &update(&mut forger), usize::MAX);
    assert!(matches!(progress, Progress::More), "{progress:?}");

    let (mut session, mut client) = open_pair(&configs(&TLS13));
    let mut flood = Vec::new();
    for _ in 0..40 {
        client.refresh_traffic_keys().unwrap();
        flood.extend(written(&mut client));
    }
    let (_, progress) = feed(&mut session, &flood, usize::MAX);
    check_misbehaved(progress, PeerMisbehaved::TooManyKeyUpdateRequests);
}

#[test]
fn a_client_that_sends_empty_records_is_ended() {
    let (mut session, mut forger) = forged_pair();
    let few: Vec<u8> = (0..30).flat_map(|_| forger.seal(23, b"")).collect();
    let (_, progress) = feed(&mut session, &few, 100);
    assert!(matches!(progress, Progress::More), "{progress:?}");
    let many: Vec<u8> = (0..10).flat_map(|_| forger.seal(23, b"")).collect();
    let (_, progress) = feed(&mut session, &many, 100);
    check_misbehaved(progress, PeerMisbehaved::TooManyEmptyFragments);
}

fn check_misbehaved(progress: Progress, expected: PeerMisbehaved) {
    let Progress::Failed(TlsError::Violation(rustls::Error::PeerMisbehaved(why))) = progress else {
        panic!("{progress:?}");
    };
    assert_eq!(why, expected);
}

/// rustls keeps places in what is kept; sealing must show it that, or it looks beyond the end.
#[test]
fn a_message_cut_by_records_does_not_disturb_what_we_say() {
    let (mut session, mut forger) = forged_pair();
    for (at, byte) in [24, 0, 0, 1].into_iter().enumerate() {
        let (_, progress) = feed(&mut session, &forger.seal(22, &[byte]), usize::MAX);
        assert!(matches!(progress, Progress::More), "{progress:?}");
        assert!(session.kept_bytes() > 0);
        let (taken, _) = seal(&mut session, &[IoSlice::new(b"meanwhile")]);
        assert_eq!(taken, 9, "after {at} bytes");
    }
    let (_, progress) = feed(&mut session, &forger.seal(22, &[0]), usize::MAX);
    assert!(matches!(progress, Progress::More), "{progress:?}");
    assert_eq!(session.kept_bytes(), 0);
    assert!(session.seal_close(&mut [0; 128]).is_ok());
}

#[test]
fn a_message_that_never_gets_whole_is_given_up() {
    // In the handshake: a ClientHello of 65,535 bytes, one in each record.
    let configs = configs(&TLS13);
    let (mut session, _) = fresh(&configs);
    let mut records = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    records.extend([22, 3, 1, 0, 1, 0].repeat(30_000));
    let (_, progress) = feed(&mut session, &records, 1_000);
    let Progress::Failed(TlsError::TooBig(most)) = progress else { panic!("{progress:?}") };
    assert!(most < CIPHERTEXT_BYTES);

    // After it: no message of a client is longer than five bytes.
    let (mut session, mut forger) = forged_pair();
    let mut records = forger.seal(22, &[24, 0, 0xff, 0xff]);
    records.extend((0..40).flat_map(|_| forger.seal(22, &[0; 1_000])));
    let (_, progress) = feed(&mut session, &records, 1_000);
    let Progress::Failed(TlsError::TooBig(most)) = progress else { panic!("{progress:?}") };
    assert!(most < 20 * 1024);
}

#[test]
fn a_record_too_big_and_one_that_was_changed_end_the_connection() {
    for bad in [&[23, 3, 3, 0xff, 0xff][..], &[23, 3, 3, 0, 20, 1, 2, 3], &[99, 3, 3, 0, 1, 0]] {
        let (mut session, _) = open_pair(&configs(&TLS13));
        let record = [bad, &[0; 40]].concat();
        let (plaintext, progress) = feed(&mut session, &record, 3);
        assert!(plaintext.is_empty());
        let Progress::Failed(TlsError::Violation(_)) = progress else { panic!("{progress:?}") };
    }
}

#[test]
fn nothing_is_kept_after_a_burst() {
    for version in [&TLS12, &TLS13] {
        let (mut session, mut client) = open_pair(&configs(version));
        client.writer().write_all(&vec![5; 60_000]).unwrap();
        let (plaintext, _) = feed(&mut session, &written(&mut client), 1_460);
        assert_eq!(plaintext.len(), 60_000);
        assert_eq!(session.kept_bytes(), 0);
    }
}

/// Both sides' configurations.
pub(super) struct Configs {
    pub(super) server: TlsConfig,
    pub(super) client: Arc<ClientConfig>,
}

pub(super) fn configs(version: &'static SupportedProtocolVersion) -> Configs {
    // Small hellos, of a cipher suite that the forger knows.
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ];
    let provider = Arc::new(provider);
    let issued =
        rcgen::generate_simple_self_signed(["tidewire.test", "*.tidewire.test"].map(str::to_owned));
    let issued = issued.unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let certificate = issued.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Configs { server: TlsConfig::new(server).unwrap(), client: Arc::new(client) }
}

fn fresh(configs: &Configs) -> (Session, ClientConnection) {
    let name = ServerName::try_from("tidewire.test").unwrap();
    let client = ClientConnection::new(Arc::clone(&configs.client), name).unwrap();
    (Session::server(configs.server.server()).unwrap(), client)
}

fn open_pair(configs: &Configs) -> (Session, ClientConnection) {
    let (mut session, mut client) = fresh(configs);
    shake_hands(&mut session, &mut client, usize::MAX);
    (session, client)
}

fn shake_hands(session: &mut Session, client: &mut ClientConnection, pace: usize) {
    let mut scratch = vec![0; CIPHERTEXT_BYTES];
    while session.facts().is_handshaking() || client.is_handshaking() {
        let flight = written(client);
        let mut answer = Vec::new();
        for piece in flight.chunks(pace) {
            let kept = session.kept_bytes();
            scratch[kept..kept + piece.len()].copy_from_slice(piece);
            let progress = session.open(&mut scratch, piece.len(), |_| (), &mut answer);
            assert!(matches!(progress, Progress::More), "{progress:?}");
        }
        heard(client, &answer);
    }
    assert_eq!(session.kept_bytes(), 0);
}

/// All that the client has to send.
fn written(client: &mut ClientConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).unwrap();
    }
    out
}

/// What the client hears in `sealed`.
fn heard(client: &mut ClientConnection, sealed: &[u8]) -> Vec<u8> {
    let mut plaintext = Vec::new();
    let mut sealed = Cursor::new(sealed);
    while sealed.position() < sealed.get_ref().len() as u64 {
        client.read_tls(&mut sealed).unwrap();
        client.process_new_packets().unwrap();
        let mut piece = [0; RECORD_BYTES];
        while let Ok(length @ 1..) = client.reader().read(&mut piece) {
            plaintext.extend_from_slice(&piece[..length]);
        }
    }
    plaintext
}

pub(super) fn seal(session: &mut Session, slices: &[IoSlice<'_>]) -> (usize, Vec<u8>) {
    with_outgoing(|outgoing| {
        let (taken, end) = session.seal(slices, outgoing, 0).unwrap();
        (taken, outgoing.sealed[..end].to_vec())
    })
}

/// The first bytes of a client.
pub(super) fn client_hello() -> Vec<u8> {
    let (_, mut client) = fresh(&configs(&TLS13));
    written(&mut client)
}

/// A client that says what no TLS library would, with the right keys.
struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

fn forged_pair() -> (Session, Forger) {
    let (session, client) = open_pair(&configs(&TLS13));
    let secrets = client.dangerous_extract_secrets().unwrap();
    let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
        panic!("the only cipher suite");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    (session, Forger { key, iv: iv.as_ref().try_into().unwrap(), sequence })
}

impl Forger {
    /// A record of content type `kind` (RFC 8446, section 5.2).
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        let [high, low] = (inner.len() as u16 + 16).to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut nonce = self.iv;
        for (byte, counted) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counted;
        }
        self.sequence += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }
}
