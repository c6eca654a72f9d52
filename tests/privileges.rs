//! Started as root, the process binds its addresses and then is nobody in particular.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use tidewire_testkit::child::Child;
use tidewire_testkit::http::get;
use tidewire_testkit::skip::{has, skip};
use tidewire_testkit::tidewire::{Tidewire, command};

#[test]
fn after_binding_no_thread_is_root() {
    if !is_root() {
        return;
    }
    // Groups of whoever starts it must go, too.
    let by = match has("setpriv") {
        true => {
            let mut by = Command::new("setpriv");
            by.args(["--groups", "4,5"]).arg(command().get_program());
            by
        }
        false => command(),
    };
    let node = Tidewire::run_by(by, &config("127.0.0.1:0", "user = 'daemon'"));
    assert_eq!(get(node.address(), "/").status, 204);
    assert_eq!(get(node.admin(), "/healthz").status, 200);
    let threads = threads(&node.child);
    assert!(threads.len() >= 4, "two workers, the control plane, the log: {threads:?}");
    for status in threads {
        assert_eq!(field(&status, "Uid"), ["1", "1", "1", "1"], "{status}");
        assert_eq!(field(&status, "Gid"), ["1", "1", "1", "1"], "{status}");
        assert!(field(&status, "Groups").is_empty(), "{status}");
        for set in ["CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&status, set), ["0000000000000000"], "{status}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), ["1"], "{status}");
    }
}

#[test]
fn low_ports_are_bound_before_root_is_dropped() {
    if !is_root() || !low_ports_are_guarded() {
        return;
    }
    let Some((port, admin)) = low_port().zip(low_port()) else {
        return skip("no low port is free");
    };
    let text = config(&format!("127.0.0.1:{port}"), "user = 'nobody'\ngroup = 'daemon'");
    let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{admin}"));
    let node = Tidewire::run(&text);
    assert_eq!((node.address().port(), node.admin().port()), (port, admin));
    assert_eq!(get(node.address(), "/").status, 204);
    assert_eq!(field(&threads(&node.child)[0], "Gid")[0], "1");
}

#[test]
fn a_user_with_the_capability_binds_low_ports() {
    if !is_root() || !low_ports_are_guarded() || !has("setpriv") {
        return;
    }
    let Some(port) = low_port() else { return skip("no low port is free") };
    let as_daemon = |more: &[&str]| {
        let mut by = Command::new("setpriv");
        by.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups", "--no-new-privs"]);
        by.args(more);
        by.arg(command().get_program());
        by
    };
    let directory = open_directory();
    let text = config(&format!("127.0.0.1:{port}"), "");
    let caps = ["--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"];
    let node = Tidewire::run_in(as_daemon(&caps), directory, &text);
    assert_eq!(get(node.address(), "/").status, 204);
    assert!(!node.child.stderr().iter().any(|line| line.contains("running as root")));
    drop(node);
    // Without it, the port is out of reach: this test would show nothing otherwise.
    let (directory, mut by) = (open_directory(), as_daemon(&[]));
    let file = directory.path().join("tidewire.toml");
    fs::write(&file, text).unwrap();
    by.arg("run").arg("-c").arg(file);
    let ended = Child::spawn(by).wait();
    assert!(ended.has_line(&["cannot listen on", "Permission denied"]), "{:?}", ended.stderr);
}

#[test]
fn root_that_stays_root_is_told_once_how_not_to_be() {
    if !is_root() {
        return;
    }
    let mut node = Tidewire::run(&config("127.0.0.1:0", ""));
    node.log_line(&["WARN", "running as root", "user = \"tidewire\""]);
    let node = Tidewire::run(&config("127.0.0.1:0", "user = 'root'"));
    assert!(!node.child.stderr().iter().any(|line| line.contains("running as root")));
}

#[test]
fn another_user_cannot_be_become_without_root() {
    if !is_root() || !has("setpriv") {
        return;
    }
    let ended = run_as_daemon("user = 'nobody'");
    let parts = ["runs as user `daemon`", "cannot become `nobody`", "start it as root"];
    assert!(ended.has_line(&parts), "{:?}", ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn files_that_the_user_cannot_read_again_are_named_with_what_would_be_right() {
    if !is_root() {
        return;
    }
    let directory = open_directory();
    let secret = directory.path().join("token.secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let auth = "[[auth]]\nname = 'users'\njwt = { secret_file = 'token.secret', audience = ['*'] }";
    let text = config("127.0.0.1:0", &format!("user = 'daemon'\n{auth}"));
    let text = text.replace("status = 204 }", "status = 204 }\nauth = 'users'");
    let mut node = Tidewire::run_in(command(), directory, &text);
    let right = format!("`chgrp daemon {0} && chmod g+r {0}`", secret.display());
    let key = "`jwt.secret_file` of auth `users`";
    node.log_line(&["WARN", key, "by user `daemon`", "permission denied", &right]);
    // It serves with what root has read.
    assert_eq!(get(node.address(), "/").status, 401);
}

#[test]
fn a_closed_directory_on_the_way_is_what_is_named() {
    if !is_root() {
        return;
    }
    let directory = open_directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(closed.join("keys"), format!("bot:{}\n", "0a".repeat(32))).unwrap();
    let auth = "[[auth]]\nname = 'keys'\napi_key = { file = 'closed/keys' }";
    let text = config("127.0.0.1:0", &format!("user = 'daemon'\n{auth}"));
    let text = text.replace("status = 204 }", "status = 204 }\nauth = 'keys'");
    let mut node = Tidewire::run_in(command(), directory, &text);
    let right = format!("`chgrp daemon {0} && chmod g+x {0}`", closed.display());
    node.log_line(&["WARN", "`api_key.file` of auth `keys`", &right]);
}

#[test]
fn a_node_does_not_start_that_could_not_write_what_it_must_keep() {
    if !is_root() {
        return;
    }
    let directory = open_directory();
    let kept = directory.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o755)).unwrap();
    let text = config("127.0.0.1:0", "user = 'daemon'\n[revocation]\nfile = 'kept/it.json'");
    let file = directory.path().join("tidewire.toml");
    fs::write(&file, &text).unwrap();
    let mut run = command();
    run.arg("run").arg("-c").arg(&file);
    let ended = Child::spawn(run).wait();
    let right = format!("`chown daemon:daemon {0} && chmod u+rwx {0}`", kept.display());
    assert!(ended.has_line(&["`file` of `[revocation]`", &right]), "{:?}", ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    // What it says would be right is right, and the file is the user's.
    std::os::unix::fs::chown(&kept, Some(1), Some(1)).unwrap();
    let node = Tidewire::run_in(command(), directory, &text);
    let kept = kept.join("it.json");
    tidewire_testkit::deadline::until("it is kept", || kept.exists().then_some(()));
    assert_eq!(fs::metadata(&kept).unwrap().uid(), 1);
    drop(node);
}

/// An edge of two workers that answers 204, with `process` in its `[process]`.
fn config(bind: &str, process: &str) -> String {
    format!(
        "workers = 2\n[[listen]]\nname = 'public'\nbind = '{bind}'\n\
         [[route]]\nrespond = {{ status = 204 }}\n[admin]\nbind = '127.0.0.1:0'\n\
         [process]\n{process}\n"
    )
}

/// Runs it as a user that is not root, until it ends by itself.
fn run_as_daemon(process: &str) -> tidewire_testkit::child::Ended {
    let directory = open_directory();
    let file = directory.path().join("tidewire.toml");
    fs::write(&file, config("127.0.0.1:0", process)).unwrap();
    let mut by = Command::new("setpriv");
    by.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups"]);
    by.arg(command().get_program()).arg("run").arg("-c").arg(file);
    Child::spawn(by).wait()
}

/// A temporary directory that other users may look into.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Whether this test is run by root, with users that are on every machine.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    if !is_root {
        skip("only root can become another user");
    }
    is_root
}

/// Containers let everybody bind them, at times.
fn low_ports_are_guarded() -> bool {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let is_guarded = first.is_ok_and(|port| port.trim().parse::<u16>().is_ok_and(|it| it > 900));
    if !is_guarded {
        skip("low ports are for everybody here");
    }
    is_guarded
}

/// A port below 1024 that is free: another one each time.
fn low_port() -> Option<u16> {
    use std::sync::Mutex;
    // A port is whose file is locked, as tests that run beside this one are processes of their own.
    // The lock is held until this process is over.
    static TAKEN: Mutex<BTreeMap<u16, fs::File>> = Mutex::new(BTreeMap::new());
    let mut taken = TAKEN.lock().unwrap();
    let first = std::process::id() as u16 % 300;
    (0..300).map(|next| 600 + (first + next) % 300).find(|&port| {
        let file = std::env::temp_dir().join(format!("tidewire-low-port-{port}.lock"));
        let lock = fs::File::create(file).ok().filter(|file| file.try_lock().is_ok());
        let is_free = || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        lock.filter(|_| is_free()).map(|lock| taken.insert(port, lock)).is_some()
    })
}

/// `/proc/PID/task/*/status`.
fn threads(child: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let status = |task: &Path| fs::read_to_string(task.join("status")).ok();
    tasks.filter_map(|task| status(&task.unwrap().path())).collect()
}

fn field<'s>(status: &'s str, name: &str) -> Vec<&'s str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("there is such a line").split_whitespace().collect()
}
