//! What other people's programs need and is fetched once: below `target/`, kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The directory `name`, made by `fill` when it is not there whole. Tests that want it at the same
/// time, in whatever process, wait for the one that fills it. `version` names its content: a
/// directory of another version is made anew. `fill` has a few attempts, each with an empty
/// directory: who it asks may be slow, or away for a moment.
///
/// # Errors
/// What `fill` says is wrong.
pub fn fetched(
    name: &str,
    version: &str,
    fill: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let store = target_dir().join("testkit");
    fs::create_dir_all(&store).map_err(|error| error.to_string())?;
    let lock = File::create(store.join(format!("{name}.lock"))).map_err(|it| it.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let dir = store.join(name);
    let mark = dir.join(".version");
    if fs::read_to_string(&mark).is_ok_and(|found| found == version) {
        return Ok(dir);
    }
    for attempt in 1.. {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        match fill(&dir) {
            Ok(()) => break,
            Err(_) if attempt < ATTEMPTS => thread::sleep(PAUSE),
            Err(why) => return Err(why),
        }
    }
    fs::write(mark, version).map_err(|error| error.to_string())?;
    Ok(dir)
}

/// The profile's directory, such as `target/debug`: a test runs from `deps` in it.
pub fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(2).expect("tests are in target/PROFILE/deps").to_owned()
}

fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile's directory is in target").to_owned()
}

const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);
