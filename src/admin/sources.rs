//! The metrics of the addresses that servers are connected to from.

use std::fmt;
use std::sync::atomic::Ordering;

use super::balance::per_backend;
use super::exposition::{Exposition, Out};

pub fn encode(exposition: &Exposition, out: &mut Out<'_>) -> fmt::Result {
    out.counter(
        "edge_backend_source_skips",
        "Addresses in source that were passed over for a connection to a server",
        per_backend(exposition, |it| it.connector.dialer.counts.skips.load(Ordering::Relaxed)),
    )?;
    out.counter(
        "edge_backend_no_source",
        "Connections to servers that were not made for want of a port or address of this machine",
        per_backend(exposition, |it| it.connector.dialer.counts.exhausted.load(Ordering::Relaxed)),
    )
}
