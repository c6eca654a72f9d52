//! Looks after the files of TLS towards servers, on the control plane.

use std::sync::Arc;
use std::time::Duration;

use tidewire_auth::kept_file::LOOK_PERIOD;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::load::{self, Loaded};
use super::{Current, ServerTls};
use crate::backend::Backend;
use crate::tls::date::Date;
use crate::tls::look::Look;

/// Starts a task for each backend that has TLS towards its servers.
pub fn spawn(backends: &[Arc<Backend>], control: &Handle) -> Vec<JoinHandle<()>> {
    let has_tls = |backend: &&Arc<Backend>| backend.tls.is_some();
    let start = |backend: &Arc<Backend>| control.spawn(keep(Arc::clone(backend)));
    backends.iter().filter(has_tls).map(start).collect()
}

async fn keep(backend: Arc<Backend>) {
    let Some(tls) = &backend.tls else { return };
    // What was read last and refused: said once, not at every look.
    let mut refused = None;
    loop {
        let is_asked = tokio::select! {
            () = tls.asked.notified() => true,
            () = sleep(LOOK_PERIOD) => false,
        };
        if is_asked || changed(&backend, &mut refused).await {
            let reading = Arc::clone(&backend);
            let read = move || reading.tls.iter().for_each(|tls| tls.reload(&reading.name));
            if spawn_blocking(read).await.is_err() {
                error!(backend = backend.name, "TLS towards servers: reading went wrong");
            }
        }
    }
}

/// Whether the files are others than those in use, and not those that were refused already.
async fn changed(backend: &Arc<Backend>, refused: &mut Option<Look>) -> bool {
    let Some(mut look) = look(backend).await else { return false };
    let in_use = backend.tls.as_ref().map(|tls| tls.current.load());
    if in_use.is_none_or(|current| current.look == look) || refused.as_ref() == Some(&look) {
        return false;
    }
    // Whoever writes a certificate writes its key next: what goes on changing is waited for.
    let deadline = Instant::now() + SETTLED_WITHIN;
    while Instant::now() < deadline {
        sleep(SETTLED).await;
        let Some(again) = self::look(backend).await else { return false };
        if again == look {
            break;
        }
        look = again;
    }
    *refused = Some(look);
    true
}

/// A file system may hang, and the control plane has one thread.
async fn look(backend: &Arc<Backend>) -> Option<Look> {
    let backend = Arc::clone(backend);
    let look = move || backend.tls.as_ref().map(|tls| super::look(&tls.config, &tls.dir));
    spawn_blocking(look).await.ok().flatten()
}

impl ServerTls {
    /// Reads the files and swaps them in, or says what is wrong with them.
    fn reload(&self, backend: &str) {
        let look = super::look(&self.config, &self.dir);
        match load::load(&self.config, &self.dir, Date::now()) {
            Ok(Loaded { client, doubts }) => {
                self.current.store(Arc::new(Current { client, look }));
                for doubt in doubts {
                    warn!(backend, "TLS towards servers: {doubt}");
                }
                info!(backend, "TLS towards servers: what was read is in use");
            }
            Err(fault) => {
                error!(backend, "TLS towards servers: {fault}");
                error!(
                    backend,
                    "TLS towards servers: what was read is not used; what was in use stays"
                );
            }
        }
    }
}

/// Files that stay the same for as long are all written.
const SETTLED: Duration = Duration::from_millis(300);

/// Files that never rest are read all the same.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
