//! What probes add up to. Pure.
//!
//! ```text
//!         ┌──────── Drain ───────┐
//!   Up ───┤ <─────── Well ────── ├─ Drain      the server says so: at once
//!    └────┴── Ill, fall in a row ┴──> Down
//!   Down ── Well or Drain, rise in a row ──> Up or Drain, as the last of them says
//! ```

use std::time::Duration;

/// What a probe has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Well,
    /// The server answers, and says that it wants no new clients.
    Drain,
    Ill,
}

/// What the probes of a server have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Up,
    Drain,
    Down,
}

/// The state of one server as its probes see it, and how far towards a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    rise: u32,
    fall: u32,
    verdict: Verdict,
    /// Results in a row that speak against the present state.
    against: u32,
}

/// The times between probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub settled: Duration,
    /// While results speak against the present state.
    pub fast: Duration,
    /// While the server is down for sure.
    pub down: Duration,
}

impl Machine {
    /// A server is taken for up until `fall` probes in a row have failed; then for down until
    /// `rise` in a row have succeeded.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), verdict: Verdict::Up, against: 0 }
    }

    /// Of a server whose maintenance is over, or that has just come: it is down until the first probe
    /// succeeds, since nobody knows whether it has been started.
    pub fn after_maintenance(rise: u32, fall: u32) -> Self {
        let machine = Self::new(rise, fall);
        Self { verdict: Verdict::Down, against: machine.rise - 1, ..machine }
    }

    /// Of a server that was probed before, and found to be this.
    pub fn going_on(verdict: Verdict, rise: u32, fall: u32) -> Self {
        match verdict {
            Verdict::Down => Self::after_maintenance(rise, fall),
            verdict => Self { verdict, ..Self::new(rise, fall) },
        }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes a probe's result; true when the verdict has changed by it.
    pub fn record(&mut self, found: Found) -> bool {
        let said = match found {
            Found::Well => Verdict::Up,
            Found::Drain => Verdict::Drain,
            Found::Ill => Verdict::Down,
        };
        let needed = match (self.verdict, said) {
            (before, said) if before == said => {
                self.against = 0;
                return false;
            }
            (Verdict::Down, _) => self.rise,
            (_, Verdict::Down) => self.fall,
            // Its own word for it is as good as it gets.
            _ => 1,
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        self.verdict = said;
        self.against = 0;
        true
    }

    /// The time from the start of the last probe to that of the next one.
    pub fn wait(&self, pace: &Pace) -> Duration {
        match self.verdict {
            _ if self.against > 0 => pace.fast,
            Verdict::Down => pace.down,
            Verdict::Up | Verdict::Drain => pace.settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut machine: Machine, probes: &str) -> String {
        let result = |probe| {
            machine.record(match probe {
                '+' => Found::Well,
                '~' => Found::Drain,
                _ => Found::Ill,
            });
            match machine.verdict() {
                Verdict::Up => 'U',
                Verdict::Drain => 'D',
                Verdict::Down => 'd',
            }
        };
        probes.chars().map(result).collect()
    }

    /// `+`, `~` and `-` are probes: well, drain, ill; the result shows the state after each.
    fn check(rise: u32, fall: u32, probes: &str, expected: &str) {
        let found = run(Machine::new(rise, fall), probes);
        assert_eq!(found, expected, "rise {rise}, fall {fall}, {probes}");
    }

    #[test]
    fn only_results_in_a_row_change_the_state() {
        check(2, 3, "---++", "UUddU");
        check(2, 3, "--+--+", "UUUUUU");
        check(2, 3, "---+-+-++", "UUddddddU");
        check(1, 1, "-+-+", "dUdU");
        check(0, 0, "-+", "dU");
    }

    #[test]
    fn a_server_drains_at_once_and_is_back_at_once() {
        check(2, 3, "~+~~+", "DUDDU");
        check(2, 3, "~--~---", "DDDDDDd");
        // Who says that it drains is not taken for up when it comes back.
        check(2, 1, "-~~+", "ddDU");
        check(2, 1, "-~+", "ddU");
        check(2, 1, "-~-+~", "ddddD");
        check(2, 2, "-~--", "UDDd");
    }

    #[test]
    fn after_maintenance_one_good_probe_is_enough_and_none_is_not() {
        assert_eq!(run(Machine::after_maintenance(3, 3), "+"), "U");
        assert_eq!(run(Machine::after_maintenance(3, 3), "-+++"), "dddU");
        assert_eq!(run(Machine::after_maintenance(3, 3), "~"), "D");
    }

    #[test]
    fn who_is_probed_again_is_what_it_was_found_to_be() {
        let run = |verdict, probes| run(Machine::going_on(verdict, 2, 2), probes);
        assert_eq!(run(Verdict::Up, "-+--"), "UUUd");
        assert_eq!(run(Verdict::Drain, "-~--"), "DDDd");
        assert_eq!(run(Verdict::Down, "+"), "U");
    }

    #[test]
    fn probes_come_faster_while_something_changes_and_slower_when_it_is_down() {
        let pace = Pace {
            settled: Duration::from_secs(2),
            fast: Duration::from_secs(1),
            down: Duration::from_secs(9),
        };
        let mut machine = Machine::new(2, 2);
        let mut waits = Vec::new();
        for found in [Found::Well, Found::Ill, Found::Ill, Found::Well, Found::Well, Found::Drain] {
            machine.record(found);
            waits.push(machine.wait(&pace).as_secs());
        }
        assert_eq!(waits, [2, 1, 9, 1, 2, 2]);
    }
}
