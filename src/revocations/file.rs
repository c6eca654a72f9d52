//! The file that keeps revocations over a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tidewire_auth::revocation::{Revocation, Revocations};
use tidewire_runtime::clock::unix_seconds;
use tokio::sync::watch;
use tracing::error;

/// Reads what the file keeps; a file that is not there keeps nothing.
///
/// # Errors
/// When it cannot be read, or is not such a file: to start without what it should have said would
/// let somebody in.
pub fn read(path: &Path) -> anyhow::Result<Vec<Revocation>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(named(path, "cannot be read")),
    };
    let kept: Kept = serde_json::from_slice(&bytes)
        .with_context(|| named(path, "is broken; restore it, or move it away to start without"))?;
    if kept.version != VERSION {
        let (found, known) = (kept.version, VERSION);
        bail!("{}", named(path, &format!("is of version {found}; this program knows {known}")));
    }
    Ok(kept.revocations)
}

/// Writes the file whenever there is something new. `saved` tells the version that is in it.
pub async fn keep(path: PathBuf, known: Arc<Revocations>, saved: watch::Sender<u64>) {
    let mut changes = known.changes();
    let mut is_well = true;
    loop {
        let version = *changes.borrow_and_update();
        let (to, all) = (path.clone(), known.all(unix_seconds()));
        let written = tokio::task::spawn_blocking(move || write(&to, all)).await;
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(()) => {
                is_well = true;
                saved.send_replace(version);
                if changes.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if std::mem::replace(&mut is_well, false) {
                    error!(file = %path.display(), %error, "revocations are not kept");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Writes all of it or nothing: beside the file first, and then in its place.
pub fn write(path: &Path, revocations: Vec<Revocation>) -> io::Result<()> {
    let text = serde_json::to_vec(&Kept { version: VERSION, revocations })?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // It tells who is locked out.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    revocations: Vec<Revocation>,
}

fn named(path: &Path, what: &str) -> String {
    format!("the file of revocations `{}` {what}", path.display())
}

const VERSION: u32 = 1;
const AGAIN_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tidewire_auth::revocation::Revoked;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_broken_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.json");
        assert_eq!(read(&path).unwrap(), []);
        let one = Revocation { of: Revoked::Subject("ann".into()), at: 1, until: u64::MAX };
        write(&path, vec![one.clone()]).unwrap();
        assert_eq!(read(&path).unwrap(), [one]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        for broken in ["", "{}", "[]", r#"{"version":2,"revocations":[]}"#] {
            fs::write(&path, broken).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("revocations.json"), "{broken}");
        }
    }
}
