//! What can be seen of files without reading them: enough to know that one was replaced.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which files are there, and when each was last written. Links are followed: a directory that is
/// swapped (Kubernetes) or a link that is set anew (certbot) are other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(Vec<Option<Seen>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    written: (i64, i64),
    /// Also when a file is put back with the time that it had.
    changed: (i64, i64),
}

impl Look {
    pub fn at<'f>(files: impl Iterator<Item = &'f Path>) -> Self {
        let seen = files.map(|path| {
            let metadata = path.metadata().ok()?;
            Some(Seen {
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.size(),
                written: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })
        });
        Self(seen.collect())
    }
}
