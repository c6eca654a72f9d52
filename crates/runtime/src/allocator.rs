//! Giving memory back after a burst.
//!
//! A handshake needs some forty kilobytes for a moment, a stalled reader up to a scratch buffer.
//! The allocator keeps what was freed for the next burst, which may not come for days. So a worker
//! whose burst has passed has it given back once.

use std::cell::Cell;

/// Notes that memory was taken that will be free again soon.
pub fn note_burst() {
    BURSTS.set(BURSTS.get().wrapping_add(1));
}

/// Watches a thread's bursts, and gives memory back when one has passed.
#[derive(Debug, Default)]
pub struct Giveback {
    seen: Cell<u32>,
    given: Cell<u32>,
    quiet_ticks: Cell<u32>,
}

impl Giveback {
    /// Whether there may be memory to give back.
    pub fn is_due(&self) -> bool {
        self.given.get() != BURSTS.get()
    }

    /// To be called at every tick.
    pub fn tick(&self) {
        let bursts = BURSTS.get();
        if self.seen.replace(bursts) != bursts {
            self.quiet_ticks.set(0);
            return;
        }
        self.quiet_ticks.set(self.quiet_ticks.get().saturating_add(1));
        if self.quiet_ticks.get() >= QUIET_TICKS && self.is_due() {
            self.given.set(bursts);
            collect();
        }
    }
}

/// Gives what this thread has freed back to the system.
fn collect() {
    // SAFETY: `mi_collect` may be called by any thread at any time. In a program with another
    // allocator it finds nothing to do.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Half a second without a burst.
const QUIET_TICKS: u32 = 5;

thread_local! {
    static BURSTS: Cell<u32> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_a_quiet_while() {
        let giveback = Giveback::default();
        note_burst();
        for _ in 0..QUIET_TICKS {
            giveback.tick();
            assert!(giveback.is_due());
        }
        giveback.tick();
        assert!(!giveback.is_due());
        note_burst();
        assert!(giveback.is_due());
    }
}
