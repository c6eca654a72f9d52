//! Giving memory back after a burst.
//!
//! A handshake needs some forty kilobytes for a moment, a stalled reader up to a scratch buffer.
//! The allocator keeps what was freed for the next burst, which may not come for days. So a worker
//! whose burst has passed has it given back once, and not before: mimalloc itself would do it after
//! 10 ms, in the middle of the burst, and each handshake would pay for fresh pages.

use std::cell::Cell;

/// Has the allocator leave it to [`Giveback`] when memory is given back. To be called before there
/// are workers. `MIMALLOC_PURGE_DELAY` in the environment comes first.
pub(crate) fn keep_through_bursts() {
    // SAFETY: an option may be set by any thread at any time; whoever reads it meanwhile gets the
    // value before or after. In a program with another allocator nobody reads it.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

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

/// `mi_option_purge_delay` of mimalloc 2, which the crate has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Longer than a worker waits for the end of a burst. Never (-1) would be for a collection, too.
const PURGE_DELAY_MS: std::ffi::c_long = 1000;

/// Half a second without a burst.
const QUIET_TICKS: u32 = 5;

thread_local! {
    static BURSTS: Cell<u32> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_through_a_burst() {
        // SAFETY: an option may be read by any thread at any time.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // That of mimalloc, or ours if another test has started workers.
        assert!([10, PURGE_DELAY_MS].contains(&delay()), "{} is another option", PURGE_DELAY);
        keep_through_bursts();
        assert_eq!(delay(), PURGE_DELAY_MS);
    }

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
