//! What probes add up to. Pure.

/// The state of one server as its probes see it: up or down, and how far towards a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// Results in a row that speak against the present state.
    against: u32,
}

impl Machine {
    /// A server is taken for up until `fall` probes in a row have failed; then for down until
    /// `rise` in a row have succeeded.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), is_up: true, against: 0 }
    }

    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Takes a probe's result; true when the state has changed by it.
    pub fn record(&mut self, is_success: bool) -> bool {
        if is_success == self.is_up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if self.is_up { self.fall } else { self.rise };
        if self.against < needed {
            return false;
        }
        self.is_up = is_success;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are probes; the result shows the state after each.
    fn check(rise: u32, fall: u32, probes: &str, expected: &str) {
        let mut machine = Machine::new(rise, fall);
        let states: String = probes
            .chars()
            .map(|probe| {
                machine.record(probe == '+');
                if machine.is_up() { 'U' } else { 'd' }
            })
            .collect();
        assert_eq!(states, expected, "rise {rise}, fall {fall}, {probes}");
    }

    #[test]
    fn only_results_in_a_row_change_the_state() {
        check(2, 3, "---++", "UUddU");
        check(2, 3, "--+--+", "UUUUUU");
        check(2, 3, "---+-+-++", "UUddddddU");
        check(1, 1, "-+-+", "dUdU");
        check(0, 0, "-+", "dU");
    }
}
