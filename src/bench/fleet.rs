//! Opening many connections, counting those that fail, and having the files for them.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Client, ClientError};
use super::target::Target;

/// Connections that opened, in the order of their numbers, and how the others failed.
pub struct Fleet {
    pub clients: Vec<Client>,
    pub failures: Failures,
}

/// Failures counted by reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Failures {
    pub count: usize,
    /// The first reason, in the order of time, and how many failures had it.
    pub first_reason: Option<String>,
    pub first_reason_count: usize,
}

impl Fleet {
    /// Opens connections `0..count`, at most `concurrency` at a time. Gives up when
    /// `HOPELESS_FAILURES` fail in a row before any has opened.
    pub async fn open(target: &Arc<Target>, count: usize, concurrency: usize) -> Self {
        let permits = Arc::new(Semaphore::new(concurrency.max(1)));
        let mut opening = JoinSet::new();
        let mut opened = HashMap::with_capacity(count);
        let mut failures = Failures::default();
        for number in 0..count {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("never closed");
            let target = Arc::clone(target);
            opening.spawn(async move {
                let client = Client::open(&target, number).await;
                drop(permit);
                (number, client)
            });
            while let Some(done) = opening.try_join_next() {
                sort(done, &mut opened, &mut failures);
            }
            if opened.is_empty() && failures.count >= HOPELESS_FAILURES {
                break;
            }
        }
        while let Some(done) = opening.join_next().await {
            sort(done, &mut opened, &mut failures);
        }
        let mut clients: Vec<_> = opened.into_iter().collect();
        clients.sort_unstable_by_key(|(number, _)| *number);
        Self { clients: clients.into_iter().map(|(_, client)| client).collect(), failures }
    }
}

type Opened = Result<(usize, Result<Client, ClientError>), tokio::task::JoinError>;

fn sort(done: Opened, opened: &mut HashMap<usize, Client>, failures: &mut Failures) {
    match done.expect("opening does not panic") {
        (number, Ok(client)) => {
            opened.insert(number, client);
        }
        (_, Err(error)) => failures.add(&error),
    }
}

impl Failures {
    pub fn add(&mut self, error: &ClientError) {
        let reason = error.to_string();
        self.count += 1;
        let first = self.first_reason.get_or_insert_with(|| reason.clone());
        self.first_reason_count += usize::from(*first == reason);
    }

    /// Adds those of a later stretch.
    pub fn merge(&mut self, later: &Self) {
        self.count += later.count;
        if self.first_reason.is_none() {
            self.first_reason.clone_from(&later.first_reason);
        }
        if self.first_reason == later.first_reason {
            self.first_reason_count += later.first_reason_count;
        }
    }

    /// A warning about `what`, such as "of 100 connections did not open".
    pub fn warning(&self, what: &str) -> Option<String> {
        let reason = self.first_reason.as_ref()?;
        let others = match self.count - self.first_reason_count {
            0 => String::new(),
            others => format!(", and {others} for other reasons"),
        };
        let hint = if reason.contains("os error 99") { PORTS_HINT } else { "" };
        Some(format!("{} {what}: {reason}{others}{hint}", self.count))
    }
}

/// Raises the soft limit of open files to the hard one, and says so if that is not enough.
pub fn allow_open_files(connections: usize) -> Option<String> {
    let needed = connections as u64 + FILES_BESIDES_CONNECTIONS;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let allowed = allowed.filter(|allowed| *allowed < needed)?;
    Some(format!(
        "{connections} connections need {needed} open files and {allowed} are allowed; raise the \
         hard limit, as with `ulimit -Hn {needed}` by root"
    ))
}

const HOPELESS_FAILURES: usize = 50;
/// Standard streams, the reactor's own, /proc files.
const FILES_BESIDES_CONNECTIONS: u64 = 32;
const PORTS_HINT: &str = " (no local port is free: give more addresses with --source)";
