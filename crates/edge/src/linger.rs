//! The end of a connection that the client may still be writing to.

use std::task::Poll;

use tidewire_runtime::buffer::with_scratch;
use tidewire_runtime::connections::{Signal, Watch};
use tidewire_runtime::deadline::Tick;
use tidewire_runtime::socket::Socket;

/// Ends our direction and reads what is still under way for a moment: closing at once would reset
/// the connection, and the client might lose the answer that is on its way.
pub(crate) async fn linger(socket: &mut Socket, watch: &Watch) {
    if socket.shutdown_write().is_err() {
        return;
    }
    watch.expire_after(LINGER);
    std::future::poll_fn(|cx| {
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
    })
    .await;
}

/// Two seconds, in ticks.
const LINGER: Tick = 20;
