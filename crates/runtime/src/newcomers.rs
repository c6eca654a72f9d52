//! The work that newcomers make for their worker, and how much of it is done at once.
//!
//! When hundreds come in one breath, as after a restart, each has a handshake or a request to be
//! answered, a task that is ready at once. Whoever is there already would wait for all of them: the
//! tasks of a worker run in the order in which they became ready. So requests, also those on kept
//! connections, and the hellos of TLS stand in line, and after a few of them the worker looks what
//! the sockets of all others have. The longer that takes, the more newcomers have their turn then:
//! on a worker that is busy with others, they have a fifth of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Waits for this worker's turn to do something for a newcomer: first come, first served. What is
/// done then is to be [`measured`].
pub async fn turn() {
    let line = LINE.with(Rc::clone);
    let came = Instant::now();
    // Whoever is in front of the line is its only one who looks around.
    let _front = line.front.acquire().await;
    if came.saturating_duration_since(line.begun.get()) > LULL {
        line.left.set(line.left.get().min(AT_ONCE));
    }
    while line.left.get().is_zero() {
        yield_now().await;
        line.begin_round(came);
    }
}

/// Does a part of what a newcomer has to have done.
pub fn measured<T>(work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    LINE.with(|line| line.spend(begun.elapsed()));
    done
}

/// The line, and a round of it: from one look at the sockets to the next.
#[derive(Debug)]
struct Line {
    front: Semaphore,
    begun: Cell<Instant>,
    /// How long newcomers may work in this round, and how long they have.
    left: Cell<Duration>,
    spent: Cell<Duration>,
}

impl Line {
    /// Begins the next round, for one who stands in line since it `came`.
    fn begin_round(&self, came: Instant) {
        // Before somebody came, there was no line.
        let waited = self.begun.get().max(came).elapsed();
        let of_others = waited.saturating_sub(self.spent.take());
        self.left.set(AT_ONCE + (of_others / 4).min(MOST_MORE));
        self.begun.set(Instant::now());
    }

    fn spend(&self, time: Duration) {
        self.left.set(self.left.get().saturating_sub(time));
        self.spent.set(self.spent.get() + time);
    }
}

/// What newcomers have in a round: about eight requests, or the answer to a hello of TLS.
const AT_ONCE: Duration = Duration::from_micros(500);
/// What they have besides, at most, where others work long.
const MOST_MORE: Duration = Duration::from_millis(20);
/// After so long, nothing follows from how long others worked.
const LULL: Duration = Duration::from_millis(100);

thread_local! {
    static LINE: Rc<Line> = Rc::new(Line {
        front: Semaphore::new(1),
        begun: Cell::new(Instant::now()),
        left: Cell::new(AT_ONCE),
        spent: Cell::new(Duration::ZERO),
    });
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use tokio::io::AsyncReadExt;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// How many of a hundred newcomers, each with this much to do, were served before somebody who
    /// had said something when the first of them was.
    fn served_before_a_word(work: Duration) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let arrival = socket.try_clone().unwrap();
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
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                let mut word = (number == 0).then(|| (clone(&peer), clone(&arrival)));
                spawn_local(async move {
                    turn().await;
                    if let Some((peer, arrival)) = &mut word {
                        peer.write_all(b"x").unwrap();
                        // On a busy machine, the kernel brings it a moment later.
                        while arrival.peek(&mut [0]).is_err() {}
                    }
                    measured(|| thread::sleep(work));
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
    fn who_is_there_is_heard_after_a_few_short_works_of_newcomers() {
        let before = served_before_a_word(AT_ONCE / 8);
        assert!(before <= 17, "{before} were served before");
    }

    #[test]
    fn who_is_there_is_heard_after_a_long_work_of_a_newcomer() {
        let before = served_before_a_word(AT_ONCE);
        assert!(before <= 2, "{before} were served before");
    }

    /// How often others, who always work for so long, have their turn before each of so many
    /// newcomers has had its own, and has done `work` then.
    fn rounds(
        work_of_others: Duration,
        newcomers: usize,
        work: impl Fn() + Copy + 'static,
    ) -> usize {
        LocalSet::new().block_on(&runtime(), async {
            let rounds = Rc::new(Cell::new(0));
            let counted = Rc::clone(&rounds);
            let others = spawn_local(async move {
                loop {
                    thread::sleep(work_of_others);
                    counted.set(counted.get() + 1);
                    yield_now().await;
                }
            });
            let newcomer = || async move {
                turn().await;
                work();
            };
            let newcomers: Vec<_> = (0..newcomers).map(|_| spawn_local(newcomer())).collect();
            for newcomer in newcomers {
                newcomer.await.unwrap();
            }
            others.abort();
            rounds.get()
        })
    }

    /// Works for so long, or longer where the machine is busy.
    fn works(time: Duration) -> impl Fn() + Copy + 'static {
        move || measured(|| thread::sleep(time))
    }

    /// Counts rounds of which there are to be so many at least. A thread that is held up between
    /// its works finds that others worked long, and has fewer: then it counts again, with a line of
    /// its own.
    fn check_at_least(least: usize, count: fn() -> usize) {
        let counted = || thread::spawn(count).join().unwrap();
        let seen: Vec<_> = (0..20).map(|_| counted()).take_while(|&seen| seen < least).collect();
        assert!(seen.len() < 20, "{seen:?} times round");
    }

    #[test]
    fn works_that_cost_nothing_hold_nobody_up() {
        let rounds = rounds(Duration::ZERO, 100, works(Duration::ZERO));
        assert!(rounds <= 10, "{rounds} times round");
    }

    #[test]
    fn the_longer_others_work_the_more_newcomers_have_their_turn() {
        // Of a round of 40 ms, a fourth, which is a hundred of them. No sleep is so exact.
        let work = || LINE.with(|line| line.spend(Duration::from_micros(100)));
        let rounds = rounds(Duration::from_millis(40), 200, work);
        assert!(rounds <= 10, "{rounds} times round");
    }

    #[test]
    fn what_newcomers_had_in_a_long_round_is_not_kept_for_a_storm() {
        check_at_least(10, || {
            assert!(rounds(Duration::from_millis(40), 20, works(Duration::from_micros(100))) > 0);
            thread::sleep(2 * LULL);
            rounds(Duration::ZERO, 40, works(Duration::from_micros(200)))
        });
    }

    #[test]
    fn what_newcomers_do_themselves_gives_them_no_more_of_it() {
        check_at_least(30, || rounds(Duration::ZERO, 40, works(Duration::from_millis(2))));
    }

    #[test]
    fn newcomers_are_served_in_their_order_and_who_leaves_the_line_holds_nobody_up() {
        let order = Rc::new(RefCell::new(Vec::new()));
        LocalSet::new().block_on(&runtime(), async {
            let newcomers: Vec<_> = (0..50)
                .map(|number| {
                    let order = Rc::clone(&order);
                    spawn_local(async move {
                        turn().await;
                        measured(|| thread::sleep(AT_ONCE / (1 + number as u32 % 3)));
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
