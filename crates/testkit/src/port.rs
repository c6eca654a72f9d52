//! Ports for servers that cannot be given port 0, or that come back on the port that they had.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// A port of the loopback that nobody listens on, and that this process has not been given before.
///
/// It lies below the range from which the system serves outgoing connections, so that none of
/// those takes it while its server is down.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let random = RandomState::new();
    (0_u32..)
        .map(|attempt| FIRST + (random.hash_one(attempt) % u64::from(LAST - FIRST)) as u16)
        .find(|&port| is_free(port) && given.insert(port))
        .expect("attempts do not end")
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
