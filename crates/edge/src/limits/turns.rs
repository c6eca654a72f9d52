//! Turns at a pace, and a line of those who wait for theirs. Pure: the time is an argument.
//!
//! ```text
//!   enter ─┬─ it is allowed now
//!          ├─ a place at the end of the line ── ask, when its timer or its bell rings ──> its turn
//!          │      └─ leave: those behind it come sooner
//!          └─ the line is too long
//! ```
//!
//! A turn is charged when it comes and not when somebody begins to wait for it: clients that have
//! had enough and come again would otherwise leave behind them turns that nobody takes, until there
//! is none left for anybody else.
//!
//! Each who waits has a timer for its turn, as it was when the timer was set. It can only come
//! sooner, so it is enough that the bell of the first in line rings when it does. Whoever asks has
//! all those served whose turn it is: a worker that is held up holds up nobody of another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidewire_runtime::rate::{Meter, Pace};
use tokio::sync::Notify;

/// What has come at a pace, and who waits for its turn.
#[derive(Debug, Default)]
pub struct Turns {
    meter: Meter,
    /// Boxed, and `None` when nobody waits: there is one of these for each address. No longer than
    /// what the pace lets through within the longest wait.
    #[expect(clippy::box_collection, reason = "a pointer, where nearly nobody has a line")]
    line: Option<Box<VecDeque<Waiter>>>,
}

/// One who waits.
#[derive(Debug)]
struct Waiter {
    /// In order from front to back.
    ticket: u64,
    /// When its timer rings.
    timer: u64,
    bell: Arc<Bell>,
}

/// A place in a line.
#[derive(Debug)]
pub struct Place {
    ticket: u64,
    bell: Arc<Bell>,
}

/// What tells somebody that its turn has come, or comes sooner.
#[derive(Debug, Default)]
struct Bell {
    has_turn: AtomicBool,
    rings: Notify,
}

impl Turns {
    /// Takes a turn if there is one now, and otherwise a place in the line, if its turn comes within
    /// `wait`.
    ///
    /// # Errors
    /// How long until there is such a place.
    pub fn enter(
        &mut self,
        pace: &Pace,
        wait: Duration,
        now: u64,
    ) -> Result<Option<Place>, Duration> {
        self.serve(pace, now);
        let ahead = self.line.as_ref().map_or(0, |line| line.len());
        let turn = self.meter.wait_behind(pace, ahead as u64, now);
        if turn.is_zero() {
            self.meter.charge(pace, 1, now);
            return Ok(None);
        }
        if turn > wait {
            return Err(turn - wait);
        }
        let line = self.line.get_or_insert_default();
        let ticket = line.back().map_or(0, |last| last.ticket + 1);
        let bell = Arc::<Bell>::default();
        line.push_back(Waiter { ticket, timer: after(now, turn), bell: Arc::clone(&bell) });
        Ok(Some(Place { ticket, bell }))
    }

    /// How long it is until the turn of `place`, for a timer. `None` when it has come.
    pub fn ask(&mut self, pace: &Pace, place: &Place, now: u64) -> Option<Duration> {
        self.serve(pace, now);
        let index = self.index(place)?;
        let turn = self.meter.wait_behind(pace, index as u64, now);
        let waiter = self.line.as_mut()?.get_mut(index)?;
        waiter.timer = after(now, turn);
        Some(turn)
    }

    /// Gives `place` up, and the turn that it may have had: it is for the next.
    pub fn leave(&mut self, pace: &Pace, place: &Place, now: u64) {
        match self.index(place) {
            Some(index) => {
                self.line.as_mut().and_then(|line| line.remove(index));
                self.serve(pace, now);
            }
            None => self.refund(pace, now),
        }
    }

    /// Takes a turn back that came to nothing.
    pub fn refund(&mut self, pace: &Pace, now: u64) {
        self.meter.refund(pace, 1);
        self.serve(pace, now);
    }

    /// How long until all that has come is paid for.
    pub fn debt(&self, now: u64) -> Duration {
        self.meter.debt(now)
    }

    pub fn has_waiters(&self) -> bool {
        self.line.is_some()
    }

    fn index(&self, place: &Place) -> Option<usize> {
        // Its ticket may be somebody else's by then.
        let line = self.line.as_ref().filter(|_| !place.has_turn())?;
        line.binary_search_by_key(&place.ticket, |waiter| waiter.ticket).ok()
    }

    /// Gives those their turn who have it by now, and has the next one hear when its own comes
    /// sooner than its timer says.
    fn serve(&mut self, pace: &Pace, now: u64) {
        let Some(line) = &mut self.line else { return };
        let mut turn = self.meter.wait(pace, now);
        while turn.is_zero()
            && let Some(waiter) = line.pop_front()
        {
            // As of the time when it was due: that timers are late costs the line no turns.
            self.meter.charge(pace, 1, 0);
            waiter.bell.has_turn.store(true, Ordering::Relaxed);
            waiter.bell.rings.notify_one();
            turn = self.meter.wait(pace, now);
        }
        match line.front_mut() {
            None => self.line = None,
            Some(first) if after(now, turn) < first.timer => {
                first.timer = after(now, turn);
                first.bell.rings.notify_one();
            }
            Some(_) => {}
        }
    }
}

impl Place {
    /// Waits until the bell rings.
    pub async fn ring(&self) {
        self.bell.rings.notified().await;
    }

    /// Only to be relied on by who has the [`Turns`] to itself.
    fn has_turn(&self) -> bool {
        self.bell.has_turn.load(Ordering::Relaxed)
    }
}

fn after(now: u64, turn: Duration) -> u64 {
    now.saturating_add(u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
