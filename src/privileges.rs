//! Who the process is: root while it binds its addresses, and then nobody in particular.
//!
//! ```text
//!   secure ──> plan ──> bind ──> settle: user, no way back, no dumps, files ──> serve
//! ```

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{Access, access};
use tidewire_runtime::account::Account;
use tidewire_runtime::core_dump;
use tidewire_runtime::privilege::{become_account, forbid_new_privileges};
use tracing::{info, warn};

use crate::plan::belongings::{Belonging, Need};
use crate::plan::process::ProcessPlan;

/// What a process has given up before it has read anything secret. [`Guarded::settle`] is the rest.
#[must_use = "rights are only dropped by `settle`"]
pub struct Guarded {
    core_dumps: core_dump::Before,
}

/// Gives up what no configuration can want. For before there are threads, as not all of it is for
/// the whole process.
pub fn guard() -> anyhow::Result<Guarded> {
    forbid_new_privileges().context("the process cannot give up new privileges")?;
    let core_dumps = core_dump::forbid().context("core dumps cannot be forbidden")?;
    Ok(Guarded { core_dumps })
}

impl Guarded {
    /// Makes the process who the plan says, and makes sure that it can go on as such. For when all
    /// addresses are bound, and before any client is accepted.
    pub fn settle(self, plan: &ProcessPlan) -> anyhow::Result<()> {
        let now = Account::of_process();
        match &plan.account {
            Some(account) if now.is_root() && !account.is_root() => drop_root(account)?,
            Some(account) if *account != now && !now.is_root() => {
                let Account { user, group } = account;
                bail!(
                    "the process runs as user `{}` of group `{}` and cannot become `{user}` of \
                     `{group}`: start it as root, or take `user` and `group` out of `[process]`",
                    now.user,
                    now.group,
                );
            }
            Some(_) => {}
            None if now.is_root() => warn!(
                "running as root, which no client should find behind a fault of ours: set \
                 `user = \"tidewire\"` in `[process]`, or start it as such a user with the \
                 capability CAP_NET_BIND_SERVICE; `user = \"root\"` silences this"
            ),
            None => {}
        }
        // The kernel sets its part anew when the user changes.
        match plan.core_dumps {
            true => core_dump::allow(self.core_dumps).context("core dumps cannot be allowed")?,
            false => core_dump::forbid_for_good().context("core dumps cannot be forbidden")?,
        }
        check_belongings(&plan.belongings)
    }
}

fn drop_root(account: &Account) -> anyhow::Result<()> {
    let Account { user, group } = account;
    become_account(account).with_context(|| {
        format!("the process cannot become user `{user}` of group `{group}`, and does not go on")
    })?;
    info!(%user, %group, "root is dropped");
    Ok(())
}

/// Warns of what would be missed later, and fails for what the node cannot do without.
fn check_belongings(belongings: &[Belonging]) -> anyhow::Result<()> {
    let account = Account::of_process();
    for belonging in belongings {
        let Err(fault) = check(belonging) else { continue };
        let key = &belonging.key;
        let text = format!("{key}: {}", fault.told(&account));
        match belonging.need {
            Need::ReadAgain => warn!("{text}; until then its changes are not seen"),
            Need::Read | Need::Replace | Need::Fill => bail!(text),
        }
    }
    Ok(())
}

/// What stands in the way of a file's use.
struct Fault<'p> {
    path: &'p Path,
    /// `path`, or the directory on the way to it.
    at: &'p Path,
    wanted: Access,
    error: io::Error,
}

/// Whether the process can do with it what it has to.
fn check(belonging: &Belonging) -> Result<(), Fault<'_>> {
    let path = belonging.path.as_path();
    match belonging.need {
        Need::ReadAgain => reach(path, path, Access::READ_OK),
        Need::Read if path.is_dir() => reach(path, path, Access::READ_OK | Access::EXEC_OK),
        Need::Read => reach(path, path, Access::READ_OK),
        Need::Replace => {
            if exists(path) {
                reach(path, path, Access::READ_OK)?;
            }
            reach(path, parent(path), Access::WRITE_OK | Access::EXEC_OK)
        }
        Need::Fill => {
            // A directory that is not there yet is made, and those before it.
            let there = path.ancestors().find(|it| exists(named(it))).unwrap_or(path);
            reach(path, named(there), Access::WRITE_OK | Access::EXEC_OK)
        }
    }
}

fn reach<'p>(path: &'p Path, at: &'p Path, wanted: Access) -> Result<(), Fault<'p>> {
    let Err(error) = access(at, wanted) else { return Ok(()) };
    // The first directory that is closed says more than the file behind it.
    let closed = at.ancestors().skip(1).filter(|it| access(named(it), Access::EXEC_OK).is_err());
    match closed.last() {
        Some(dir) => {
            Err(Fault { path, at: named(dir), wanted: Access::EXEC_OK, error: error.into() })
        }
        None => Err(Fault { path, at, wanted, error: error.into() }),
    }
}

impl Fault<'_> {
    /// What is wrong, and what would be right.
    fn told(&self, account: &Account) -> String {
        let Account { user, group } = account;
        let (path, at) = (self.path.display(), self.at.display());
        let can = if self.wanted.contains(Access::WRITE_OK) { "written" } else { "read" };
        let right = match self.wanted {
            Access::EXEC_OK => format!("chgrp {group} {at} && chmod g+x {at}"),
            wanted if wanted.contains(Access::WRITE_OK) => {
                format!("chown {user}:{group} {at} && chmod u+rwx {at}")
            }
            wanted if wanted.contains(Access::EXEC_OK) => {
                format!("chgrp {group} {at} && chmod g+rx {at}")
            }
            _ => format!("chgrp {group} {at} && chmod g+r {at}"),
        };
        let error = self.error.kind();
        format!("{path} cannot be {can} by user `{user}` ({error}); right would be `{right}`")
    }
}

/// Whether it is there, or cannot be looked at.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn parent(path: &Path) -> &Path {
    path.parent().map_or(Path::new("/"), named)
}

/// A relative path's last ancestor has no name.
fn named(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
