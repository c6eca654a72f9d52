//! The unit of packaging/systemd is one that systemd takes, that shuts in, and that leaves the
//! program what it needs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tidewire_testkit::http::get;
use tidewire_testkit::skip::{has, skip};
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::WebSocket;

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !has("systemd-analyze") {
        return;
    }
    let (_directory, unit) = unit();
    let output = analyze(&["verify", "--man=no", "--recursive-errors=no", unit.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("tidewire.service"), "{said}");
}

#[test]
fn the_unit_shuts_the_program_in() {
    if !has("systemd-analyze") {
        return;
    }
    let (_directory, unit) = unit();
    // In tenths: 0 is shut in, 100 is as exposed as can be, and a unit that says nothing has 96.
    let output = analyze(&["security", "--offline=true", "--threshold=20", unit.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_calls_that_the_program_makes_are_those_that_the_unit_allows() {
    if !has("systemd-analyze") || !has("strace") {
        return;
    }
    let allowed = calls_allowed();
    let made = calls_made();
    assert!(made.contains("chown"), "the socket's file is given to a group");
    assert!(made.contains("accept4") && made.contains("clone3") | made.contains("clone"));
    let wrong: Vec<_> = made.difference(&allowed).collect();
    assert!(wrong.is_empty(), "the unit refuses {wrong:?} of {made:?}");
}

#[test]
fn the_service_manager_hears_when_it_serves_and_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut by = command();
    by.env("NOTIFY_SOCKET", &path);
    let node = Tidewire::run_by(by, CONFIG);
    let heard = || {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).expect("it says something in time");
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    assert_eq!(heard(), "READY=1");
    node.terminate();
    assert_eq!(heard(), "STOPPING=1");
    assert!(node.wait().status.success());
}

#[test]
fn the_unit_has_the_directory_of_the_documented_sockets() {
    let unit = fs::read_to_string(packaging().join("systemd/tidewire.service")).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/addresses.md");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("unix:/run/tidewire/"));
    assert!(unit.lines().any(|line| line == "RuntimeDirectory=tidewire"));
}

#[test]
fn the_packaged_configuration_is_right() {
    let file = packaging().join("tidewire.toml");
    let output = command().args(["check", "--strict", "-c"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_unit_waits_for_longer_than_a_drain_takes() {
    let unit = fs::read_to_string(packaging().join("systemd/tidewire.service")).unwrap();
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let stop: u64 = value("TimeoutStopSec=").trim_end_matches('s').parse().unwrap();
    // `drain.deadline`, `FLUSH_TIME` of the broker, and room for a slow machine.
    assert!(stop >= DRAIN_DEADLINE + 2 + 5, "{stop}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, drain) = page.split_once("\n## `[drain]`").expect("the page has the table");
    let default = format!("\"{DRAIN_DEADLINE}s\"");
    assert!(drain.contains(&default), "`drain.deadline` has another default: {drain}");
}

/// The names of the system calls of a short life: clients of HTTP and of WebSockets, a reload, a
/// drain.
fn calls_made() -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let mut tracer = Command::new("strace");
    tracer.args(["-f", "-qq", "-o"]).arg(&log).arg(command().get_program());
    let group = fs::metadata(directory.path()).unwrap().gid();
    let local = format!(
        "[[listen]]\nname = 'local'\nbind = 'unix:{}'\nunix = {{ group = '{group}' }}\n",
        directory.path().join("edge.sock").display()
    );
    let mut node = Tidewire::run_by(tracer, &(CONFIG.to_owned() + &local));
    assert_eq!(get(node.address(), "/fixed").status, 204);
    let mut client = WebSocket::connect(node.address(), "/ws/a");
    client.send("x");
    assert_eq!(client.text(), "x");
    // The tracer passes on what it is sent itself: SIGHUP has to reach its child.
    let tracer = node.child.id();
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
    let child = children.split_whitespace().next().unwrap().to_owned();
    let kill = |signal: &str| {
        assert!(Command::new("kill").args([signal, &child]).status().unwrap().success());
    };
    kill("-HUP");
    node.log_line(&["SIGHUP"]);
    kill("-TERM");
    client.expect_close(1001);
    drop(client);
    node.wait();
    let calls = fs::read_to_string(log).unwrap();
    let name = |line: &str| {
        let (_, call) = line.split_once(' ')?;
        let call = call.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let end = call.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))?;
        (end > 0 && !call.starts_with(['+', '-'])).then(|| call[..end].to_owned())
    };
    calls.lines().filter_map(name).collect()
}

/// What is left of the unit's lists, of which each changes what those above it say.
fn calls_allowed() -> BTreeSet<String> {
    let unit = fs::read_to_string(packaging().join("systemd/tidewire.service")).unwrap();
    let mut allowed = BTreeSet::new();
    for list in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match list.strip_prefix('~') {
            Some(refused) => {
                let refused = calls_of(refused);
                allowed.retain(|call| !refused.contains(call));
            }
            None => allowed.append(&mut calls_of(list)),
        }
    }
    allowed
}

/// The calls of a set and of those in it.
fn calls_of(set: &str) -> BTreeSet<String> {
    let output = analyze(&["syscall-filter", "--no-pager", set]);
    let text = String::from_utf8(output.stdout).unwrap();
    let entries = text.lines().skip(1).map(str::trim).filter(|it| !it.starts_with('#'));
    let mut calls = BTreeSet::new();
    for entry in entries.filter(|it| !it.is_empty()) {
        match entry.starts_with('@') {
            true => calls.append(&mut calls_of(entry)),
            false => drop(calls.insert(entry.to_owned())),
        }
    }
    calls
}

fn analyze(arguments: &[&str]) -> Output {
    let output = Command::new("systemd-analyze").args(arguments).output().unwrap();
    if output.stdout.is_empty() && output.stderr.is_empty() && !output.status.success() {
        skip("systemd-analyze says nothing here");
    }
    output
}

/// The unit, with the program where it is.
fn unit() -> (tempfile::TempDir, PathBuf) {
    let text = fs::read_to_string(packaging().join("systemd/tidewire.service")).unwrap();
    let program = command().get_program().to_str().unwrap().to_owned();
    assert!(text.contains("/usr/bin/tidewire run"));
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("tidewire.service");
    fs::write(&unit, text.replace("/usr/bin/tidewire", &program)).unwrap();
    (directory, unit)
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The default of `drain.deadline`, in seconds.
const DRAIN_DEADLINE: u64 = 30;

const CONFIG: &str = "workers = 2\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
    [hub]\nnode = 'n'\nbroker = 'memory'\n\
    [[route]]\npath = '/ws/{topic}'\nhub = { topic = '{topic}' }\n\
    [[route]]\npath = '/fixed'\nrespond = { status = 204 }\n[drain]\ndeadline = '5s'\n";
