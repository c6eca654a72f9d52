//! A crash leaves no image of the memory, which has keys and tokens in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
    let as_daemon = || {
        let mut by = Command::new("setpriv");
        by.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups"]);
        by
    };
    let reads = |node: &Tidewire, file: &str| {
        let path = format!("/proc/{}/{file}", node.child.id());
        as_daemon().args(["cat", &path]).output().unwrap().status.success()
    };
    // One that has dropped root, and one that never was root, which the kernel does not guard by
    // itself.
    for allows in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let dropped = run(directory.path(), &format!("user = 'daemon'\ncore_dumps = {allows}"));
        let mut by = as_daemon();
        by.arg(command().get_program());
        let config = config(&format!("core_dumps = {allows}"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), mode).unwrap();
        let never_root = Tidewire::run_in(by, directory, &config);
        for node in [&dropped, &never_root] {
            for file in ["maps", "environ", "smaps_rollup"] {
                assert_eq!(reads(node, file), allows, "{file}");
            }
            assert!(reads(node, "status"));
        }
    }
}

/// A node in a directory of its own, in which dumps would be, without a limit on them.
fn run(directory: &Path, process: &str) -> Tidewire {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]);
    shell.arg(command().get_program()).current_dir(directory);
    Tidewire::run_by(shell, &config(process))
}

fn config(process: &str) -> String {
    format!(
        "workers = 1\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
         [[route]]\nrespond = {{ status = 204 }}\n[process]\n{process}\n"
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
