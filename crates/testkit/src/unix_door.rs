//! A Unix socket that leads to a server on the loopback, for those who have to be reached by one.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

/// A socket whose connections are passed on. Dropping it takes it away.
#[derive(Debug)]
pub struct UnixDoor {
    path: PathBuf,
    shared: Arc<Shared>,
    listener: UnixListener,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicUsize,
    is_over: AtomicBool,
}

impl UnixDoor {
    /// One at `path` that leads to the server at `to`.
    #[track_caller]
    pub fn open(path: &Path, to: SocketAddr) -> Self {
        let listener = UnixListener::bind(path).expect("a directory can be written to");
        let shared = Arc::<Shared>::default();
        let another = listener.try_clone().expect("it is a socket");
        let accepting = Some(thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in another.incoming().map_while(Result::ok) {
                    if shared.is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    shared.accepted.fetch_add(1, Ordering::SeqCst);
                    pass_on(stream, to);
                }
            }
        }));
        Self { path: path.to_owned(), shared, listener, accepting }
    }

    /// The connections that have come by it.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, also when the file is gone.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Copies both directions, each to its end.
fn pass_on(client: UnixStream, to: SocketAddr) {
    let Ok(server) = TcpStream::connect(to) else { return };
    let (mut from_client, mut to_client) = (client.try_clone().expect("it is a socket"), client);
    let (mut from_server, mut to_server) = (server.try_clone().expect("it is a socket"), server);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
}
