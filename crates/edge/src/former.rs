//! Servers of a backend that are not listed any more, for when they are again: a name that has no
//! records for a moment must not make strangers of servers and their clients. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::{Server, ServerConfig};

/// Servers that were listed: all that have clients, and the others for a while.
#[derive(Debug, Default)]
pub struct Former {
    /// With when each was left out.
    servers: Vec<(Arc<Server>, Instant)>,
}

impl Former {
    /// Takes a server that is not listed any more.
    pub fn keep(&mut self, server: Arc<Server>, now: Instant) {
        self.servers.push((server, now));
    }

    /// Gives the server back that is listed again, by this.
    pub fn take_back(&mut self, config: &ServerConfig, now: Instant) -> Option<Arc<Server>> {
        let is_it = |(server, since): &(Arc<Server>, Instant)| {
            server.is_of(config) && is_kept(server, *since, now)
        };
        let index = self.servers.iter().position(is_it)?;
        Some(self.servers.remove(index).0)
    }

    /// Forgets those that have been away for long without clients, and of too many the oldest.
    pub fn forget(&mut self, now: Instant) {
        self.servers.retain(|(server, since)| is_kept(server, *since, now));
        let empty = self.servers.iter().filter(|(server, _)| server.current() == 0).count();
        let mut too_many = empty.saturating_sub(EMPTY_MAX);
        self.servers.retain(|(server, _)| {
            let goes = too_many > 0 && server.current() == 0;
            too_many -= usize::from(goes);
            !goes
        });
    }
}

fn is_kept(server: &Server, since: Instant, now: Instant) -> bool {
    server.current() > 0 || now.saturating_duration_since(since) < KEPT
}

/// How long one without clients is kept. Not for ever: addresses are given to others, and what an
/// operator has said of one is not to be true of the next.
const KEPT: Duration = Duration::from_secs(600);

/// Most of those without clients.
const EMPTY_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, address: &str) -> ServerConfig {
        serde_json::from_value(serde_json::json!({ "name": name, "address": address })).unwrap()
    }

    fn server(name: &str) -> Arc<Server> {
        Arc::new(Server::new(&config(name, "10.0.0.1:80"), Duration::ZERO))
    }

    #[test]
    fn one_is_kept_for_a_while_and_while_it_has_clients() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut former = Former::default();
        let [empty, full] = ["empty", "full"].map(server);
        full.take();
        for server in [&empty, &full] {
            former.keep(Arc::clone(server), start);
        }
        assert!(former.take_back(&config("full", "10.0.0.2:80"), at(1)).is_none());
        former.forget(at(599));
        assert!(former.take_back(&config("empty", "10.0.0.1:80"), at(599)).is_some());
        assert!(former.take_back(&config("empty", "10.0.0.1:80"), at(599)).is_none());
        former.keep(empty, at(599));
        former.forget(at(1199));
        assert!(former.take_back(&config("empty", "10.0.0.1:80"), at(1199)).is_none());
        let back = former.take_back(&config("full", "10.0.0.1:80"), at(100_000)).unwrap();
        assert!(Arc::ptr_eq(&back, &full));
    }

    #[test]
    fn of_too_many_without_clients_the_oldest_are_forgotten() {
        let now = Instant::now();
        let mut former = Former::default();
        let full = server("full");
        full.take();
        former.keep(full, now);
        for number in 0..EMPTY_MAX + 2 {
            former.keep(server(&number.to_string()), now);
        }
        former.forget(now);
        let mut is_there =
            |name: &str| former.take_back(&config(name, "10.0.0.1:80"), now).is_some();
        assert_eq!(["full", "0", "1", "2"].map(&mut is_there), [true, false, false, true]);
    }
}
