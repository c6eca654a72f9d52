//! The Autobahn test suite, run by `kosoku`, against the hub: directly, and through the edge.
//!
//! Groups 12 and 13 are about compression, which the hub does not offer.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidewire_testkit::child::Child;
use tidewire_testkit::deadline::until_within;
use tidewire_testkit::python;
use tidewire_testkit::tidewire::{Tidewire, edge};

/// Each group of cases, and how many the suite has in it: 301 of its 517.
const GROUPS: [(&str, usize); 9] = [
    ("1", 16),
    ("2", 11),
    ("3", 7),
    ("4", 10),
    ("5", 20),
    ("6", 145),
    ("7", 37),
    ("9", 54),
    ("10", 1),
];

/// The cases whose outcome the suite itself leaves open, so that no server can fail them, and the
/// close code that the hub answers: a Close behind messages that were not echoed yet, and Closes
/// with codes that do not exist.
const INFORMATIONAL: [(&str, u16); 3] = [("7.1.6", 1000), ("7.13.1", 1002), ("7.13.2", 1002)];

/// The cases in which a good message comes right before a bad frame. The edge sees the frame before
/// the hub has answered the message, and closes: early, as the suite says, and with the right code.
const EARLY: [&str; 10] =
    ["3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"];

#[test]
fn the_hub_passes_every_case() {
    let Some(suite) = Suite::install() else { return };
    let node = Tidewire::run(HUB);
    suite.check(node.address(), &[]);
}

#[test]
fn the_hub_behind_the_edge_passes_every_case() {
    let Some(suite) = Suite::install() else { return };
    let node = Tidewire::run(HUB);
    let edge = Tidewire::run(&edge(&[node.address()], ""));
    suite.check(edge.address(), &EARLY);
}

/// What the strict profile refuses of what the suite says: more than 1 MiB. These are 4, 8 and 16 MiB
/// in one frame (9.1 as text, 9.2 as bytes), and 4 MiB in fragments, be they of 64 bytes or of all of
/// it (9.3, 9.4). What has 1 MiB passes, in one frame (9.1.3, 9.2.3) and however it comes (9.5, 9.6).
const TOO_BIG: [&str; 24] = [
    "9.1.4", "9.1.5", "9.1.6", "9.2.4", "9.2.5", "9.2.6", "9.3.1", "9.3.2", "9.3.3", "9.3.4",
    "9.3.5", "9.3.6", "9.3.7", "9.3.8", "9.3.9", "9.4.1", "9.4.2", "9.4.3", "9.4.4", "9.4.5",
    "9.4.6", "9.4.7", "9.4.8", "9.4.9",
];

#[test]
fn the_strict_profile_refuses_what_is_too_big_and_nothing_else() {
    let Some(suite) = Suite::install() else { return };
    let node = Tidewire::run(HUB);
    let edge = Tidewire::run(&edge(&[node.address()], STRICT));
    let verdicts = suite.run(edge.address(), &EARLY);
    let wrong: Vec<_> = verdicts.iter().filter(|(case, it)| !passes(case, it, &EARLY)).collect();
    let is_too_big = |it: &Verdict| it.close_code == Some(1009);
    let refused: Vec<&str> = wrong.iter().map(|(case, _)| case.as_str()).collect();
    assert_eq!(refused, TOO_BIG, "{wrong:#?}");
    assert!(wrong.iter().all(|(_, it)| is_too_big(it)), "{wrong:#?}");
}

/// Its rates are the one thing of it that the suite is not to feel: it is faster than any person.
const STRICT: &str = r#"
[limits]
profile = "strict"
client = { messages = "100000/s", bytes = "1GiB/s", control = "100000/s" }
server = { messages = "100000/s", control = "100000/s" }
per_address = { rate = "10000/s", requests = "10000/s" }
"#;

/// A hub that says everything back as it came, with room for the suite's 16 MiB messages, some of
/// them in fragments of 64 bytes.
const HUB: &str = r#"
[[listen]]
name = "node"
bind = "127.0.0.1:0"

[hub]
node = "server1"
max_message = "64MiB"
max_fragments = 1000000
queue = "256MiB"
broker_queue = "256MiB"
worker_queue = "256MiB"

[[route]]
path = "/ws/{topic}"
hub = { topic = "{topic}" }
"#;

/// The suite's program.
struct Suite {
    program: PathBuf,
}

/// The suite's verdict on a case, and the code of the Close that it got.
#[derive(Debug)]
struct Verdict {
    behavior: String,
    behavior_close: String,
    close_code: Option<u64>,
}

impl Suite {
    /// `None`, said aloud, when it cannot be installed.
    fn install() -> Option<Self> {
        let programs = python::install("kosoku", "kosoku==0.1.0")?;
        Some(Self { program: programs.join("kosoku") })
    }

    /// Every case of every group is there, and its verdict is OK, or INFORMATIONAL where the suite
    /// has no other, or NON-STRICT with 1002 where the end may come `early`.
    #[track_caller]
    fn check(&self, address: SocketAddr, early: &[&str]) {
        let verdicts = self.run(address, early);
        for (group, cases) in GROUPS {
            let prefix = format!("{group}.");
            let found = verdicts.keys().filter(|case| case.starts_with(&prefix)).count();
            assert_eq!(found, cases, "cases of group {group}");
        }
        assert_eq!(verdicts.len(), GROUPS.iter().map(|(_, cases)| cases).sum::<usize>());
        let wrong: Vec<_> = verdicts.iter().filter(|(case, it)| !passes(case, it, early)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Runs the cases and returns the verdicts. They share a topic, and so come one after the other;
    /// but of one that may end `early` the message can still be on its way when the next begins, so
    /// it has a topic of its own.
    #[track_caller]
    fn run(&self, address: SocketAddr, early: &[&str]) -> BTreeMap<String, Verdict> {
        let groups: Vec<_> = GROUPS.iter().map(|(group, _)| format!("{group}.*")).collect();
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        let alone = early.iter().map(|case| Run::start(self, address, case, &[case], &[]));
        let alone: Vec<_> = alone.collect();
        let mut verdicts = Run::start(self, address, "echo", &groups, early).verdicts();
        verdicts.extend(alone.into_iter().flat_map(Run::verdicts));
        verdicts
    }
}

/// The suite at work on some of its cases.
struct Run {
    suite: Child,
    report: TempDir,
}

impl Run {
    fn start(
        suite: &Suite,
        address: SocketAddr,
        topic: &str,
        cases: &[&str],
        but: &[&str],
    ) -> Self {
        let report = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(&suite.program);
        command.arg(format!("ws://{address}/ws/{topic}")).arg("--outdir").arg(report.path());
        command.args(cases.iter().flat_map(|case| ["--include", case]));
        command.args(but.iter().flat_map(|case| ["--exclude", case]));
        Self { suite: Child::spawn(command), report }
    }

    #[track_caller]
    fn verdicts(mut self) -> BTreeMap<String, Verdict> {
        let has_ended = || self.suite.has_ended().then_some(());
        until_within(SUITE_DEADLINE, "the suite ends", has_ended);
        let ended = self.suite.wait();
        let index = fs::read_to_string(self.report.path().join("index.json"));
        let index = index.unwrap_or_else(|error| panic!("no report, {error}: {ended:#?}"));
        verdicts(&index)
    }
}

/// The verdicts by case: the index has them by agent, and there is one.
fn verdicts(index: &str) -> BTreeMap<String, Verdict> {
    let index: Value = serde_json::from_str(index).expect("the report is JSON");
    let agents = index.as_object().expect("the report has agents");
    assert_eq!(agents.len(), 1, "{:?}", agents.keys());
    let cases = agents.values().filter_map(Value::as_object).flatten();
    cases.map(|(case, entry)| (case.clone(), Verdict::of(entry))).collect()
}

impl Verdict {
    fn of(entry: &Value) -> Self {
        let word = |key: &str| entry[key].as_str().expect("a verdict is a word").to_owned();
        Self {
            behavior: word("behavior"),
            behavior_close: word("behaviorClose"),
            close_code: entry["remoteCloseCode"].as_u64(),
        }
    }
}

fn passes(case: &str, verdict: &Verdict, early: &[&str]) -> bool {
    if early.contains(&case) && verdict.behavior == "NON-STRICT" {
        return verdict.behavior_close == "OK" && verdict.close_code == Some(1002);
    }
    let is_all = |word| verdict.behavior == word && verdict.behavior_close == word;
    match INFORMATIONAL.iter().find(|(informational, _)| *informational == case) {
        Some((_, code)) => is_all("INFORMATIONAL") && verdict.close_code == Some((*code).into()),
        None => is_all("OK"),
    }
}

/// The cases take some 15 s, of which 8 s are pauses of the suite's own.
const SUITE_DEADLINE: Duration = Duration::from_secs(300);
