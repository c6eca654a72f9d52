//! A socket of a child, to be asked what its kernel does with it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::child::Child;

/// What is set on a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    pub is_nodelay: bool,
    pub is_kept_alive: bool,
    pub time: Duration,
    pub interval: Duration,
    pub probes: u32,
    pub user_timeout: Option<Duration>,
}

/// What is set on the connections that `child` has to `peer`.
#[track_caller]
pub fn settings(child: &Child, peer: SocketAddr) -> Vec<TcpSettings> {
    to(child, peer).iter().map(|socket| TcpSettings::of(&SockRef::from(socket))).collect()
}

fn to(child: &Child, peer: SocketAddr) -> Vec<OwnedFd> {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a number");
    let child = pidfd_open(pid, PidfdFlags::empty()).expect("it is our child");
    let files = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let files = files.expect("the kernel shows it to us").map_while(Result::ok);
    let numbers = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
    let dup = |number| pidfd_getfd(child.as_fd(), number, PidfdGetfdFlags::empty()).ok();
    let is_to_peer = |socket: &OwnedFd| {
        let found = SockRef::from(socket).peer_addr().ok().and_then(|it| it.as_socket());
        found == Some(peer)
    };
    numbers.filter_map(dup).filter(is_to_peer).collect()
}

impl TcpSettings {
    fn of(socket: &SockRef<'_>) -> Self {
        Self {
            is_nodelay: socket.tcp_nodelay().expect("it is of TCP"),
            is_kept_alive: socket.keepalive().expect("it is of TCP"),
            time: socket.tcp_keepalive_time().expect("it is of TCP"),
            interval: socket.tcp_keepalive_interval().expect("it is of TCP"),
            probes: socket.tcp_keepalive_retries().expect("it is of TCP"),
            user_timeout: socket.tcp_user_timeout().expect("it is of TCP"),
        }
    }
}
