//! The limit on open files: raised at the start, known to whoever plans with it.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open files after raising it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What the process may open now; `None` is without limit.
    pub limit: Option<u64>,
    /// What it was allowed before.
    pub before: Option<u64>,
}

/// Raises the soft limit on open files to the hard one.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.map(|hard| hard.min(SYSTEM_MOST)).or(Some(SYSTEM_MOST));
    if before.current == wanted {
        return Ok(OpenFiles { limit: wanted, before: before.current });
    }
    setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: before.maximum })?;
    Ok(OpenFiles { limit: wanted, before: before.current })
}

/// macOS refuses a soft limit above `OPEN_MAX` even when the hard one says "infinity".
#[cfg(target_os = "macos")]
const SYSTEM_MOST: u64 = 10_240;
#[cfg(not(target_os = "macos"))]
const SYSTEM_MOST: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_reaches_the_hard_limit_and_is_idempotent() {
        let first = raise_open_files().unwrap();
        let second = raise_open_files().unwrap();
        assert_eq!(first.limit, second.limit);
        assert_eq!(second.before, second.limit);
    }
}
