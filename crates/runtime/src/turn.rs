//! Turns of a worker's tasks: how one that could go on without end lets the others come in.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

use crate::buffer::SCRATCH_BYTES;

/// Wakes the task again, once the kernel has been asked what the sockets of all others have.
///
/// A plain wake would put it in front of them: as long as a task is ready, the runtime asks the
/// kernel only after some dozens of turns.
pub fn give_way(cx: &mut Context<'_>) {
    // That is what the first poll of it does.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// A turn ends with the read that brings what it has taken of one connection to this: a full one,
/// or some that are short because the peer sends just as fast as it is read, of which none would be
/// the last. More than a message of 16 KiB, so that it costs no second look at the sockets
/// (about a microsecond); at most a read more than that, for whoever waits meanwhile.
pub const TURN_BYTES: usize = SCRATCH_BYTES / 4 * 3;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;
    use std::task::Poll;

    use tokio::io::AsyncReadExt;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn a_socket_is_heard_before_the_next_turn() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let arrival = socket.try_clone().unwrap();
        let turns = LocalSet::new().block_on(&runtime, async {
            let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let heard = Rc::new(Cell::new(false));
            let has_heard = Rc::clone(&heard);
            spawn_local(async move {
                socket.read_u8().await.unwrap();
                heard.set(true);
            });
            tokio::task::yield_now().await;
            peer.write_all(b"x").unwrap();
            // On a busy machine, the kernel brings it a moment later.
            while arrival.peek(&mut [0]).is_err() {}
            let mut turns = 0;
            let busy = poll_fn(move |cx| {
                if has_heard.get() {
                    return Poll::Ready(turns);
                }
                turns += 1;
                give_way(cx);
                Poll::Pending
            });
            spawn_local(busy).await.unwrap()
        });
        assert!(turns <= 3, "{turns} turns");
    }
}
