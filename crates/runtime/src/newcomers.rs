//! The work that newcomers make for their worker, and how much of it is done at once.
//!
//! When hundreds come in one breath, as after a restart, each has a handshake or a request to be
//! answered, a task that is ready at once. Whoever is there already would wait for all of them: the
//! tasks of a worker run in the order in which they became ready. So newcomers stand in line, and
//! after a few of them the worker looks what the sockets of all others have.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// What a newcomer has to have done.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// A request is answered, or sent on: some tens of microseconds.
    Request,
    /// A step of a TLS handshake: keys are agreed upon, and signed. As much as many requests.
    Handshake,
}

/// Waits for this worker's turn for it: first come, first served.
pub async fn turn_for(work: Work) {
    let counter = COUNTER.with(Rc::clone);
    // Whoever is in front of the line is its only one who looks around.
    let _front = counter.line.acquire().await;
    while !counter.takes(work) {
        yield_now().await;
        counter.left.set(AT_ONCE);
    }
}

#[derive(Debug)]
struct Counter {
    line: Semaphore,
    /// How much is done before the sockets are looked at again.
    left: Cell<u32>,
}

impl Counter {
    fn takes(&self, work: Work) -> bool {
        let cost = match work {
            Work::Request => 1,
            Work::Handshake => AT_ONCE,
        };
        let left = self.left.get().checked_sub(cost);
        left.inspect(|&left| self.left.set(left)).is_some()
    }
}

/// In requests: about half a millisecond.
const AT_ONCE: u32 = 8;

thread_local! {
    static COUNTER: Rc<Counter> =
        Rc::new(Counter { line: Semaphore::new(1), left: Cell::new(AT_ONCE) });
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use tokio::io::AsyncReadExt;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// How many of a hundred newcomers were served before somebody who had said something when the
    /// first of them was.
    fn served_before_a_word(work: Work) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        LocalSet::new().block_on(&runtime(), async {
            let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let served = Rc::new(Cell::new(0));
            let seen = Rc::clone(&served);
            let hearing = spawn_local(async move {
                socket.read_u8().await.unwrap();
                seen.get()
            });
            yield_now().await;
            for number in 0..100 {
                let served = Rc::clone(&served);
                let mut peer = (number == 0).then(|| peer.try_clone().unwrap());
                spawn_local(async move {
                    turn_for(work).await;
                    if let Some(peer) = &mut peer {
                        peer.write_all(b"x").unwrap();
                    }
                    served.set(served.get() + 1);
                });
            }
            let before = hearing.await.unwrap();
            while served.get() < 100 {
                yield_now().await;
            }
            peer.shutdown(std::net::Shutdown::Both).unwrap();
            before
        })
    }

    #[test]
    fn who_is_there_is_heard_after_a_few_requests_of_newcomers() {
        let before = served_before_a_word(Work::Request);
        assert!(before <= 2 * AT_ONCE as usize, "{before} were served before");
    }

    #[test]
    fn who_is_there_is_heard_after_a_handshake() {
        let before = served_before_a_word(Work::Handshake);
        assert!(before <= 2, "{before} were served before");
    }

    #[test]
    fn newcomers_are_served_in_their_order_and_who_leaves_the_line_holds_nobody_up() {
        let order = Rc::new(RefCell::new(Vec::new()));
        LocalSet::new().block_on(&runtime(), async {
            let newcomers: Vec<_> = (0..50)
                .map(|number| {
                    let order = Rc::clone(&order);
                    let work = if number % 3 == 0 { Work::Handshake } else { Work::Request };
                    spawn_local(async move {
                        turn_for(work).await;
                        order.borrow_mut().push(number);
                    })
                })
                .collect();
            yield_now().await;
            newcomers.iter().skip(1).step_by(2).for_each(|it| it.abort());
            for newcomer in newcomers {
                let _ = newcomer.await;
            }
        });
        let order = order.borrow();
        assert!(order.is_sorted(), "{order:?}");
        assert!((0..50).step_by(2).all(|number| order.contains(&number)), "{order:?}");
    }
}
