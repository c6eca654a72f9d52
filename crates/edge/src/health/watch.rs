//! Probes every server that is to be probed, for as long as the node runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::machine::{Found, Machine, Pace, Verdict};
use super::{Answer, CheckConfig, ProbeError, probe};
use crate::backend::Backend;
use crate::server::{Server, ServerId};
use crate::server_state::{Health, Operator, Wanted};

/// Starts the probes of all `backends` on the control plane.
pub fn spawn(backends: &[Arc<Backend>], control: &Handle) -> Vec<JoinHandle<()>> {
    backends.iter().map(|backend| control.spawn(keep(Arc::clone(backend)))).collect()
}

/// Has each server of `backend` probed that is to be, as long as it is one of its servers.
async fn keep(backend: Arc<Backend>) {
    let mut probes = JoinSet::new();
    let mut probed: HashMap<ServerId, AbortHandle> = HashMap::new();
    loop {
        let changed = backend.changed.notified();
        let servers = backend.servers();
        probed.retain(|id, probe| {
            let stays = servers.iter().any(|server| server.id == *id && server.is_checked());
            if !stays {
                probe.abort();
            }
            stays
        });
        for server in servers.iter().filter(|server| server.is_checked()) {
            let watch = || probes.spawn(watch(Arc::clone(&backend), Arc::clone(server)));
            probed.entry(server.id).or_insert_with(watch);
        }
        changed.await;
        while probes.try_join_next().is_some() {}
    }
}

/// Probes `server` for as long as it is polled.
pub async fn watch(backend: Arc<Backend>, server: Arc<Server>) {
    let check = &backend.check;
    let pace = pace(check);
    let mut wanted = server.status.wanted();
    // Of these the machine knows. It may not be the first to probe this server.
    // Copied: while it is borrowed, nobody can be told of anything, whoever holds the facts.
    let now = *wanted.borrow_and_update();
    let (mut doubts, known) = match now {
        Wanted { operator: Operator::Maintenance, .. } => (0, Health::Up),
        Wanted { doubts, .. } => (doubts, server.status.facts().health),
    };
    let verdict = match known {
        Health::Up => Verdict::Up,
        Health::Drain(_) => Verdict::Drain,
        Health::Down(_) => Verdict::Down,
    };
    let mut machine = Machine::going_on(verdict, check.rise, check.fall);
    if wanted.borrow().operator != Operator::Maintenance && verdict != Verdict::Down {
        // Spread over the interval, so that many servers are not probed in one burst.
        let wait = pace.settled.mul_f64(fastrand::f64() / 4.0);
        let _ = tokio::time::timeout(wait, until_doubted(&mut wanted, doubts)).await;
    }
    loop {
        let known = until_probed(&mut wanted).await;
        if known != doubts {
            doubts = known;
            machine = Machine::after_maintenance(check.rise, check.fall);
        }
        let start = Instant::now();
        let result = tokio::select! {
            biased;
            () = until_doubted(&mut wanted, doubts) => continue,
            result = probe(&backend, &server) => result,
        };
        note(&backend, &server, &mut machine, result, start.elapsed());
        let wait = varied(machine.wait(&pace), check.spread.factor(), fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep_until(start + wait) => {}
            () = until_doubted(&mut wanted, doubts) => {}
        }
    }
}

/// Takes note of what a probe has found.
fn note(
    backend: &Arc<Backend>,
    server: &Server,
    machine: &mut Machine,
    result: Result<Answer, ProbeError>,
    took: Duration,
) {
    let counts = &server.counts;
    counts.checks.fetch_add(1, Ordering::Relaxed);
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    counts.check_microseconds.fetch_add(microseconds, Ordering::Relaxed);
    let (found, why) = match result {
        Ok(Answer::Well) => (Found::Well, String::new()),
        Ok(Answer::Drain(why)) => (Found::Drain, why),
        Err(error) if error.is_for_want_of_ports() => return,
        Err(error) => {
            counts.check_failures.fetch_add(1, Ordering::Relaxed);
            (Found::Ill, error.to_string())
        }
    };
    if !machine.record(found) {
        if found == Found::Ill && machine.verdict() == Verdict::Down {
            backend.learn_why_down(server, why);
        }
        return;
    }
    let health = match machine.verdict() {
        Verdict::Up => Health::Up,
        Verdict::Drain => Health::Drain(why),
        Verdict::Down => {
            counts.check_downs.fetch_add(1, Ordering::Relaxed);
            Health::Down(why)
        }
    };
    // Whoever is not probed any more is up, whatever the last probe says.
    backend.learn(server, |facts| {
        if server.is_checked() {
            facts.health = health;
        }
    });
}

/// Waits while the operator wants no probes: how many doubts there were.
async fn until_probed(wanted: &mut watch::Receiver<Wanted>) -> u32 {
    // The sender is the server, which is there.
    let _ = wanted.wait_for(|it| it.operator != Operator::Maintenance).await;
    wanted.borrow().doubts
}

/// Waits for a doubt after as many, also if it is over by then.
async fn until_doubted(wanted: &mut watch::Receiver<Wanted>, known: u32) {
    let _ = wanted.wait_for(|it| it.doubts != known).await;
}

fn pace(check: &CheckConfig) -> Pace {
    let settled = check.interval;
    Pace {
        settled: settled.0,
        fast: check.fast_interval.unwrap_or(settled).0,
        down: check.down_interval.unwrap_or(settled).0,
    }
}

/// Up to `spread` more or less than `time`; `chance` is from 0 to 1.
fn varied(time: Duration, spread: f64, chance: f64) -> Duration {
    time.mul_f64(1.0 + spread * (2.0 * chance - 1.0)).max(LEAST)
}

/// Between the starts of two probes, whatever is configured and whatever chance says.
const LEAST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_vary_around_what_they_are_set_to() {
        let varied = |spread, chance| varied(Duration::from_secs(10), spread, chance).as_millis();
        assert_eq!([varied(0.1, 0.0), varied(0.1, 0.5), varied(0.1, 1.0)], [9_000, 10_000, 11_000]);
        assert_eq!(varied(0.0, 0.3), 10_000);
        assert_eq!(varied(1.0, 0.0), LEAST.as_millis());
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
    }

    /// A probed server that is there, under the state that its operator begins with.
    fn probed(
        listener: &std::net::TcpListener,
        state: &str,
        interval: &str,
    ) -> (Arc<Backend>, Arc<Server>) {
        let config = serde_json::json!({
            "name": "nodes",
            "server": [{ "name": "a", "address": listener.local_addr().unwrap().to_string(),
                         "check": true, "state": state }],
            "check": { "interval": interval, "rise": 3, "fall": 3 },
        });
        let config = serde_json::from_value(config).unwrap();
        let backend = Arc::new(Backend::new(0, &config, &Default::default()));
        let server = Arc::clone(&backend.servers()[0]);
        (backend, server)
    }

    #[tokio::test]
    async fn a_maintenance_that_is_over_at_once_is_followed_by_a_probe() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (backend, server) = probed(&listener, "ready", "20ms");
        tokio::spawn(keep(Arc::clone(&backend)));
        let checks = || server.counts.checks.load(Ordering::Relaxed);
        until("it is probed", || checks() > 0).await;
        for _ in 0..3 {
            backend.set_operator(&server, Operator::Maintenance);
            backend.set_operator(&server, Operator::Ready);
            assert!(!server.is_up(), "nobody knows whether it is there");
            let before = checks();
            until("it is up again", || server.is_up()).await;
            assert_eq!(checks(), before + 1, "one good probe is enough");
        }
    }

    #[tokio::test]
    async fn a_server_that_begins_in_maintenance_is_probed_after_it_and_one_that_is_gone_never() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (backend, server) = probed(&listener, "maintenance", "1h");
        let keeper = tokio::spawn(keep(Arc::clone(&backend)));
        let checks = || server.counts.checks.load(Ordering::Relaxed);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(checks(), 0);
        backend.set_operator(&server, Operator::Drain);
        // At once, each time: the next one of those that come by the clock would be in an hour.
        for count in 1..4 {
            until("it is probed", || checks() == count).await;
            assert_eq!(server.status.facts().health, Health::Up);
            backend.set_operator(&server, Operator::Maintenance);
            backend.set_operator(&server, Operator::Ready);
        }
        // There is this one, and that of the backend, which knows it for when it comes back.
        backend.set_servers(&[]);
        until("its probe ends", || Arc::strong_count(&server) == 2).await;
        keeper.abort();
    }

    #[tokio::test]
    async fn a_server_that_was_away_is_probed_again_at_once_and_one_that_is_edited_goes_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (backend, server) = probed(&listener, "ready", "20ms");
        let other = serde_json::json!({ "name": "b", "address": "127.0.0.1:1" });
        let list = |check: bool| {
            let address = listener.local_addr().unwrap().to_string();
            let server = serde_json::json!({ "name": "a", "address": address, "check": check });
            [server, other.clone()].map(|server| serde_json::from_value(server).unwrap())
        };
        tokio::spawn(keep(Arc::clone(&backend)));
        let checks = || server.counts.checks.load(Ordering::Relaxed);
        until("it is probed", || checks() > 0).await;
        // With and without its probe having been ended meanwhile.
        for turns in [0, 10] {
            backend.set_servers(&[serde_json::from_value(other.clone()).unwrap()]);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            backend.set_servers(&list(true));
            assert!(!server.is_up(), "nobody knows whether it is there");
            until("it is up again", || server.is_up()).await;
        }
        backend.learn(&server, |facts| facts.health = Health::Down("ill".into()));
        backend.set_servers(&list(false));
        until("its probe ends", || Arc::strong_count(&server) == 2).await;
        assert!(server.is_up(), "who is not probed is up");
        let before = checks();
        backend.set_servers(&list(true));
        assert!(server.is_up(), "it was there");
        until("it is probed", || checks() > before).await;
    }
}
