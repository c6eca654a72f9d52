//! The fuzz bodies of TLS: any bytes of a client, against the server's side of a connection, and any
//! bytes of a server, against the client's.
//!
//! The tests at the foot replay the seeds in `fuzz/seeds/`, and run a bounded, repeatable number of
//! mutations of a real ClientHello and ServerHello.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::scratch::CIPHERTEXT_BYTES;
use super::session::{Progress, Session};

/// Bytes of a client end a handshake or wait for more, hold no more than a scratch buffer, and are
/// not answered with more than the certificate could be. The first byte says how they are cut.
pub fn tls_server(input: &[u8]) {
    let Some((&pace, bytes)) = input.split_first() else { return };
    let mut session = Session::server(config()).expect("the configuration is good");
    feed(&mut session, bytes, usize::from(pace) + 1);
}

/// As [`tls_server`], of a server: whatever it says, nothing of it is taken for what a client could
/// be told, as it has no certificate.
pub fn tls_client(input: &[u8]) {
    let Some((&pace, bytes)) = input.split_first() else { return };
    let name = ServerName::try_from("tidewire.test").expect("it is a name");
    let mut session = Session::client(client_config(), name).expect("the configuration is good");
    session.begin(&mut Vec::new()).expect("a hello is made");
    let (plaintext, progress) = feed(&mut session, bytes, usize::from(pace) + 1);
    assert!(plaintext.is_empty(), "{progress:?}: somebody is believed");
}

/// Shows `bytes` to `session`, `pace` at a time, until it has enough of them.
pub(super) fn feed(session: &mut Session, bytes: &[u8], pace: usize) -> (Vec<u8>, Progress) {
    let mut scratch = vec![0; CIPHERTEXT_BYTES];
    let (mut plaintext, mut answer) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let kept = session.kept_bytes();
        let (piece, others) = rest.split_at(pace.min(rest.len()).min(CIPHERTEXT_BYTES - kept));
        rest = others;
        scratch[kept..kept + piece.len()].copy_from_slice(piece);
        let take = |bytes: &[u8]| plaintext.extend_from_slice(bytes);
        let progress = session.open(&mut scratch, piece.len(), take, &mut answer);
        assert!(session.kept_bytes() < CIPHERTEXT_BYTES, "there is room to read more");
        assert!(answer.len() <= bytes.len() + 16 * 1024, "{} bytes of answer", answer.len());
        if !matches!(progress, Progress::More) {
            return (plaintext, progress);
        }
    }
    (plaintext, Progress::More)
}

fn config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let build = || {
        let resolver = Arc::new(ResolvesServerCertUsingSni::new());
        Arc::new(ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver))
    };
    Arc::clone(CONFIG.get_or_init(build))
}

fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let build = || {
        let roots = RootCertStore::empty();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    };
    Arc::clone(CONFIG.get_or_init(build))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::client::tests::server_flights;
    use crate::tls::tests::client_hello;

    #[test]
    fn no_seed_breaks_either_side() {
        for (target, body) in [("tls_server", tls_server as fn(&[u8])), ("tls_client", tls_client)]
        {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for entry in std::fs::read_dir(folder).unwrap() {
                body(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }

    #[test]
    fn no_bytes_of_a_client_break_the_server() {
        mutations(&client_hello(), tls_server);
    }

    #[test]
    fn no_bytes_of_a_server_break_the_client() {
        for flight in server_flights() {
            mutations(&flight, tls_client);
        }
    }

    fn mutations(said: &[u8], body: fn(&[u8])) {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..4_000 {
            let mut input = vec![random.u8(..)];
            input.extend_from_slice(said);
            for _ in 0..random.usize(0..8) {
                let at = random.usize(1..input.len());
                match random.u8(0..4) {
                    0 => input[at] = random.u8(..),
                    1 => input.truncate(at.max(2)),
                    2 => drop(input.splice(at..at, said.iter().copied().take(40))),
                    _ if input.len() > 2 => drop(input.remove(at)),
                    _ => {}
                }
            }
            body(&input);
        }
    }
}
