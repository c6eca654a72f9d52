//! A file that is read again when it changes.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// A file, and how it looked when it was read last.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    /// `None` when it was not there, or could not be looked at.
    seen: Mutex<Option<Look>>,
}

/// What changes when a file does: also when another is put in its place, as `mv` and Kubernetes
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl KeptFile {
    /// Reads it for the first time.
    pub fn open(path: PathBuf) -> io::Result<(Self, Vec<u8>)> {
        let seen = look(&path);
        let bytes = read(&path)?;
        Ok((Self { path, seen: Mutex::new(seen) }, bytes))
    }

    /// What is in it, when it is not as it was the last time.
    pub fn changed(&self) -> Option<io::Result<Vec<u8>>> {
        let now = look(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // It is looked at before it is read: what is written meanwhile is seen the next time.
        if *seen == now {
            return None;
        }
        *seen = now;
        drop(seen);
        Some(read(&self.path))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn look(path: &Path) -> Option<Look> {
    let metadata: Metadata = path.metadata().ok()?;
    let changed = (metadata.mtime(), metadata.mtime_nsec());
    Some(Look { inode: metadata.ino(), bytes: metadata.len(), changed })
}

/// All of a file that is not too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it is longer than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// How often a file is looked at.
pub const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// Ten thousand users have less.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "one").unwrap();
        let (file, bytes) = KeptFile::open(path.clone()).unwrap();
        assert_eq!(bytes, b"one");
        assert!(file.changed().is_none());
        std::fs::write(dir.path().join("next"), "two").unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(file.changed().unwrap().unwrap(), b"two");
        assert!(file.changed().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.changed().unwrap().is_err());
        assert!(file.changed().is_none());
    }
}
