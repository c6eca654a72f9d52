//! A Unix socket that somebody else listens on, to be connected to.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Why nobody could be connected to at a path.
#[derive(Debug, thiserror::Error)]
pub enum UnixFault {
    #[error("there is no {}: its server is not there, or listens elsewhere", .0.display())]
    Missing(PathBuf),
    #[error("{} is not a socket", .0.display())]
    NotSocket(PathBuf),
    #[error("nobody listens on {}: a server that is gone has left it behind", .0.display())]
    Left(PathBuf),
    #[error(
        "this process may not connect to {}: it has to be let through its directories and to write to it",
        .0.display()
    )]
    Denied(PathBuf),
    #[error("{}: {error}", path.display())]
    Other { path: PathBuf, error: io::Error },
}

impl UnixFault {
    fn new(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            // The kernel says the same of a file that is none.
            io::ErrorKind::ConnectionRefused => match fs::metadata(&path) {
                Ok(found) if !found.file_type().is_socket() => Self::NotSocket(path),
                _ => Self::Left(path),
            },
            _ => Self::Other { path, error },
        }
    }
}

impl From<UnixFault> for io::Error {
    fn from(fault: UnixFault) -> Self {
        let kind = match &fault {
            UnixFault::Missing(_) => io::ErrorKind::NotFound,
            UnixFault::Denied(_) => io::ErrorKind::PermissionDenied,
            UnixFault::NotSocket(_) | UnixFault::Left(_) => io::ErrorKind::ConnectionRefused,
            UnixFault::Other { error, .. } => error.kind(),
        };
        Self::new(kind, fault)
    }
}

/// Connects to the socket at `path`. It has no deadline of its own: while the listener's queue is
/// full, there is no other sign of room than trying again.
///
/// # Errors
/// As [`UnixFault`] says.
pub async fn connect(path: &Path) -> Result<TcpStream, UnixFault> {
    let failed = |error| UnixFault::new(path, error);
    let address = SockAddr::unix(path).map_err(failed)?;
    let mut pause = PAUSE_LEAST;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        match socket.connect(&address) {
            // As one of TCP, as those are that are accepted.
            Ok(()) => {
                let stream = std::net::TcpStream::from(OwnedFd::from(socket));
                return TcpStream::from_std(stream).map_err(failed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        drop(socket);
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn bytes_go_to_who_listens_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        on_a_runtime(async {
            let mut stream = connect(&path).await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            stream.write_all(b"there").await.unwrap();
            let mut heard = [0; 5];
            io::Read::read_exact(&mut peer, &mut heard).unwrap();
            io::Write::write_all(&mut peer, &heard).unwrap();
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"there");
        });
    }

    #[test]
    fn what_is_wrong_with_a_path_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let check = |kind: io::ErrorKind, part: &str| {
            let fault = on_a_runtime(connect(&path)).unwrap_err();
            assert!(fault.to_string().contains(part), "{fault}");
            assert_eq!(io::Error::from(fault).kind(), kind);
        };
        check(io::ErrorKind::NotFound, "app.sock: its server is not there, or listens elsewhere");
        drop(UnixListener::bind(&path).unwrap());
        check(io::ErrorKind::ConnectionRefused, "a server that is gone has left it behind");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        check(io::ErrorKind::ConnectionRefused, "app.sock is not a socket");
        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        let fault = on_a_runtime(connect(&path)).unwrap_err();
        assert!(matches!(fault, UnixFault::Other { .. }), "{fault}");
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        on_a_runtime(async {
            let mut second = Box::pin(connect(&path));
            let early = tokio::time::timeout(Duration::from_millis(20), &mut second).await;
            assert!(early.is_err(), "there is no room for it");
            listener.accept().unwrap();
            second.await.unwrap();
        });
    }
}
