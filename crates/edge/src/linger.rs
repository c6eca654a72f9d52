//! The end of a connection that the client may still be writing to.

use std::task::{Context, Poll};

use tidewire_runtime::buffer::with_scratch;
use tidewire_runtime::connections::{Signal, Watch};
use tidewire_runtime::deadline::Tick;
use tidewire_runtime::socket::Socket;

/// Ends our direction and reads what is still under way for a moment: closing at once would reset
/// the connection, and the client might lose the answer that is on its way.
pub(crate) async fn linger(socket: &mut Socket, watch: &Watch) {
    if begin(socket, watch) {
        std::future::poll_fn(|cx| poll_rest(socket, watch, cx)).await;
    }
}

/// The same for the owner of a connection that is polled anyway.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// `None` when there is nothing to wait for.
    conn: Option<(Socket, Watch)>,
}

impl Lingering {
    pub(crate) fn new(mut socket: Socket, watch: Watch) -> Self {
        let waits = begin(&mut socket, &watch);
        Self { conn: waits.then_some((socket, watch)) }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.conn {
            Some((socket, watch)) => poll_rest(socket, watch, cx),
            None => Poll::Ready(()),
        }
    }
}

fn begin(socket: &mut Socket, watch: &Watch) -> bool {
    let is_ended = socket.shutdown_write().is_ok();
    if is_ended {
        watch.expire_after(LINGER);
    }
    is_ended
}

fn poll_rest(socket: &mut Socket, watch: &Watch, cx: &mut Context<'_>) -> Poll<()> {
    // Asked again behind a Drain: only an answer that is pending will wake this task.
    while let Poll::Ready(signal) = watch.poll_signal(cx) {
        if signal != Signal::Drain {
            return Poll::Ready(());
        }
    }
    loop {
        match with_scratch(|scratch| socket.poll_read(cx, scratch)) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Two seconds, in ticks.
const LINGER: Tick = 20;
