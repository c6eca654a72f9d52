//! Whether a server takes clients: what its probes say, what its answers say, what its operator
//! says, and what follows from all three.
//!
//! ```text
//!   operator \ found out   up      drain    ejected   down
//!   ready                  up      drain    ejected   down
//!   drain                  drain   drain    ejected   down
//!   maintenance            ------------ maintenance ------------
//! ```
//!
//! Each column and each row takes away, none gives back: that is all there is to it, so the order
//! in which things happen does not matter.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// It takes clients, as far as it is well.
    #[default]
    Ready,
    /// It takes no new clients, only those that stick to it; who is there stays.
    Drain,
    /// It takes nobody and is not probed. Who is there stays, unless `on_down` says otherwise.
    Maintenance,
}

/// What probes have found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Well, or never asked.
    #[default]
    Up,
    /// It has said itself that it wants no new clients.
    Drain(String),
    /// It does not answer as it should; why.
    Down(String),
}

/// All that is known of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub operator: Operator,
    pub health: Health,
    /// Why it gets no clients for a while, though its probes are well.
    pub ejected: Option<String>,
}

/// Why a checked server that has come while the edge runs is down.
pub const NOT_PROBED: &str = "not probed yet";

/// What follows from all that is known. To add one: a variant, its word, its place in `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    Up,
    Drain,
    Ejected,
    Down,
    Maintenance,
}

impl State {
    pub const ALL: [State; 5] =
        [Self::Up, Self::Drain, Self::Ejected, Self::Down, Self::Maintenance];

    /// Its name in logs, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Maintenance => "maintenance",
        }
    }

    /// Whether a new client may get the server.
    pub fn takes_new(self) -> bool {
        self == Self::Up
    }

    /// Whether a client that sticks to the server may get it.
    pub fn takes_stuck(self) -> bool {
        matches!(self, Self::Up | Self::Drain)
    }

    /// Whether those who are there have no future there: `on_down` is for them.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Maintenance)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Facts {
    /// What follows.
    pub fn state(&self) -> State {
        match (self.operator, &self.health, &self.ejected) {
            (Operator::Maintenance, ..) => State::Maintenance,
            (_, Health::Down(_), _) => State::Down,
            (_, _, Some(_)) => State::Ejected,
            (Operator::Drain, ..) | (_, Health::Drain(_), _) => State::Drain,
            (Operator::Ready, Health::Up, None) => State::Up,
        }
    }

    /// Why that follows; empty when there is nothing to say.
    pub fn why(&self) -> &str {
        match (self.operator, &self.health, &self.ejected) {
            (Operator::Maintenance, ..) => BY_OPERATOR,
            (_, Health::Down(why), _) => why,
            (_, _, Some(why)) => why,
            (Operator::Drain, ..) => BY_OPERATOR,
            (_, Health::Drain(why), _) => why,
            (Operator::Ready, Health::Up, None) => "",
        }
    }
}

/// A server's facts, as workers and the control plane share them: workers read one byte.
#[derive(Debug)]
pub struct Status {
    state: AtomicU8,
    facts: Mutex<Facts>,
    /// Whoever waits for the operator, which is the server's probe.
    wanted: watch::Sender<Wanted>,
}

/// What the operator wants, for who waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub operator: Operator,
    /// How often what was found out has ceased to mean anything, as by each maintenance that begins:
    /// one may be over before anybody has seen it.
    pub doubts: u32,
}

/// What has become of a server by what was learned of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: State,
    pub after: State,
    pub why: String,
}

impl Status {
    pub fn new(operator: Operator) -> Self {
        let facts = Facts { operator, ..Facts::default() };
        let doubts = u32::from(operator == Operator::Maintenance);
        Self {
            state: AtomicU8::new(facts.state() as u8),
            facts: Mutex::new(facts),
            wanted: watch::Sender::new(Wanted { operator, doubts }),
        }
    }

    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Relaxed)).min(State::ALL.len() - 1)]
    }

    pub fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of something. `None` when nothing follows from it.
    pub fn learn(&self, note: impl FnOnce(&mut Facts)) -> Option<Change> {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = facts.state();
        note(&mut facts);
        let after = facts.state();
        // Still under the lock, so that the last to learn is the last to write.
        self.state.store(after as u8, Ordering::Relaxed);
        self.wanted.send_if_modified(|wanted| {
            let is_new = std::mem::replace(&mut wanted.operator, facts.operator) != facts.operator;
            wanted.doubts += u32::from(is_new && facts.operator == Operator::Maintenance);
            is_new
        });
        (before != after).then(|| Change { before, after, why: facts.why().to_owned() })
    }

    /// Has the server be down until a probe finds it well, as nobody knows what it is.
    pub fn doubt(&self) {
        self.learn(|facts| facts.health = Health::Down(NOT_PROBED.to_owned()));
        // After that: who sees this sees what it means.
        self.wanted.send_modify(|wanted| wanted.doubts += 1);
    }

    /// What the operator wants, now and whenever that changes.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        })
    }
}

const BY_OPERATOR: &str = "as its operator says";

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATORS: [Operator; 3] = [Operator::Ready, Operator::Drain, Operator::Maintenance];

    fn healths() -> [Health; 3] {
        [Health::Up, Health::Drain("404".into()), Health::Down("refused".into())]
    }

    fn facts(operator: Operator, health: &Health, is_ejected: bool) -> Facts {
        let ejected = is_ejected.then(|| "5 failures in a row".to_owned());
        Facts { operator, health: health.clone(), ejected }
    }

    #[test]
    fn the_table_is_as_it_is_drawn() {
        let row = |operator| {
            let ejected = facts(operator, &Health::Up, true).state();
            let [up, drain, down] = healths().map(|health| facts(operator, &health, false).state());
            [up, drain, ejected, down].map(State::as_str)
        };
        assert_eq!(row(Operator::Ready), ["up", "drain", "ejected", "down"]);
        assert_eq!(row(Operator::Drain), ["drain", "drain", "ejected", "down"]);
        assert_eq!(row(Operator::Maintenance), ["maintenance"; 4]);
    }

    #[test]
    fn who_is_down_or_in_maintenance_has_no_future_there() {
        let is_down = State::ALL.map(State::is_down);
        let expected = [State::Down, State::Maintenance];
        assert_eq!(is_down, State::ALL.map(|state| expected.contains(&state)));
    }

    #[test]
    fn nothing_that_speaks_against_a_server_gives_it_clients() {
        let takes = |facts: &Facts| (facts.state().takes_new(), facts.state().takes_stuck());
        for operator in OPERATORS {
            for health in healths() {
                let (new, stuck) = takes(&facts(operator, &health, false));
                assert!(!new || stuck, "who takes anybody takes who sticks to it");
                assert_eq!(takes(&facts(operator, &health, true)), (false, false));
                let ready = takes(&facts(Operator::Ready, &health, false));
                assert!(new <= ready.0 && stuck <= ready.1);
                let up = takes(&facts(operator, &Health::Up, false));
                assert!(new <= up.0 && stuck <= up.1);
            }
        }
        assert_eq!(takes(&Facts::default()), (true, true));
    }

    #[test]
    fn every_state_that_is_not_up_says_why() {
        for operator in OPERATORS {
            for health in healths() {
                for is_ejected in [false, true] {
                    let facts = facts(operator, &health, is_ejected);
                    assert_eq!(facts.state() == State::Up, facts.why().is_empty(), "{facts:?}");
                }
            }
        }
    }

    #[test]
    fn what_changes_nothing_is_no_change_and_is_kept() {
        let status = Status::new(Operator::Drain);
        assert_eq!(status.state(), State::Drain);
        assert_eq!(status.learn(|facts| facts.health = Health::Drain("404".into())), None);
        let change = status.learn(|facts| facts.operator = Operator::Maintenance).unwrap();
        assert_eq!((change.before, change.after), (State::Drain, State::Maintenance));
        let wanted = Wanted { operator: Operator::Maintenance, doubts: 1 };
        assert_eq!(*status.wanted().borrow(), wanted);
        let change = status.learn(|facts| facts.operator = Operator::Ready).unwrap();
        assert_eq!((change.after, change.why.as_str()), (State::Drain, "404"));
        assert_eq!(status.state(), State::Drain);
    }
}
