//! What is kept on disk: the account's key, certificates with their keys, and what nodes that share
//! the directory tell each other.
//!
//! ```text
//!   STORAGE/AUTHORITY/account.json                 the account and its key
//!                     account.lock
//!                     certificates/NAMES/certificate.pem   the key, then the chain
//!                                        lock       held by the node that orders
//!                                        retry.json why, and until when, nobody orders
//!                     challenges/TOKEN              what the node that orders has to answer
//! ```
//!
//! AUTHORITY is made of the directory's URL, so that a certificate of a staging authority is never
//! taken for one of the real. Files appear whole or not at all, and only their owner reads them. A
//! lock is the kernel's (`flock`): it goes with the process that holds it, however that ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::challenge::Pending;
use super::names::{Names, short_hash};

/// The part of the storage that is for one authority.
#[derive(Clone, Debug)]
pub struct Storage {
    dir: PathBuf,
}

/// A file or directory that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct StorageError {
    pub path: PathBuf,
    pub error: io::Error,
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the file is the lock")] File);

/// Why, and until when, nobody orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Orders that failed since the last one that did not.
    pub failures: u32,
    /// In seconds since 1970, as `next`.
    pub failed: u64,
    pub next: u64,
    /// Whether the authority has named the time.
    pub is_ordered: bool,
    pub error: String,
}

impl Storage {
    pub fn new(root: &Path, directory_url: &str) -> Self {
        let host = directory_url.split('/').nth(2).unwrap_or_default();
        let host = host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        Self { dir: root.join(format!("{host}-{}", short_hash(directory_url))) }
    }

    /// Makes the directories for these names, and finds out that they can be written to: a
    /// certificate that cannot be kept must not be ordered, again and again.
    pub fn prepare(&self, names: &Names) -> Result<(), StorageError> {
        for dir in [self.certificate_dir(names), self.dir.join(CHALLENGES)] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&dir).map_err(at(&dir))?;
            let probe = dir.join(unique("probe"));
            create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(at(&dir))?;
        }
        Ok(())
    }

    pub fn account(&self) -> Result<Option<Vec<u8>>, StorageError> {
        read(&self.dir.join(ACCOUNT))
    }

    pub fn keep_account(&self, account: &[u8]) -> Result<(), StorageError> {
        replace(&self.dir.join(ACCOUNT), account)
    }

    pub fn forget_account(&self) -> Result<(), StorageError> {
        remove(&self.dir.join(ACCOUNT))
    }

    /// `None` when somebody else has it.
    pub fn lock_account(&self) -> Result<Option<Lock>, StorageError> {
        lock(&self.dir.join("account.lock"))
    }

    pub fn certificate(&self, names: &Names) -> Result<Option<Vec<u8>>, StorageError> {
        read(&self.certificate_path(names))
    }

    pub fn keep_certificate(&self, names: &Names, pem: &[u8]) -> Result<(), StorageError> {
        replace(&self.certificate_path(names), pem)
    }

    pub fn certificate_path(&self, names: &Names) -> PathBuf {
        self.certificate_dir(names).join("certificate.pem")
    }

    /// `None` when somebody else has it.
    pub fn lock(&self, names: &Names) -> Result<Option<Lock>, StorageError> {
        lock(&self.certificate_dir(names).join("lock"))
    }

    /// One that cannot be understood is none.
    pub fn retry(&self, names: &Names) -> Result<Option<Retry>, StorageError> {
        let bytes = read(&self.retry_path(names))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub fn keep_retry(&self, names: &Names, retry: &Retry) -> Result<(), StorageError> {
        let text = serde_json::to_vec_pretty(retry).expect("numbers and text are JSON");
        replace(&self.retry_path(names), &text)
    }

    pub fn forget_retry(&self, names: &Names) -> Result<(), StorageError> {
        remove(&self.retry_path(names))
    }

    pub fn retry_path(&self, names: &Names) -> PathBuf {
        self.certificate_dir(names).join("retry.json")
    }

    /// The challenges that any node has to answer. Files that are no challenges are passed over.
    pub fn challenges(&self) -> Result<Vec<Pending>, StorageError> {
        let dir = self.dir.join(CHALLENGES);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError { path: dir, error }),
        };
        let mut pending = Vec::new();
        for entry in entries.take(CHALLENGES_MAX) {
            let path = entry.map_err(at(&dir))?.path();
            // One that another node takes back meanwhile is not there any more.
            let Some(bytes) = read(&path)? else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(one) if !is_stale(&path) => pending.push(one),
                _ => {}
            }
        }
        Ok(pending)
    }

    pub fn offer(&self, pending: &Pending) -> Result<(), StorageError> {
        let text = serde_json::to_vec(pending).expect("text is JSON");
        replace(&self.challenge_path(pending), &text)
    }

    pub fn withdraw(&self, pending: &Pending) -> Result<(), StorageError> {
        remove(&self.challenge_path(pending))
    }

    /// The token comes from outside: its hash cannot lead anywhere else.
    fn challenge_path(&self, pending: &Pending) -> PathBuf {
        let name = format!("{}-{}", short_hash(&pending.name), short_hash(&pending.token));
        self.dir.join(CHALLENGES).join(name)
    }

    fn certificate_dir(&self, names: &Names) -> PathBuf {
        self.dir.join("certificates").join(names.directory_name())
    }
}

impl Retry {
    pub fn next(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.next)
    }

    pub fn failed(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.failed)
    }
}

/// Seconds since 1970, rounded up.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis().div_ceil(1000) as u64)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let path = path.to_owned();
    move |error| StorageError { path, error }
}

/// `None` when it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Puts `bytes` where `path` is: whoever reads it sees what was there before or all of them, also
/// after a loss of power.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let new = dir.join(unique("new"));
    let write = || {
        let mut file = create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        at(path)(error)
    })
}

/// A new file that only its owner reads.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn lock(path: &Path) -> Result<Option<Lock>, StorageError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(path)(error)),
    }
}

/// A name that no other node gives to a file at the same time.
fn unique(what: &str) -> String {
    format!(".{what}-{}-{:016x}", std::process::id(), fastrand::u64(..))
}

/// One that a node left behind when it was killed.
fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|it| it.modified());
    modified.ok().and_then(|it| it.elapsed().ok()).is_some_and(|age| age > STALE)
}

const ACCOUNT: &str = "account.json";
const CHALLENGES: &str = "challenges";
/// Far more than are ever pending, far less than is noticed.
const CHALLENGES_MAX: usize = 1_000;
/// No order takes so long.
const STALE: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const URL: &str = "https://acme.test:14000/dir";

    fn storage() -> (tempfile::TempDir, Storage, Names) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(&dir.path().join("a/b"), URL);
        let names = Names::new(&["a.test".to_owned()]).unwrap();
        storage.prepare(&names).unwrap();
        (dir, storage, names)
    }

    #[test]
    fn nobody_else_reads_a_key() {
        let (dir, storage, names) = storage();
        storage.keep_certificate(&names, b"key").unwrap();
        storage.keep_account(b"key").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
        assert_eq!(mode(&storage.certificate_dir(&names)), 0o700);
        assert_eq!(mode(&storage.certificate_path(&names)), 0o600);
        assert_eq!(mode(&storage.dir.join(ACCOUNT)), 0o600);
    }

    #[test]
    fn what_is_replaced_leaves_nothing_behind() {
        let (_dir, storage, names) = storage();
        storage.keep_certificate(&names, b"one").unwrap();
        storage.keep_certificate(&names, b"two").unwrap();
        assert_eq!(storage.certificate(&names).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(storage.certificate_dir(&names)).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_held_by_one_and_ends_with_it() {
        let (_dir, storage, names) = storage();
        let lock = storage.lock(&names).unwrap();
        assert!(lock.is_some());
        assert!(storage.lock(&names).unwrap().is_none());
        drop(lock);
        assert!(storage.lock(&names).unwrap().is_some());
    }

    #[test]
    fn authorities_do_not_share_what_they_have_signed() {
        let (dir, storage, names) = storage();
        storage.keep_certificate(&names, b"staging").unwrap();
        let other = Storage::new(&dir.path().join("a/b"), "https://acme.test:14000/directory");
        assert!(other.certificate(&names).unwrap().is_none());
    }

    #[test]
    fn challenges_are_seen_by_all_until_they_are_withdrawn() {
        let (_dir, storage, _) = storage();
        let pending = Pending {
            name: "a.test".into(),
            token: "../../../etc/passwd".into(),
            key_authorization: "t.k".into(),
        };
        storage.offer(&pending).unwrap();
        fs::write(storage.dir.join("challenges/other"), "not a challenge").unwrap();
        assert_eq!(storage.challenges().unwrap(), std::slice::from_ref(&pending));
        storage.withdraw(&pending).unwrap();
        storage.withdraw(&pending).unwrap();
        assert_eq!(storage.challenges().unwrap(), []);
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let names = Names::new(&["a.test".to_owned()]).unwrap();
        let error = Storage::new(&file, URL).prepare(&names).unwrap_err().to_string();
        assert!(error.contains("file/acme.test-14000-"), "{error}");
    }
}
