//! What a TCP connection does about a peer that is gone without a word.

use std::io;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};

use crate::units::Period;

/// When the kernel gives a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpOptions {
    /// How a peer that says nothing is asked whether it is there.
    pub keepalive: Keepalive,
    /// How long what was sent may stay without an answer of the peer's kernel, or find no room
    /// there: `TCP_USER_TIMEOUT`, on Linux. `"0s"` leaves it to the kernel, which takes a quarter of
    /// an hour. It cuts keepalive short, too.
    pub user_timeout: Period,
}

/// TCP keepalive: whoever is there answers without any program's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// The silence before the first probe; `"0s"` sends none.
    pub time: Period,
    /// From one probe to the next.
    pub interval: Period,
    /// How many are not answered before the connection is given up.
    pub probes: u32,
}

impl Default for Keepalive {
    /// Found within two minutes, and no more than a packet a minute for who is there.
    fn default() -> Self {
        Self { time: Period::from_secs(60), interval: Period::from_secs(15), probes: 4 }
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { keepalive: Keepalive::default(), user_timeout: Period::from_secs(120) }
    }
}

impl TcpOptions {
    /// Sets them on a socket, and that small writes are not held back.
    ///
    /// # Errors
    /// As `setsockopt(2)`, which refuses what is out of its bounds.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if !self.keepalive.time.0.is_zero() {
            let keepalive = TcpKeepalive::new()
                .with_time(self.keepalive.time.0)
                .with_interval(self.keepalive.interval.0)
                .with_retries(self.keepalive.probes);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        set_user_timeout(socket, self.user_timeout.0)
    }
}

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout).filter(|it| !it.is_zero()))
}

/// Others have no such option for a socket.
#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_what_is_set() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        TcpOptions::default().apply(&SockRef::from(&socket)).unwrap();
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        }
        let none = Keepalive { time: Period::from_secs(0), ..Keepalive::default() };
        let none = TcpOptions { keepalive: none, user_timeout: Period::from_secs(0) };
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        none.apply(&SockRef::from(&socket)).unwrap();
        assert!(!socket.keepalive().unwrap());
    }
}
