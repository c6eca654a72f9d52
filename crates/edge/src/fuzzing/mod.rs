//! The fuzz bodies: each takes any bytes and panics where a promise is broken.
//!
//! The tests at the foot replay the seeds in `fuzz/seeds/` and a bounded, repeatable run of
//! mutations of them.

mod http_witness;
mod parsers;
mod play;
mod rig;
mod rules;
mod script;
mod stub;
mod tunnel_witness;

use tokio::runtime::{Builder, LocalOptions};

pub use self::parsers::{origins, paths, stick};
use self::play::Met;
use self::rig::{Limited, Pinging, Rig};
use self::script::ORDER;

/// Panics if the input breaks its promise.
pub type Body = fn(&[u8]);

/// Every body, by the name of its target.
pub const TARGETS: [(&str, Body); 5] =
    [("edge", edge), ("tunnel", tunnel), ("paths", paths), ("origins", origins), ("stick", stick)];

/// Whatever clients and servers say, and in which order: every connection ends in its time and is
/// counted once, nothing is held for it then, servers get requests that no two readers read in two
/// ways, and clients get answers of that kind, or the frames of a server that has accepted.
///
/// The first byte is the setting; the rest is a [`script`].
pub fn edge(input: &[u8]) {
    let Some((&setting, script)) = input.split_first() else { return };
    run(setting, script);
}

/// As [`edge`], with a tunnel that is open already.
pub fn tunnel(input: &[u8]) {
    let Some((&setting, script)) = input.split_first() else { return };
    run(setting, &in_tunnel(script));
}

fn in_tunnel(script: &[u8]) -> Vec<u8> {
    [HANDSHAKE, &[ORDER, b'A', ORDER, b'w', ORDER, b'a'], script].concat()
}

fn run(setting: u8, script: &[u8]) -> Met {
    fastrand::seed(0);
    let capacity = [64 * 1024, 4096, 300, 40][usize::from(setting & 3)];
    let limits = [Limited::Default, Limited::Strict, Limited::Off, Limited::Narrow];
    let limits = limits[usize::from(setting >> 2 & 3)];
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("there is nothing that it needs of the system");
    let pings = if setting & 0x10 == 0 { Pinging::No } else { Pinging::Yes };
    runtime.block_on(async { play::play(Rig::new(capacity, limits, pings), script).await })
}

const HANDSHAKE: &[u8] = b"\xFFaGET /t HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[cfg(test)]
mod tests;
