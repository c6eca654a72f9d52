//! A listening Unix socket, and its file: made with its rights, put in the place of one that nobody
//! listens on any more, and removed when it is dropped.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tracing::debug;

/// Who may connect: on Linux, who may write to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRights {
    pub mode: u32,
    /// `None` leaves the user who binds it.
    pub user: Option<u32>,
    /// `None` leaves the group.
    pub group: Option<u32>,
}

impl Default for SocketRights {
    /// For the user and the group alone: whoever connects says whose its requests are.
    fn default() -> Self {
        Self { mode: 0o660, user: None, group: None }
    }
}

/// The file of a listening socket. Dropping it removes the file, if it is still this socket's.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Binds `path` and listens.
///
/// # Errors
/// As `bind(2)`. `AddrInUse` when somebody listens there, `AlreadyExists` when the file is no socket.
pub(crate) fn listen(
    path: &Path,
    rights: &SocketRights,
    backlog: i32,
) -> io::Result<(UnixListener, SocketFile)> {
    make_way(path)?;
    // Under another name until it has its rights: nobody may connect in between. The rename also
    // takes the place of a stale one at once.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = Fresh(PathBuf::from(fresh));
    let _ = fs::remove_file(&fresh.0);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&fresh.0)?).map_err(|error| lacking(path, error))?;
    fs::set_permissions(&fresh.0, fs::Permissions::from_mode(rights.mode))?;
    if rights.user.is_some() || rights.group.is_some() {
        chown(&fresh.0, rights.user, rights.group).map_err(not_given)?;
    }
    socket.listen(backlog)?;
    let known = fs::symlink_metadata(&fresh.0)?;
    fs::rename(&fresh.0, path)?;
    let file = SocketFile { path: path.to_owned(), device: known.dev(), inode: known.ino() };
    Ok((socket.into(), file))
}

/// What a file cannot be made for.
fn lacking(path: &Path, error: io::Error) -> io::Error {
    let directory = path.parent().unwrap_or(path).display();
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no directory {directory}"),
        io::ErrorKind::PermissionDenied => format!("this process may not write to {directory}"),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{directory} is read-only for this process (`ReadWritePaths=` of its service?)")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Why a file cannot be given to the user and group that it is for.
fn not_given(error: io::Error) -> io::Error {
    let what = "its file cannot be given to `unix.user` and `unix.group`; without root it can to a \
                group alone, and to one that this process is in";
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// That nobody is at `path`, or a socket alone that nobody listens on.
fn make_way(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let message = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Whoever has no room for another connection is there.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A file that is removed if it is not renamed.
struct Fresh(PathBuf);

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        // After root is given up the directory may not be ours to write to; the next start takes
        // the place of the file all the same.
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "a socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        listen(path, &SocketRights { mode: 0o600, ..SocketRights::default() }, 16)
    }

    #[test]
    fn a_socket_has_its_rights_and_is_gone_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_said_which_directory_is_lacking() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let error = bind(&gone.join("edge.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let said = format!("there is no directory {}: ", gone.display());
        assert!(error.to_string().starts_with(&said), "{error}");
    }

    #[test]
    fn a_stale_socket_makes_way_and_another_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, old) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        // Somebody else's by now: it stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "not a socket").unwrap();
        drop(old);
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
