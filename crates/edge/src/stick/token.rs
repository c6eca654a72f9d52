//! What a client is given in place of a server's name, and gives back.
//!
//! A token is the HMAC-SHA256 of backend and server under the secret, its first 16 bytes: nobody
//! without the secret can make one, so nobody chooses a server that he has not been given, and a
//! token says nothing about names or addresses. Edges with the same secret have the same tokens, as
//! has an edge after a restart.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use tidewire_auth::secret::Secret;

/// What stands for a server towards clients: letters, digits, `-` and `_`.
#[derive(Clone)]
pub struct Token([u8; TOKEN_BYTES]);

/// What tokens are made with.
pub struct Signer(hmac::Key);

impl Signer {
    /// Without a secret, one that this process has drawn for itself.
    pub fn new(secret: Option<&Secret>) -> Self {
        let secret = secret.map_or_else(|| &of_process()[..], Secret::expose);
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub fn token(&self, backend: &str, server: &str) -> Token {
        // The length goes first: `a`, `bc` is not `ab`, `c`.
        let mut context = hmac::Context::with_key(&self.0);
        context.update(PURPOSE);
        context.update(&(backend.len() as u64).to_be_bytes());
        context.update(backend.as_bytes());
        context.update(server.as_bytes());
        let mut token = [0; TOKEN_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(&context.sign().as_ref()[..16], &mut token);
        debug_assert_eq!(written, Ok(TOKEN_BYTES));
        Token(token)
    }
}

impl Token {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }

    /// Whether this is what the client has shown. Takes the same time wherever they differ: it is
    /// the secret's proof.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

/// Whether it has the form of a token, of whatever server and secret.
pub fn is_token(text: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    text.len() == TOKEN_BYTES && text.iter().all(is_letter)
}

/// The secret of those who were given none; all backends and all configurations of the process have
/// the same, so that a client keeps its server while the process lives.
fn of_process() -> &'static [u8; 32] {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    SECRET.get_or_init(|| {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("the system has random numbers");
        secret
    })
}

/// 16 bytes as base64.
pub const TOKEN_BYTES: usize = 22;

/// So that the same secret can serve for something else, too.
const PURPOSE: &[u8] = b"tidewire stick 1\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_server_one_backend_and_one_secret() {
        let token = |secret: &str, backend, server| {
            let secret = (!secret.is_empty()).then(|| Secret::new(secret.as_bytes()));
            Signer::new(secret.as_ref()).token(backend, server).as_str().to_owned()
        };
        let one = token("0123456789abcdef", "nodes", "a");
        assert_eq!(one, "rOsOytnZ68uphNpc4U2GWg", "the same in all releases");
        assert_eq!(one, token("0123456789abcdef", "nodes", "a"));
        for other in [
            token("0123456789abcdef", "nodes", "b"),
            token("0123456789abcdef", "node", "sa"),
            token("0123456789abcdeF", "nodes", "a"),
            token("", "nodes", "a"),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(token("", "nodes", "a"), token("", "nodes", "a"));
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Signer::new(None).token("nodes", "a");
        let shown = token.as_str().as_bytes();
        assert!(token.is(shown) && is_token(shown));
        for at in 0..TOKEN_BYTES {
            let mut wrong = shown.to_vec();
            wrong[at] ^= 1;
            assert!(!token.is(&wrong) && !token.is(&shown[..at]));
        }
        assert!(!is_token(b"") && !is_token(b"a.b") && !is_token(&[b'a'; 23]));
    }
}
