//! Programs that a test needs and that may be missing.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether `program` can be run. When it cannot, says so on stderr, past the test harness's
/// capture: a test that was skipped must not look like one that passed.
///
/// # Panics
/// When it is missing and `TIDEWIRE_REQUIRE_ALL` is set, as it is in CI.
#[must_use]
pub fn has(program: &str) -> bool {
    let run = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if run.is_ok() {
        return true;
    }
    skip(&format!("{program} is not installed"));
    false
}

/// Says why a test is skipped.
///
/// # Panics
/// When `TIDEWIRE_REQUIRE_ALL` is set.
pub fn skip(why: &str) {
    let require_all = std::env::var_os("TIDEWIRE_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!require_all, "TIDEWIRE_REQUIRE_ALL is set, and {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
