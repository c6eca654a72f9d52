//! The thread on which certificates are kept.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tidewire_edge::challenge::Challenges;
use tidewire_edge::tls::acme::AcmeCertificate;
use tidewire_edge::tls::date::Date;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::authority::Authority;
use super::config::AcmeConfig;
use super::issued::Issued;
use super::keeper::{Install, Keeper};
use super::metrics::AcmeMetrics;
use super::names::Names;
use super::offer::Board;
use super::storage::{Storage, unix_seconds};
use crate::plan::acme::AcmePlan;

/// Keeps certificates until it is dropped.
#[derive(Debug)]
pub struct Acme {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Names, and where their certificate goes.
type Wanted = (Names, Install);

impl Acme {
    /// Keeps what a plan wants, if it wants anything.
    pub fn start(
        plan: Option<AcmePlan>,
        metrics: &Arc<AcmeMetrics>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(AcmePlan { config, wanted }) = plan else { return Ok(None) };
        let keep = |certificate: Arc<AcmeCertificate>| {
            let names = Names::new(certificate.names())?;
            let install = move |issued: &Issued| {
                let not_after = Date(unix_seconds(issued.not_after) as i64);
                certificate.install(Arc::clone(&issued.certified), not_after);
            };
            Some((names, Arc::new(install) as Install))
        };
        let certificates = wanted.certificates.into_iter().filter_map(keep).collect();
        Self::keep(config, certificates, wanted.challenges, Arc::clone(metrics)).map(Some)
    }

    pub(super) fn keep(
        config: AcmeConfig,
        wanted: Vec<Wanted>,
        challenges: Arc<Challenges>,
        metrics: Arc<AcmeMetrics>,
    ) -> anyhow::Result<Self> {
        let storage = Storage::new(&config.storage, &config.directory);
        let board = Arc::new(Board::new(challenges));
        let authority = Authority { config: Arc::new(config), storage, board, metrics };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the thread for certificates")?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("acme".into()).spawn(move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                let board = Arc::clone(&authority.board);
                tasks.spawn(board.watch(authority.storage.clone()));
                for (names, install) in wanted {
                    tasks.spawn(Keeper::new(authority.clone(), names, install).run());
                }
                let _ = stopped.await;
                // An order that is under way takes its challenges back.
                tasks.shutdown().await;
            });
        });
        let thread = thread.context("cannot start the thread for certificates")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
