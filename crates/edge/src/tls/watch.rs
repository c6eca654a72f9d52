//! Looks after the files of TLS, on the control plane.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::Tls;
use super::date::{DAY, Date};
use super::look::Look;

/// Starts a task for each listener that has TLS.
pub fn spawn(all: &[Option<Arc<Tls>>], control: &Handle) -> Vec<JoinHandle<()>> {
    all.iter().flatten().map(|tls| control.spawn(keep(Arc::clone(tls)))).collect()
}

async fn keep(tls: Arc<Tls>) {
    tls.announce(Date::now());
    let mut warned_on = None;
    // What was read last and refused: said once, not at every look.
    let mut refused = None;
    let mut staples_tried: Option<Instant> = None;
    loop {
        let now = Date::now();
        let today = now.0 / DAY;
        if warned_on.replace(today) != Some(today) {
            tls.warn_of_expiry(now);
        }
        let is_asked = tokio::select! {
            () = tls.asked.notified() => true,
            () = sleep(tls.reload.unwrap_or(UNWATCHED)) => false,
        };
        let has_old_staple = tls.has_old_staple(Date::now())
            && staples_tried.is_none_or(|tried| tried.elapsed() > UNWATCHED);
        if has_old_staple {
            staples_tried = Some(Instant::now());
        }
        let is_due = is_asked || has_old_staple || changed(&tls, &mut refused).await;
        if !is_due {
            continue;
        }
        let reading = Arc::clone(&tls);
        // A file system may hang, and the control plane has one thread.
        if spawn_blocking(move || reading.reload(Date::now())).await.is_err() {
            tracing::error!(listener = tls.name, "TLS: reading the files again went wrong");
        }
    }
}

/// Whether the files are others than those in use, and not those that were refused already.
async fn changed(tls: &Arc<Tls>, refused: &mut Option<Look>) -> bool {
    if tls.reload.is_none() {
        return false;
    }
    let Some(mut look) = look(tls).await else { return false };
    if look == tls.current.load().look || refused.as_ref() == Some(&look) {
        return false;
    }
    // Whoever writes a certificate writes its key next: what goes on changing is waited for.
    let deadline = Instant::now() + SETTLED_WITHIN;
    while Instant::now() < deadline {
        sleep(SETTLED).await;
        let Some(again) = self::look(tls).await else { return false };
        if again == look {
            break;
        }
        look = again;
    }
    *refused = Some(look);
    true
}

async fn look(tls: &Arc<Tls>) -> Option<Look> {
    let tls = Arc::clone(tls);
    spawn_blocking(move || Look::at(tls.sources.paths())).await.ok()
}

/// How often certificates are looked at for their end when files are not looked at.
const UNWATCHED: Duration = Duration::from_secs(3600);

/// Files that stay the same for as long are all written.
const SETTLED: Duration = Duration::from_millis(300);

/// Files that never rest are read all the same.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
