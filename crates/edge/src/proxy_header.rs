//! The header of the PROXY protocol in front of a connection: read from the peers that are listed
//! for it, and required of them.
//!
//! Of the socket it takes the header alone: what is there is looked at first (`MSG_PEEK`), and only
//! as much is read as is the header's. So TLS or HTTP begins on the socket as it always does.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::buffer::with_scratch;
use tidewire_runtime::conn::Conn;
use tidewire_runtime::connections::Signal;
use tidewire_runtime::deadline::ticks;
use tidewire_runtime::socket::Socket;
use tidewire_wire::proxy_protocol::{Ends, HeaderFault, Reader, Said};

use crate::access_log::ConnectionRecord;
use crate::arrival;
use crate::client_address::ClientAddress;
use crate::end::{End, Party, Phase, Reason};
use crate::peer_set::PeerSet;
use crate::service::EdgeShard;

/// Who says whose a connection is.
#[derive(Debug)]
pub struct ProxyProtocol {
    pub from: PeerSet,
    pub others: Others,
}

/// What becomes of peers that are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// Their connections are closed: whoever goes around the balancer is not served.
    #[default]
    Close,
    /// They are clients themselves, and what they send is never read as a header.
    Serve,
}

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// What came of a header. To add one: a line here, and a row in docs/addresses.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome { $($(#[doc = $doc])* $name,)* }

        impl Outcome {
            /// All of them, in the order of their discriminants.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$name,)*];

            /// Its name in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

outcomes! {
    /// It said where a client is.
    Client = "client",
    /// It said that the connection is the peer's own.
    Own = "own",
    /// The peer is not listed, and others are closed.
    Unlisted = "unlisted",
    /// Something else came in its place.
    NotProxy = "not_proxy",
    /// It is not as the protocol has it.
    Malformed = "malformed",
    /// Its checksum is wrong.
    Checksum = "checksum",
    /// It was not there in time (`client_hs`).
    Timeout = "timeout",
    /// The connection ended before it was there.
    Eof = "eof",
    /// Too many are waited for.
    Crowded = "crowded",
    /// The process drains.
    Drain = "drain",
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("PROXY header: {0}")]
    Fault(#[from] HeaderFault),
    #[error("PROXY header: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before its PROXY header was there")]
    Eof,
    #[error("the PROXY header was not there in time")]
    Timeout,
    #[error("the process drains")]
    Drain,
}

/// Has the header of a listed peer read, and lets the client in that it names.
pub(crate) fn receive(shard: &Rc<EdgeShard>, conn: Conn, listener: usize) {
    let Some(place) = Place::take(&shard.unannounced) else {
        return refuse(shard, &conn, listener, Outcome::Crowded);
    };
    let shard = Rc::clone(shard);
    tokio::task::spawn_local(async move {
        let mut conn = conn;
        let begun = Instant::now();
        let mut reader = Reader::default();
        conn.watch.expire_after(ticks(shard.edge.timeouts.client_hs.0));
        let said = poll_fn(|cx| {
            if let Poll::Ready(said) = poll_header(&mut reader, &mut conn.socket, cx) {
                return Poll::Ready(said);
            }
            conn.watch.poll_signal(cx).map(|signal| match signal {
                Signal::Expired => Err(Failure::Timeout),
                Signal::Drain | Signal::Stop => Err(Failure::Drain),
            })
        });
        let said = said.await;
        drop(place);
        match said {
            Ok(said) => announce(&shard, conn, listener, said),
            Err(failure) => {
                let heard = Heard { begun, bytes: reader.len() as u64 };
                fail(&shard, &conn, listener, &failure, heard);
            }
        }
    });
}

fn announce(shard: &Rc<EdgeShard>, mut conn: Conn, listener: usize, said: Said) {
    conn.watch.expire_never();
    let outcome = if said == Said::Nothing { Outcome::Own } else { Outcome::Client };
    shard.metrics.proxy_headers[outcome as usize].add(1);
    let mut via = None;
    if let Said::Client(Ends { source, destination }) = said {
        via = Some(conn.peer.ip());
        (conn.peer, conn.local) = (source, destination);
    }
    arrival::enter(shard, conn, listener, via);
}

/// Ready with the header once it is whole and taken off the socket.
fn poll_header(
    reader: &mut Reader,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> Poll<Result<Said, Failure>> {
    with_scratch(|scratch| {
        loop {
            let there = ready!(socket.poll_peek(cx, &mut scratch[..]))?;
            if there == 0 {
                return Poll::Ready(Err(Failure::Eof));
            }
            let (mut taken, said) = reader.read(&scratch[..there])?;
            while taken > 0 {
                // They are there, so this waits for nothing.
                let read = ready!(socket.poll_read(cx, &mut scratch[..taken]))?;
                if read == 0 {
                    return Poll::Ready(Err(Failure::Eof));
                }
                taken -= read;
            }
            if let Some(said) = said {
                return Poll::Ready(Ok(said));
            }
        }
    })
}

/// Closes a connection before anything is read of it.
pub(crate) fn refuse(shard: &Rc<EdgeShard>, conn: &Conn, listener: usize, outcome: Outcome) {
    let (reason, error) = match outcome {
        Outcome::Crowded => (Reason::Limited, "too many PROXY headers are waited for"),
        _ => (Reason::Denied, "its address is not listed for the PROXY protocol"),
    };
    let heard = Heard { begun: Instant::now(), bytes: 0 };
    let end = End::by(Party::Edge, reason);
    close(shard, conn, listener, outcome, end, Some(error.to_owned()), heard);
}

fn fail(shard: &Rc<EdgeShard>, conn: &Conn, listener: usize, failure: &Failure, heard: Heard) {
    let by = End::by;
    let (outcome, end) = match failure {
        Failure::Fault(HeaderFault::NotProxy) => {
            (Outcome::NotProxy, by(Party::Client, Reason::ProxyHeader))
        }
        Failure::Fault(HeaderFault::BadChecksum) => {
            (Outcome::Checksum, by(Party::Client, Reason::ProxyHeader))
        }
        Failure::Fault(_) => (Outcome::Malformed, by(Party::Client, Reason::ProxyHeader)),
        Failure::Io(_) => (Outcome::Eof, by(Party::Client, Reason::Broken)),
        Failure::Eof => (Outcome::Eof, by(Party::Client, Reason::Eof)),
        Failure::Timeout => (Outcome::Timeout, by(Party::Client, Reason::ClientHsTimeout)),
        Failure::Drain => (Outcome::Drain, by(Party::Edge, Reason::Drain)),
    };
    let error = matches!(failure, Failure::Fault(_) | Failure::Io(_)).then(|| failure.to_string());
    close(shard, conn, listener, outcome, end, error, heard);
}

/// What there was of a header.
struct Heard {
    begun: Instant,
    bytes: u64,
}

fn close(
    shard: &Rc<EdgeShard>,
    conn: &Conn,
    listener: usize,
    outcome: Outcome,
    end: End,
    error: Option<String>,
    heard: Heard,
) {
    shard.metrics.proxy_headers[outcome as usize].add(1);
    let record = ConnectionRecord {
        client: ClientAddress::direct(conn.peer),
        listener,
        begun: heard.begun,
        requests: 0,
        bytes_in: heard.bytes,
        bytes_out: 0,
        tls: None,
        error,
    };
    record.log(shard, end, Phase::Proxy);
}

/// One of those whose header is waited for.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(count: &Rc<Cell<usize>>) -> Option<Self> {
        if count.get() >= UNANNOUNCED_MAX {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(Rc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// On each worker. A balancer sends its header with the first packet: as many that wait for theirs
/// are not a balancer's, and no quota counts them yet.
const UNANNOUNCED_MAX: usize = 4096;
