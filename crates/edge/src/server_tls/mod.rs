//! TLS towards the servers of a backend: whom they have to be, and who we are to them.
//!
//! The files are read when the plan is made, and again when they change; while they are wrong, what
//! was read before holds.

pub mod config;
mod load;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use tidewire_auth::kept_file::LOOK_PERIOD;
use tidewire_runtime::tls::client::TlsClient;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use self::config::ServerTlsConfig;
pub use self::load::{Item, ServerTlsFault};
use crate::backend::Backend;
use crate::server::Server;
use crate::tls::date::Date;
use crate::tls::look::Look;

/// How TLS is spoken to the servers of a backend.
#[derive(Debug)]
pub struct ServerTls {
    config: ServerTlsConfig,
    files: Vec<PathBuf>,
    dir: PathBuf,
    current: ArcSwap<TlsClient>,
    asked: Notify,
}

impl ServerTls {
    /// Reads the files of `config`. `dir` is where relative paths start.
    ///
    /// # Errors
    /// What is wrong with the first file that is.
    pub fn load(config: &ServerTlsConfig, dir: &Path, now: Date) -> Result<Self, ServerTlsFault> {
        let client = load::client(config, dir, now)?;
        let files = config.files().map(|path| dir.join(path)).collect();
        Ok(Self {
            config: config.clone(),
            files,
            dir: dir.to_owned(),
            current: ArcSwap::from_pointee(client),
            asked: Notify::new(),
        })
    }

    /// How TLS is spoken to `server`.
    pub fn towards(&self, server: &Server) -> TlsClient {
        self.current.load().towards(self.name_of(server))
    }

    /// Whom `server` has to be: `server_name`, the name that it was found by, or its host.
    fn name_of(&self, server: &Server) -> ServerName<'static> {
        let named = self.config.server_name.as_ref().map(|name| name.0.clone());
        named.or_else(|| server.server_name()).unwrap_or_else(nobody)
    }

    /// Has the files read again now, if they have changed.
    pub fn ask_for_reload(&self) {
        self.asked.notify_one();
    }

    fn reload(&self, backend: &str) {
        match load::client(&self.config, &self.dir, Date::now()) {
            Ok(client) => {
                self.current.store(Arc::new(client));
                tracing::info!(backend, "TLS towards servers: the files are read again");
            }
            Err(error) => {
                tracing::error!(backend, %error, "TLS towards servers is as before: a file is wrong");
            }
        }
    }
}

/// Starts a task for each backend that has files for TLS.
pub fn spawn(backends: &[Arc<Backend>], control: &Handle) -> Vec<JoinHandle<()>> {
    let has_files = |it: &&Arc<Backend>| it.tls.as_ref().is_some_and(|tls| !tls.files.is_empty());
    let start = |backend: &Arc<Backend>| control.spawn(keep(Arc::clone(backend)));
    backends.iter().filter(has_files).map(start).collect()
}

async fn keep(backend: Arc<Backend>) {
    let Some(tls) = &backend.tls else { return };
    let mut known = look(&backend).await;
    loop {
        tokio::select! {
            () = tls.asked.notified() => {}
            () = sleep(LOOK_PERIOD) => {}
        }
        let now = look(&backend).await;
        if now == known {
            continue;
        }
        known = now;
        let reading = Arc::clone(&backend);
        // A file system may hang, and the control plane has one thread.
        let read = move || reading.tls.iter().for_each(|tls| tls.reload(&reading.name));
        if spawn_blocking(read).await.is_err() {
            tracing::error!(backend = backend.name, "reading the files of TLS went wrong");
        }
    }
}

async fn look(backend: &Arc<Backend>) -> Option<Look> {
    let backend = Arc::clone(backend);
    let look =
        move || backend.tls.as_ref().map(|tls| Look::at(tls.files.iter().map(PathBuf::as_path)));
    spawn_blocking(look).await.ok().flatten()
}

/// A name that no certificate is for.
fn nobody() -> ServerName<'static> {
    std::net::IpAddr::from([0; 4]).into()
}
