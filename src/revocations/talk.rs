//! A node's talk with the others about revocations: hears, and speaks when it is time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewire_auth::gossip::Gossip;
use tidewire_hub::control::{ControlEvent, ControlInbox};
use tidewire_hub::hub::Hub;
use tidewire_runtime::clock::unix_seconds;
use tracing::{debug, info, warn};

use super::Revoker;

/// The task that does it.
pub struct Talk {
    revoker: Weak<Revoker>,
    hub: Arc<Hub>,
    inbox: ControlInbox,
    /// When a full table was warned of.
    warned: Option<Instant>,
}

impl Talk {
    pub fn new(revoker: Weak<Revoker>, hub: Arc<Hub>, inbox: ControlInbox) -> Self {
        Self { revoker, hub, inbox, warned: None }
    }

    pub async fn run(mut self) {
        let Some(revoker) = self.revoker.upgrade() else { return };
        let mut gossip = Gossip::new(Arc::clone(&revoker.known), fastrand::Rng::new());
        drop(revoker);
        let mut out = Vec::new();
        loop {
            let event = match gossip.due() {
                None => self.inbox.recv().await,
                Some(due) => match tokio::time::timeout_at(due.into(), self.inbox.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        gossip.speak(Instant::now(), unix_seconds(), &mut out);
                        // What does not get through is made up for by a later digest.
                        out.drain(..).for_each(|message| _ = self.hub.tell(message));
                        continue;
                    }
                },
            };
            let (Some(event), Some(revoker)) = (event, self.revoker.upgrade()) else { return };
            match event {
                ControlEvent::Connected => gossip.connected(Instant::now()),
                ControlEvent::Away => gossip.away(),
                ControlEvent::Echo(message, reach) => revoker.has_come(&message, reach),
                ControlEvent::Told(message) => self.hear(&mut gossip, &revoker, &message),
            }
        }
    }

    fn hear(&mut self, gossip: &mut Gossip, revoker: &Revoker, message: &Bytes) {
        match gossip.hear(message, Instant::now(), unix_seconds()) {
            Ok(added) => {
                if added.new > 0 {
                    info!(count = added.new, "another node has revoked");
                }
                if added.refused > 0 {
                    revoker.counts.refused.fetch_add(added.refused as u64, Ordering::Relaxed);
                    self.warn_full();
                }
            }
            Err(malformed) => {
                revoker.counts.malformed.fetch_add(1, Ordering::Relaxed);
                debug!(why = %malformed, "dropped what another node has told");
            }
        }
    }

    fn warn_full(&mut self) {
        if self.warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            self.warned = Some(Instant::now());
            warn!("the table of revocations is full: what other nodes revoke does not hold here");
        }
    }
}

const WARN_EVERY: Duration = Duration::from_secs(60);
