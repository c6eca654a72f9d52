//! Images of the process's memory, which has private keys and tokens in it: there are none, unless
//! somebody who looks for a fault asks for them.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that the process was started with, for whoever asks for dumps after all.
#[derive(Clone, Copy, Debug)]
pub struct Before(Option<u64>);

/// Forbids dumps, until [`allow`] or [`forbid_for_good`].
///
/// # Errors
/// As `setrlimit(2)` and `prctl(2)`.
pub fn forbid() -> io::Result<Before> {
    let before = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: before.maximum })?;
    set_dumpable(false)?;
    Ok(Before(before.current))
}

/// Forbids dumps so that they cannot be allowed again. A change of the user makes the kernel set
/// its part anew: this is for after it.
///
/// # Errors
/// As `setrlimit(2)` and `prctl(2)`.
pub fn forbid_for_good() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable(false)
}

/// Allows dumps as they were before [`forbid`], for whatever user the process has now.
///
/// # Errors
/// As `setrlimit(2)` and `prctl(2)`.
pub fn allow(before: Before) -> io::Result<()> {
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: before.0, maximum })?;
    set_dumpable(true)
}

/// Whether the kernel may write the memory to a file or a pipe, and lets processes of the same user
/// look at it. The limit alone does not hold where dumps go to a program (`core_pattern` with a
/// pipe).
#[cfg(target_os = "linux")]
fn set_dumpable(may: bool) -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let behavior = if may { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    Ok(set_dumpable_behavior(behavior)?)
}

#[cfg(not(target_os = "linux"))]
fn set_dumpable(_may: bool) -> io::Result<()> {
    Ok(())
}
