//! Giving up root, and no way back.
//!
//! To the kernel each thread has a user of its own; `setuid` and its like of the C library change
//! all of them, the system calls do not. So the C library is asked, and the kernel is looked at
//! afterwards: a process that could become root again, or has a thread that still is, is not run.

use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setegid, seteuid, setgid, setuid};

use crate::account::Account;

/// Why the process is not who it should be.
#[derive(Debug, thiserror::Error)]
pub enum NotDropped {
    #[error("{call} is refused: {error}")]
    Refused { call: &'static str, error: io::Error },
    #[error("root could be had back by {call}")]
    Regained { call: &'static str },
    #[error("thread {thread} still has `{line}`")]
    Kept { thread: String, line: String },
}

/// Makes the process, all its threads, run as `account`, and makes sure that it is so.
///
/// # Errors
/// When the system refuses, which it does when the process is not root; or when there would be a
/// way back. The process must not go on then.
pub fn become_account(account: &Account) -> Result<(), NotDropped> {
    let (uid, gid) = (Uid::from_raw(account.user.id), Gid::from_raw(account.group.id));
    let refused = |call| move |error: Errno| NotDropped::Refused { call, error: error.into() };
    // The groups while we still may.
    clear_groups().map_err(refused("setgroups"))?;
    setgid(gid).map_err(refused("setgid"))?;
    setuid(uid).map_err(refused("setuid"))?;
    check_no_way_back(account)?;
    threads::check(account)
}

/// That neither this process nor what it could start gets more rights than it has, such as by a
/// setuid program. Threads inherit it: it is for before there are any.
///
/// # Errors
/// As `prctl(2)`.
pub fn forbid_new_privileges() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// The saved user and group would let them back; whatever works has to be undone by ending.
fn check_no_way_back(account: &Account) -> Result<(), NotDropped> {
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    if account.user.id != 0 {
        regained("setuid(0)", setuid(root.0))?;
        regained("seteuid(0)", seteuid(root.0))?;
        if account.group.id != 0 {
            regained("setgid(0)", setgid(root.1))?;
            regained("setegid(0)", setegid(root.1))?;
        }
    }
    Ok(())
}

fn regained(call: &'static str, result: nix::Result<()>) -> Result<(), NotDropped> {
    match result {
        Ok(()) => Err(NotDropped::Regained { call }),
        Err(_) => Ok(()),
    }
}

#[cfg(not(target_os = "macos"))]
fn clear_groups() -> nix::Result<()> {
    nix::unistd::setgroups(&[])
}

/// `nix` leaves it out there, as more than 16 groups need another way; none need not.
#[cfg(target_os = "macos")]
fn clear_groups() -> nix::Result<()> {
    // SAFETY: no group is read from the pointer, as there are none.
    Errno::result(unsafe { libc::setgroups(0, std::ptr::null()) }).map(drop)
}

/// What the kernel says of each thread.
#[cfg(target_os = "linux")]
mod threads {
    use std::fs;

    use super::NotDropped;
    use crate::account::Account;

    /// That every thread has the account and nothing else. Without `/proc` there is nothing to look
    /// at; what was tried before has to do.
    pub(super) fn check(account: &Account) -> Result<(), NotDropped> {
        let Ok(threads) = fs::read_dir("/proc/self/task") else { return Ok(()) };
        for thread in threads.flatten() {
            // A thread that has ended has no rights.
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
            if let Some(line) = kept(&status, account) {
                let thread = thread.file_name().to_string_lossy().into_owned();
                return Err(NotDropped::Kept { thread, line: line.to_owned() });
            }
        }
        Ok(())
    }

    /// The line that says of a thread that it has more than it should.
    pub(super) fn kept<'s>(status: &'s str, account: &Account) -> Option<&'s str> {
        let ids = |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()];
        let (uids, gids) = (ids(account.user.id), ids(account.group.id));
        status.lines().find(|line| {
            let Some((name, values)) = line.split_once(':') else { return false };
            let is_zero = || values.trim().bytes().all(|digit| digit == b'0');
            let mut values = values.split_whitespace();
            match name {
                "Uid" => !values.eq(&uids),
                "Gid" => !values.eq(&gids),
                "Groups" => values.next().is_some(),
                "CapPrm" | "CapEff" | "CapAmb" => account.user.id != 0 && !is_zero(),
                _ => false,
            }
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod threads {
    pub(super) fn check(_account: &crate::account::Account) -> Result<(), super::NotDropped> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nGroups:\t \n\
        CapInh:\t0000000000000400\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";

    fn check(from: &str, to: &str, expected: Option<&str>) {
        let named = |id| crate::account::Named { id, name: String::new() };
        let account = Account { user: named(7), group: named(8) };
        let status = STATUS.replacen(from, to, 1);
        assert!(from == to || status != STATUS, "{from}");
        assert_eq!(threads::kept(&status, &account), expected);
    }

    #[test]
    fn what_a_thread_keeps_is_found() {
        check("", "", None);
        check("7\t7\t7\t7", "0\t0\t0\t0", Some("Uid:\t0\t0\t0\t0"));
        check("7\t7\t7\t7", "7\t7\t0\t7", Some("Uid:\t7\t7\t0\t7"));
        check("8\t8\t8\t8", "8\t8\t0\t8", Some("Gid:\t8\t8\t0\t8"));
        check("Groups:\t ", "Groups:\t0 4 ", Some("Groups:\t0 4 "));
        for set in ["CapPrm", "CapEff", "CapAmb"] {
            let line = format!("{set}:\t0000000000000400");
            check(&format!("{set}:\t0000000000000000"), &line, Some(&line));
        }
    }
}
