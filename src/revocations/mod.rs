//! What is revoked at a node: told by operators and by other nodes, kept in a file.
//!
//! ```text
//!   admin ──revoke──> Revocations ──changes──> Lives of each worker, the file
//!              └──tell──> hub ══broker══> hub of each other node ──> Talk ──> Revocations
//! ```

mod file;
mod talk;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;
use tidewire_auth::gossip::Gossip;
use tidewire_auth::revocation::{Revocation, Revocations, Revoked};
use tidewire_hub::broker::Reach;
use tidewire_hub::broker::url::BrokerUrl;
use tidewire_hub::config::HubConfig;
use tidewire_hub::hub::Hub;
use tidewire_runtime::clock::unix_seconds;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::talk::Talk;
use crate::plan::RevocationPlan;

/// What a node knows of revocations, and its way to tell others. Its tasks end with it.
#[derive(Debug)]
pub struct Revoker {
    pub known: Arc<Revocations>,
    pub counts: Counts,
    default_for: Duration,
    /// The hub, if its broker leads to other processes.
    hub: Option<Arc<Hub>>,
    /// Who waits to hear how far a message has come.
    waiting: Mutex<Vec<(Bytes, oneshot::Sender<Reach>)>>,
    /// The version that is in the file.
    saved: Option<watch::Receiver<u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What a node counts of them.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages of other nodes that were wrong.
    pub malformed: AtomicU64,
    /// Revocations that there was no room for.
    pub refused: AtomicU64,
}

/// That something is revoked.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub revocation: Revocation,
    pub reach: Extent,
    /// Whether it is in the file; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved: Option<bool>,
}

/// How far a revocation has come. It holds on this node in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// The broker has it for every node that is connected to it.
    Everywhere,
    /// There is no broker to other processes.
    Node,
    /// The broker has not answered in time: others may know, or learn of it within minutes.
    Unknown,
    /// The broker is away; the others learn of it when it is back.
    BrokerAway,
}

/// There is no room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table of revocations is full; see `revocation.max`")]
pub struct Full;

impl Revoker {
    /// Starts what a node needs. `known` is what its workers look at.
    ///
    /// # Errors
    /// When the file that keeps them cannot be read, or not be written.
    pub fn start(
        plan: RevocationPlan,
        known: Arc<Revocations>,
        hub: Option<&(Arc<Hub>, HubConfig)>,
        control: &Handle,
    ) -> anyhow::Result<Arc<Self>> {
        let (mut tasks, mut saved) = (Vec::new(), None);
        if let Some(path) = plan.file {
            let (task, version) = start_file(path, &known, control)?;
            tasks.push(task);
            saved = Some(version);
        }
        let is_shared = |config: &HubConfig| !matches!(config.broker, BrokerUrl::Memory);
        let revoker = Arc::new(Self {
            known,
            counts: Counts::default(),
            default_for: plan.default_for,
            hub: hub.filter(|(_, config)| is_shared(config)).map(|(hub, _)| Arc::clone(hub)),
            waiting: Mutex::default(),
            saved,
            tasks: Mutex::default(),
        });
        if let Some((hub, _)) = hub
            && let Some(inbox) = hub.control()
        {
            let talk = Talk::new(Arc::downgrade(&revoker), Arc::clone(hub), inbox);
            tasks.push(control.spawn(talk.run()));
        }
        *revoker.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(revoker)
    }

    /// Revokes for `life`, or for as long as the configuration says. It holds on this node at once;
    /// the wait is for what can be said of the others and of the file.
    pub async fn revoke(&self, of: Revoked, life: Option<Duration>) -> Result<Outcome, Full> {
        let at = unix_seconds();
        let until = at.saturating_add(life.unwrap_or(self.default_for).as_secs().max(1));
        let revocation = Revocation { of, at, until };
        if self.known.add(std::slice::from_ref(&revocation), at).refused > 0 {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        let version = self.known.version();
        let (reach, saved) = tokio::join!(self.tell(&revocation), self.until_saved(version));
        Ok(Outcome { revocation, reach, saved })
    }

    async fn tell(&self, revocation: &Revocation) -> Extent {
        let Some(hub) = &self.hub else { return Extent::Node };
        let message = Gossip::tell(revocation);
        let (sender, come) = oneshot::channel();
        self.waiting().push((message.clone(), sender));
        if hub.tell(message.clone()).is_err() {
            self.waiting().retain(|(waits, _)| *waits != message);
            return Extent::BrokerAway;
        }
        let come = tokio::time::timeout(ANSWER_TIME, come).await;
        self.waiting().retain(|(_, sender)| !sender.is_closed());
        match come {
            Ok(Ok(Reach::Everywhere)) => Extent::Everywhere,
            Ok(Ok(Reach::Node)) => Extent::BrokerAway,
            Ok(Ok(Reach::Unknown) | Err(_)) | Err(_) => Extent::Unknown,
        }
    }

    /// A message of this node has come so far.
    fn has_come(&self, message: &Bytes, reach: Reach) {
        let mut waiting = self.waiting();
        if let Some(index) = waiting.iter().position(|(waits, _)| waits == message) {
            let _ = waiting.swap_remove(index).1.send(reach);
        }
    }

    async fn until_saved(&self, version: u64) -> Option<bool> {
        let mut saved = self.saved.clone()?;
        let saved = saved.wait_for(|saved| *saved >= version);
        Some(matches!(tokio::time::timeout(ANSWER_TIME, saved).await, Ok(Ok(_))))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(Bytes, oneshot::Sender<Reach>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its tasks: the node ends.
    pub fn stop(&self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(JoinHandle::abort);
    }
}

fn start_file(
    path: PathBuf,
    known: &Arc<Revocations>,
    control: &Handle,
) -> anyhow::Result<(JoinHandle<()>, watch::Receiver<u64>)> {
    let now = unix_seconds();
    let added = known.add(&file::read(&path)?, now);
    anyhow::ensure!(
        added.refused == 0,
        "the file of revocations `{}` has more than `revocation.max` allows",
        path.display()
    );
    // Who could not write later had better know now.
    file::write(&path, known.all(now)).with_context(|| {
        format!("the file of revocations `{}` cannot be written", path.display())
    })?;
    let (saved, version) = watch::channel(known.version());
    Ok((control.spawn(file::keep(path, Arc::clone(known), saved)), version))
}

/// How long an operator waits to hear how far it went.
const ANSWER_TIME: Duration = Duration::from_secs(3);
