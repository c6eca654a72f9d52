//! Ports for servers that cannot be given port 0, or that come back on the port that they had.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// A port of the loopback that nobody listens on, and that neither this process nor another one of
/// the suite that still runs has been given before.
///
/// It lies below the range from which the system serves outgoing connections, so that none of
/// those takes it while its server is down.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashMap<u16, Reservation>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let random = RandomState::new();
    (0_u32..)
        .map(|attempt| FIRST + (random.hash_one(attempt) % u64::from(LAST - FIRST)) as u16)
        .find(|&port| {
            if given.contains_key(&port) {
                return false;
            }
            let Some(reservation) = reserve(port) else { return false };
            given.insert(port, reservation);
            is_free(port)
        })
        .expect("attempts do not end")
}

/// What other processes see of a port that was given. `None` where there is no second address of
/// the loopback.
type Reservation = Option<UdpSocket>;

/// Keeps other processes from being given `port`, also before its server listens and while it is
/// down. Asked for first: to look whether a port is free takes it for a moment, which must not
/// meet somebody else's server. On UDP and an address of its own, where it is in nobody's way.
fn reserve(port: u16) -> Option<Reservation> {
    match UdpSocket::bind((Ipv4Addr::new(127, 77, 77, 77), port)) {
        Ok(socket) => Some(Some(socket)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(_) => Some(None),
    }
}

/// `port` on the loopback.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
