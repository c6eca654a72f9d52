//! An honest client beside an attack: it says something every few milliseconds, must hear it back,
//! and keeps how long that took.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::deadline::until;
use crate::script;
use crate::tidewire::Tidewire;
use crate::websocket::WebSocket;

/// A client that echoes in a thread of its own. Not one echo may be wrong or missing.
#[derive(Debug)]
pub struct Neighbour {
    shared: Arc<Shared>,
    echoing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// How long each echo took, and what the program did meanwhile.
    taken: Mutex<Vec<(Duration, Duration)>>,
}

impl Neighbour {
    /// Echoes over `path`, where what it says comes back behind `prefix`.
    #[track_caller]
    pub fn start(address: SocketAddr, path: &str, prefix: &'static str) -> Self {
        Self::start_at(PACE, None, address, path, prefix)
    }

    fn start_at(
        pace: Duration,
        program: Option<u32>,
        address: SocketAddr,
        path: &str,
        prefix: &'static str,
    ) -> Self {
        let mut socket = WebSocket::connect(address, path);
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let echoing = thread::spawn(move || {
            for number in 0.. {
                let worked = || program.map_or(0, |program| Processor::of(program).ran);
                let (start, before) = (Instant::now(), worked());
                socket.send(&number.to_string());
                assert_eq!(socket.text(), format!("{prefix}{number}"));
                let taken = start.elapsed();
                let work = Duration::from_nanos(worked().saturating_sub(before));
                theirs.taken.lock().unwrap_or_else(PoisonError::into_inner).push((taken, work));
                if theirs.is_over.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(pace.saturating_sub(taken));
            }
        });
        Self { shared, echoing: Some(echoing) }
    }

    /// Forgets the echoes so far.
    pub fn begin(&self) {
        self.taken().clear();
    }

    /// The echoes since [`Neighbour::begin`], once they are enough to speak of their slowest.
    ///
    /// # Panics
    /// When an echo was wrong, or does not come.
    #[track_caller]
    pub fn end(&self) -> Latencies {
        until("the neighbour hears its echoes", || {
            let is_over = self.echoing.as_ref().is_some_and(JoinHandle::is_finished);
            assert!(!is_over, "the neighbour is disturbed");
            (self.taken().len() >= ECHOES).then_some(())
        });
        let mut taken = std::mem::take(&mut *self.taken());
        taken.sort_unstable();
        Latencies(taken)
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Vec<(Duration, Duration)>> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let echoed = self.echoing.take().map_or(Ok(()), JoinHandle::join);
        if !thread::panicking() {
            echoed.expect("the neighbour is not disturbed");
        }
    }
}

/// How long echoes took, in order.
#[derive(Debug)]
pub struct Latencies(Vec<(Duration, Duration)>);

impl Latencies {
    pub fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100].0
    }

    fn waits(self) -> Waits {
        let p99 = self.p99();
        let mut work: Vec<_> = self.0.into_iter().map(|(_, work)| work).collect();
        work.sort_unstable();
        Waits { p99, p99_of_work: work[work.len() * 99 / 100] }
    }
}

/// Lets a neighbour echo over `path` of `node` while each of `deeds` is done to that, which goes on
/// until the moment that it is told; what it waited then. Deeds are done in turns, so that whatever
/// else the machine does meets all of them, and what is returned is the middle one of the turns.
///
/// # Panics
/// When an echo was wrong, or does not come.
#[track_caller]
pub fn waits_beside_each(
    node: &Tidewire,
    (path, prefix): (&str, &'static str),
    deeds: &[fn(&Tidewire, Instant)],
) -> Vec<Waits> {
    let program = Some(node.child.id());
    let neighbour = Neighbour::start_at(QUICK_PACE, program, node.address(), path, prefix);
    let _ = give_precedence_to_others();
    let mut found = vec![Vec::new(); deeds.len()];
    for _ in 0..TURNS {
        for (deed, waits) in deeds.iter().zip(&mut found) {
            neighbour.begin();
            deed(node, Instant::now() + TURN);
            waits.push(neighbour.end().waits());
        }
    }
    found.iter().map(|waits| Waits::middle(waits)).collect()
}

/// Lets the calling thread, and those that it starts from now on, run when nobody else would. Who
/// attacks has a machine of its own: here it is not to take this one from whoever waits to be heard.
/// Returns whether the system can do that, which needs no privilege.
#[cfg(target_os = "linux")]
pub fn give_precedence_to_others() -> bool {
    let thread = rustix::thread::gettid().to_string();
    let chrt = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
    chrt.is_ok_and(|status| status.success())
}

#[cfg(not(target_os = "linux"))]
pub fn give_precedence_to_others() -> bool {
    false
}

/// What the slowest hundredth of a neighbour's echoes took.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// By the clock.
    pub p99: Duration,
    /// What the program did meanwhile, which is for others: that nobody else had the processor is
    /// not its doing. The kernel says it to a few milliseconds.
    pub p99_of_work: Duration,
}

impl Waits {
    fn middle(all: &[Self]) -> Self {
        let of = |read: fn(&Self) -> Duration| {
            let mut values: Vec<_> = all.iter().map(read).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Self { p99: of(|it| it.p99), p99_of_work: of(|it| it.p99_of_work) }
    }
}

/// A neighbour, and what tells how busy the machine is with other things: an echo with a thread of
/// the test, which nobody attacks, and how long the program has waited for a processor.
#[derive(Debug)]
pub struct Street {
    neighbour: Neighbour,
    elsewhere: Neighbour,
    program: u32,
    _server: Backend,
}

impl Street {
    /// As [`Neighbour::start`], by way of `node`.
    #[track_caller]
    pub fn start(node: &Tidewire, path: &str, prefix: &'static str) -> Self {
        let server = Backend::start(script::echoes);
        let elsewhere = Neighbour::start(server.address(), "/", "");
        let neighbour = Neighbour::start(node.address(), path, prefix);
        Self { neighbour, elsewhere, program: node.child.id(), _server: server }
    }

    /// Makes `attack`, during which the neighbour's p99 is to stay within twice of what it was
    /// before, or of what it is elsewhere meanwhile, on a machine that has nothing else to do.
    ///
    /// # Panics
    /// When it does not, in any of several attempts.
    #[track_caller]
    pub fn is_calm_during<T>(&self, what: &str, mut attack: impl FnMut() -> T) -> T {
        let mut seen = Vec::new();
        for _ in 0..ATTEMPTS {
            self.neighbour.begin();
            let before = self.neighbour.end().p99();
            self.neighbour.begin();
            self.elsewhere.begin();
            let start = Processor::of(self.program);
            let result = attack();
            let (during, elsewhere) = (self.neighbour.end().p99(), self.elsewhere.end().p99());
            let crowd = Processor::of(self.program).crowd_since(start);
            println!(
                "{what}: p99 {before:?} before, {during:?} during, {elsewhere:?} elsewhere, \
                 {crowd:.1} times slower by others"
            );
            let most = FLOOR.max(2 * before).max(2 * elsewhere);
            if during <= most.mul_f64(crowd) {
                return result;
            }
            seen.push((before, during, elsewhere, crowd));
        }
        panic!("{what}: the neighbour's p99 (before, during, elsewhere, crowd) was {seen:?}");
    }
}

/// What the threads of a process had of the processors, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Processor {
    ran: u64,
    /// Ready to run, while others did.
    waited: u64,
}

impl Processor {
    #[track_caller]
    fn of(process: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the child is there");
        let mut sum = Self { ran: 0, waited: 0 };
        for task in tasks.flatten() {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let mut fields = text.split(' ').map(|field| field.parse().unwrap_or(0));
            sum.ran += fields.next().unwrap_or(0);
            sum.waited += fields.next().unwrap_or(0);
        }
        sum
    }

    /// How much longer everything took than without others on the machine.
    fn crowd_since(self, start: Self) -> f64 {
        let ran = self.ran.saturating_sub(start.ran).max(1) as f64;
        1.0 + self.waited.saturating_sub(start.waited) as f64 / ran
    }
}

const PACE: Duration = Duration::from_millis(3);

/// So that a turn has enough echoes for a p99 that is not the slowest of them.
const QUICK_PACE: Duration = Duration::from_millis(1);
const TURN: Duration = Duration::from_millis(300);
const TURNS: usize = 5;

const ECHOES: usize = 100;
const ATTEMPTS: usize = 5;

/// What nobody notices. Without optimization a turn of 64 KiB of tiny frames takes longer.
const FLOOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 25 } else { 5 });
