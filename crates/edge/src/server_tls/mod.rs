//! TLS towards the servers of a backend: whom they have to be, and who we are to them.
//!
//! ```text
//!   ServerTlsConfig ──load──> TlsClient ──swapped in──> new handshakes, of clients' connections
//!         └── look: changed? ── keep (control plane), SIGHUP: load again    and of probes
//! ```
//!
//! What is right is swapped in whole, what is wrong is said and the last good one stays. Open
//! connections keep what they were made with. How bytes are moved is the runtime's.

pub mod config;
pub mod failure;
mod load;
pub mod report;
pub mod trust;
mod watch;

use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use tidewire_runtime::socket::Socket;
use tidewire_runtime::tls::client::TlsClient;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::config::ServerTlsConfig;
use self::failure::Failure;
pub use self::load::{Item, Loaded, ServerTlsFault};
pub use self::watch::spawn;
use crate::backend::Lease;
use crate::fault::Fault;
use crate::server::Server;
use crate::tls::date::Date;
use crate::tls::look::Look;

/// How TLS is spoken to the servers of a backend.
#[derive(Debug)]
pub struct ServerTls {
    config: ServerTlsConfig,
    /// Where relative paths start.
    dir: PathBuf,
    current: ArcSwap<Current>,
    /// Asks for the files to be read now.
    asked: Notify,
}

/// What handshakes are made with now.
#[derive(Debug)]
struct Current {
    client: TlsClient,
    /// At the files, before they were read.
    look: Look,
}

impl ServerTls {
    /// Reads the files of `config` for the first time, and returns what is doubtful about them, too.
    /// `dir` is where relative paths start.
    ///
    /// # Errors
    /// What is wrong with the first file that is.
    pub fn load(
        config: &ServerTlsConfig,
        dir: &Path,
        now: Date,
    ) -> Result<(Self, Vec<ServerTlsFault>), ServerTlsFault> {
        let look = look(config, dir);
        let Loaded { client, doubts } = load::load(config, dir, now)?;
        let tls = Self {
            config: config.clone(),
            dir: dir.to_owned(),
            current: ArcSwap::from_pointee(Current { client, look }),
            asked: Notify::new(),
        };
        Ok((tls, doubts))
    }

    /// How TLS is spoken to `server`.
    pub fn towards(&self, server: &Server) -> TlsClient {
        self.current.load().client.towards(self.name_of(server))
    }

    /// Whom `server` has to be: what is written about it, what is written about all, the name that
    /// it was found by, its host.
    fn name_of(&self, server: &Server) -> ServerName<'static> {
        let of_all = || self.config.server_name.as_ref().map(|name| name.0.clone());
        let name = server.written_name().or_else(of_all).or_else(|| server.found_name());
        name.unwrap_or_else(nobody)
    }

    /// Speaks TLS to the server of `lease` on `socket`, which is connected to it.
    pub(crate) async fn secure(
        &self,
        lease: &Lease,
        socket: Socket,
        deadline: Instant,
    ) -> Result<Socket, Fault> {
        let client = self.towards(lease.server());
        match timeout_at(deadline, socket.connect_tls(&client)).await {
            Ok(Ok(socket)) => {
                lease.server().counts.tls.note_handshake(socket.is_resumed());
                Ok(socket)
            }
            Ok(Err(error)) => {
                let fault = Fault::Tls(error);
                report::note(lease, &fault);
                Err(fault)
            }
            Err(_) => {
                report::failed(lease, Failure::Timeout, "the handshake was not over in time");
                Err(Fault::ConnectTimeout)
            }
        }
    }

    /// Has the files read again, whether they look changed or not, and what the system believes.
    pub fn ask_for_reload(&self) {
        self.asked.notify_one();
    }
}

fn look(config: &ServerTlsConfig, dir: &Path) -> Look {
    let files: Vec<_> = config.files().map(|path| dir.join(path)).collect();
    Look::at(files.iter().map(PathBuf::as_path))
}

/// A name that no certificate is for. The plan asks for one where there is none.
fn nobody() -> ServerName<'static> {
    std::net::IpAddr::from([0; 4]).into()
}
