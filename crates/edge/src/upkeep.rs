//! What becomes of a server by what is learned of it: a line in the log, and clients that wait look
//! again.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::backend::Backend;
use crate::server::Server;
use crate::server_state::{Change, Facts, Health, NOT_PROBED, Operator, State};

impl Backend {
    /// Takes note of something about `server`. True when its state has changed by it.
    pub fn learn(self: &Arc<Self>, server: &Server, note: impl FnOnce(&mut Facts)) -> bool {
        let Some(change) = server.status.learn(note) else { return false };
        self.tell(server, &change);
        if change.before.takes_new() {
            self.end_needless_ejections();
        }
        // One that has only drained was there all the time, and is warm.
        if change.after == State::Up && change.before != State::Drain {
            server.weight.start_slowly(Instant::now());
        }
        self.look_again();
        self.moving.note_change();
        true
    }

    /// Takes note of why a checked `server` that is down still is.
    pub fn learn_why_down(&self, server: &Server, why: String) {
        let is_first = server.status.facts().health == Health::Down(NOT_PROBED.to_owned());
        server.status.learn(|facts| {
            if matches!(facts.health, Health::Down(_)) {
                facts.health = Health::Down(why);
            }
        });
        // Whoever has come is not said to be down before it is known to be.
        if is_first && server.status.state() == State::Down {
            let why = server.status.facts().why().to_owned();
            self.tell(server, &Change { before: State::Down, after: State::Down, why });
        }
    }

    /// Does as the operator says. What was found out before a maintenance means nothing after it.
    pub fn set_operator(self: &Arc<Self>, server: &Server, operator: Operator) -> bool {
        self.learn(server, |facts| {
            let was = std::mem::replace(&mut facts.operator, operator);
            if was == Operator::Maintenance && operator != was && server.is_checked() {
                facts.health = Health::Down("not probed since its maintenance".to_owned());
            }
            if operator != Operator::Drain {
                facts.ejected = None;
            }
        })
    }

    /// Sets the weight of `server`, until its configuration has another one.
    pub fn set_weight(self: &Arc<Self>, server: &Server, weight: u16) {
        server.weight.set(weight);
        self.end_needless_ejections();
        self.look_again();
        self.moving.note_change();
    }

    fn tell(&self, server: &Server, change: &Change) {
        let (backend, server, was) = (&self.name, &server.name, change.before.as_str());
        let why = &change.why;
        match change.after {
            State::Up => info!(backend, server, was, "server is up"),
            State::Drain => info!(backend, server, was, why, "server drains"),
            State::Ejected => warn!(backend, server, was, why, "server is ejected"),
            State::Down => warn!(backend, server, was, why, "server is down"),
            State::Maintenance => info!(backend, server, was, why, "server is in maintenance"),
        }
    }
}
