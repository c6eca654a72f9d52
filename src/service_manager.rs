//! What systemd hears of a service that says so (`Type=notify`): that it serves, that it ends.
//!
//! Nobody listens, and nothing is sent, where `NOTIFY_SOCKET` is not set.

use sd_notify::NotifyState;
use tracing::warn;

/// Every listener accepts.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The node drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager at NOTIFY_SOCKET cannot be told of the node's state");
    }
}
