//! A crash leaves no image of the memory, which has keys and tokens in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::until;
use tidewire_testkit::skip::{has, skip};
use tidewire_testkit::tidewire::{Tidewire, command};

#[test]
fn a_crash_leaves_no_image_of_the_memory() {
    for signal in [Signal::ABORT, Signal::SEGV] {
        let directory = tempfile::tempdir().unwrap();
        let node = run(directory.path(), "core_dumps = false");
        assert_eq!(limit(&node), ["0", "0"]);
        let status = crash(node, signal);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?}");
        assert!(!status.core_dumped(), "{signal:?} {status:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    // A machine that writes none would let this test pass in any case.
    let directory = tempfile::tempdir().unwrap();
    let node = run(directory.path(), "core_dumps = true");
    assert_eq!(limit(&node), ["unlimited", "unlimited"]);
    if !crash(node, Signal::ABORT).core_dumped() {
        skip("this machine writes no core dumps");
    }
}

#[test]
fn nor_does_one_after_root_is_dropped() {
    if fs::metadata("/proc/self").is_ok_and(|it| it.uid() != 0) {
        return skip("only root can become another user");
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(1), Some(1)).unwrap();
    let node = run(directory.path(), "user = 'daemon'");
    assert_eq!(limit(&node), ["0", "0"]);
    assert!(!crash(node, Signal::ABORT).core_dumped());
    let node = run(directory.path(), "user = 'daemon'\ncore_dumps = true");
    if !crash(node, Signal::ABORT).core_dumped() {
        skip("this machine writes no core dumps");
    }
}

#[test]
fn a_process_of_the_same_user_cannot_look_at_the_memory() {
    if fs::metadata("/proc/self").is_ok_and(|it| it.uid() != 0) || !has("setpriv") {
        return skip("only root can become another user");
    }
    let reads = |process: &str, file: &str| {
        let directory = tempfile::tempdir().unwrap();
        let node = run(directory.path(), process);
        let mut reader = Command::new("setpriv");
        reader.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups", "cat"]);
        reader.arg(format!("/proc/{}/{file}", node.child.id()));
        reader.output().unwrap().status.success()
    };
    for file in ["maps", "environ", "smaps_rollup"] {
        assert!(!reads("user = 'daemon'", file), "{file}");
        assert!(reads("user = 'daemon'\ncore_dumps = true", file), "{file}");
    }
    assert!(reads("user = 'daemon'", "status"));
}

/// A node in a directory of its own, in which dumps would be, without a limit on them.
fn run(directory: &Path, process: &str) -> Tidewire {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]);
    shell.arg(command().get_program()).current_dir(directory);
    Tidewire::run_by(
        shell,
        &format!(
            "workers = 1\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
             [[route]]\nrespond = {{ status = 204 }}\n[process]\n{process}\n"
        ),
    )
}

fn crash(mut node: Tidewire, signal: Signal) -> ExitStatus {
    // The first SIGSEGV is looked at by Rust's handler, which waits for the fault to come again.
    until("it ends", || {
        let mut kill = Command::new("kill");
        kill.args([format!("-{}", signal.as_raw()), node.child.id().to_string()]);
        // Once it has ended, there is nobody to be signalled.
        kill.stderr(Stdio::null()).status().unwrap();
        node.child.has_ended().then_some(())
    });
    node.wait().status
}

/// The limits on the size of a dump, soft and hard.
fn limit(node: &Tidewire) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap().split_whitespace().take(2).map(str::to_owned).collect()
}
