//! The signals that end the process: the first asks, the second insists.

use tidewire_runtime::worker::Drainer;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// The signals that ask the process to end.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

/// Has `reload` done at each SIGHUP. Until this is asked for, SIGHUP ends the process: a terminal
/// that is closed says it, too.
pub fn on_hangup(control: &Handle, reload: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let _entered = control.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    control.spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reading files and looking names up again");
            reload();
        }
    });
    Ok(())
}

impl Signals {
    /// From now on these signals are ours to answer.
    pub fn listen(control: &Handle) -> std::io::Result<Self> {
        let _entered = control.enter();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for SIGINT (Ctrl-C) or SIGTERM and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Has a further signal end every connection at once.
    pub fn then_stop(mut self, control: &Handle, workers: Vec<Drainer>) {
        control.spawn(async move {
            let name = self.next().await;
            tracing::warn!("{name} again: ending every connection now");
            workers.iter().for_each(Drainer::stop);
        });
    }
}
