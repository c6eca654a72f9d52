//! The fuzz body of TLS: any bytes of a client, against the server's side of a connection.
//!
//! The tests at the foot replay the seeds in `fuzz/seeds/`, and run a bounded, repeatable number of
//! mutations of a real ClientHello.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;

use super::scratch::CIPHERTEXT_BYTES;
use super::session::{Progress, Session};

/// Bytes of a client end a handshake or wait for more, hold no more than a scratch buffer, and are
/// not answered with more than the certificate could be. The first byte says how they are cut.
pub fn tls_server(input: &[u8]) {
    let Some((&pace, bytes)) = input.split_first() else { return };
    let mut session = Session::server(config()).expect("the configuration is good");
    feed(&mut session, bytes, usize::from(pace) + 1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::client_hello;

    #[test]
    fn no_seed_breaks_the_server() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/tls_server");
        for entry in std::fs::read_dir(folder).unwrap() {
            tls_server(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn no_bytes_of_a_client_break_the_server() {
        let hello = client_hello();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..4_000 {
            let mut input = vec![random.u8(..)];
            input.extend_from_slice(&hello);
            for _ in 0..random.usize(0..8) {
                let at = random.usize(1..input.len());
                match random.u8(0..4) {
                    0 => input[at] = random.u8(..),
                    1 => input.truncate(at.max(2)),
                    2 => drop(input.splice(at..at, hello.iter().copied().take(40))),
                    _ if input.len() > 2 => drop(input.remove(at)),
                    _ => {}
                }
            }
            tls_server(&input);
        }
    }
}
