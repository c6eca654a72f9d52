//! A certificate authority that speaks ACME (RFC 8555), as small as one that checks everything can
//! be: nonces, signatures, accounts and their bindings, and that a name is whose it is, by going
//! there.
//!
//! ```text
//!   serve (HTTPS) ──> jws ──> state: accounts, orders, authorizations ──> signer
//!                                └── validate: connects to the node
//! ```
//!
//! All names lead to the loopback, to the ports that the test says. What it does wrong, it does
//! when it is told to: [`Mood`].

mod jws;
mod serve;
mod signer;
mod state;
mod validate;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use self::serve::Serve;
use self::signer::Signer;
use self::state::State;
pub use self::validate::Connection;

/// A running authority.
#[derive(Debug)]
pub struct Acme {
    shared: Arc<Shared>,
    serve: Serve,
    directory: TempDir,
}

/// How the authority behaves.
#[derive(Clone, Debug)]
pub struct Mood {
    /// Ports of the loopback where names are looked for.
    pub http_port: u16,
    pub tls_port: u16,
    /// How far back certificates are dated, and how long they are valid from now on.
    pub backdated: Duration,
    pub lifetime: Duration,
    /// Every new order is refused with this `Retry-After`.
    pub rate_limit: Option<u64>,
    /// So many good nonces are called bad.
    pub bad_nonces: u32,
    /// Orders stay `processing` once they are finalized.
    pub finalize_hangs: bool,
    /// Every request is answered 503.
    pub is_down: bool,
    /// The key identifier and the key without which there is no account.
    pub eab: Option<(String, Vec<u8>)>,
    /// The certificate is for another key than was asked for.
    pub signs_another_key: bool,
}

#[derive(Debug)]
struct Shared {
    base: String,
    signer: Signer,
    mood: Mutex<Mood>,
    state: Mutex<State>,
}

impl Acme {
    /// Starts one that looks for names at these ports.
    pub fn start(http_port: u16, tls_port: u16) -> Self {
        let mood = Mood {
            http_port,
            tls_port,
            backdated: Duration::from_secs(3600),
            lifetime: Duration::from_secs(90 * 86_400),
            rate_limit: None,
            bad_nonces: 0,
            finalize_hangs: false,
            is_down: false,
            eab: None,
            signs_another_key: false,
        };
        let signer = Signer::new();
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("ca.pem"), signer.root_pem()).expect("it is ours");
        let bound = serve::bind();
        let base = format!("https://localhost:{}", bound.port());
        let shared =
            Shared { base, signer, mood: Mutex::new(mood), state: Mutex::new(State::default()) };
        let shared = Arc::new(shared);
        let serve = Serve::start(bound, Arc::clone(&shared));
        Self { shared, serve, directory }
    }

    /// The URL that the node is given.
    pub fn url(&self) -> String {
        format!("{}/directory", self.shared.base)
    }

    /// The certificate by which its own can be checked, and those that it issues.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.shared.signer.root()
    }

    /// A directory that is gone when the authority is.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    pub fn address(&self) -> SocketAddr {
        self.serve.address()
    }

    /// Has it behave otherwise from now on.
    pub fn change(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The orders that it has taken.
    pub fn orders(&self) -> usize {
        self.shared.state().orders.len()
    }

    /// The certificates that it has issued.
    pub fn issued(&self) -> usize {
        self.shared.state().orders.iter().filter(|order| order.certificate.is_some()).count()
    }

    /// The accounts that it has.
    pub fn accounts(&self) -> usize {
        self.shared.state().accounts.len()
    }

    /// The contacts of its first account.
    pub fn contacts(&self) -> Vec<String> {
        self.shared.state().accounts.first().map(|it| it.contacts.clone()).unwrap_or_default()
    }

    /// Requests for orders, also those that it refused.
    pub fn asked(&self) -> usize {
        self.shared.state().asked
    }

    /// Makes a handshake with a node as for a challenge, whatever comes of it.
    ///
    /// # Errors
    /// What the node says to it.
    pub fn knock(&self, name: &str) -> Result<Connection, String> {
        let knocked = validate::knock(name, self.shared.mood().tls_port);
        knocked.map(|it| it.0).map_err(|problem| problem.to_string())
    }

    /// Forgets all accounts, as staging authorities do.
    pub fn forget_accounts(&self) {
        for account in &mut self.shared.state().accounts {
            account.is_forgotten = true;
        }
    }

    /// The thumbprints of the keys that it has issued certificates for, each once.
    pub fn keys(&self) -> HashSet<Vec<u8>> {
        self.shared.state().keys.clone()
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a nonce is called bad that is not.
    fn spoils_nonce(&self) -> bool {
        let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let spoils = mood.bad_nonces > 0;
        mood.bad_nonces = mood.bad_nonces.saturating_sub(1);
        spoils
    }
}
