//! Waiting for what must happen: look again and again, until a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Long, since it is waited for only when it does not,
/// and machines that run tests are busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The same for a program that takes long to start, as browsers and Node.js do, and to do its work.
pub const SLOW_PROGRAM: Duration = Duration::from_secs(60);

/// Returns what `look` finds as soon as it finds something.
///
/// # Panics
/// When the deadline passes first.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, look)
}

/// As [`until`], with a deadline of its own.
#[track_caller]
pub fn until_within<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How long to wait before what is waited for is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);
