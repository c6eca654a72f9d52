//! What stands before a listener or a route: by address, and by count.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use tidewire_auth::identity::Identity;
use tidewire_runtime::conn::Conn;
use tidewire_runtime::connections::Signal;

use crate::access_log::ConnectionRecord;
use crate::address_rules::AddressRules;
use crate::client_address::ClientAddress;
use crate::end::{End, Party, Phase, Reason};
use crate::limits::turned::Turned;
use crate::limits::turnstile::{Entered, Line, Pass, Turnstile};
use crate::linger::linger;
use crate::service::EdgeShard;

/// Who may come in.
#[derive(Debug)]
pub struct Door {
    pub addresses: Arc<AddressRules>,
    pub turnstile: Arc<Turnstile>,
    denied: AtomicU64,
}

/// What comes to a door of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comer {
    Handshake,
    Request,
}

/// How far somebody has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Up to the door: only its address was counted.
    Up,
    /// Through it.
    In,
}

impl Door {
    pub fn new(addresses: AddressRules, turnstile: Turnstile) -> Self {
        let (addresses, turnstile) = (Arc::new(addresses), Arc::new(turnstile));
        Self { addresses, turnstile, denied: AtomicU64::new(0) }
    }

    /// Lets a connection in, which may have to wait for its turn.
    pub fn enter(&self, client: IpAddr) -> Result<Entered, Turned> {
        self.look(client)?;
        self.turnstile.enter(Some(client))
    }

    /// Lets a connection in that brings the requests of many clients, each of whom is looked at
    /// when it asks.
    pub fn enter_for_many(&self) -> Result<Entered, Turned> {
        self.turnstile.enter(None)
    }

    /// Lets a request in, or up to the door, once it is its turn.
    pub async fn admit(
        &self,
        client: IpAddr,
        comer: Comer,
        came: Came,
    ) -> Result<Option<Pass>, Turned> {
        if came == Came::In {
            self.look(client)?;
        }
        match (comer, came) {
            (Comer::Request, Came::Up) => self.turnstile.request(client).map(|()| None),
            (Comer::Request, Came::In) => {
                self.turnstile.request(client)?;
                self.turnstile.request_of_all(client).map(|()| None)
            }
            (Comer::Handshake, Came::Up) => {
                let Entered { pass, line } = self.turnstile.meet(Some(client))?;
                wait_in(line).await;
                Ok(pass)
            }
            (Comer::Handshake, Came::In) => {
                come_in(self.turnstile.enter(Some(client))?, client).await
            }
        }
    }

    /// Lets one in whom [`Door::admit`] has, as far as it `came`, and who has an identity now, where
    /// the route asks for one.
    pub async fn let_in(
        &self,
        pass: Option<&mut Pass>,
        client: IpAddr,
        comer: Comer,
        came: Came,
        identity: Option<&Identity>,
    ) -> Result<(), Turned> {
        if came == Came::Up {
            self.look(client)?;
        }
        if comer == Comer::Request {
            if came == Came::Up {
                self.turnstile.request_of_all(client)?;
            }
            return identity.map_or(Ok(()), |it| self.turnstile.request_of(client, it));
        }
        let Some(pass) = pass else { return Ok(()) };
        if came == Came::Up {
            wait_in(pass.join_all(Some(client))?).await;
        }
        if let Some(identity) = identity {
            wait_in(pass.identify(client, identity)?).await;
        }
        Ok(())
    }

    /// Whether it stands before anybody but for the count of its own address.
    pub fn counts_all(&self) -> bool {
        !self.addresses.is_empty() || self.turnstile.counts_all()
    }

    /// How many were not let in for their address.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Whether `client` may come, by its address.
    pub fn look(&self, client: IpAddr) -> Result<(), Turned> {
        if self.addresses.admits(client) {
            return Ok(());
        }
        self.denied.fetch_add(1, Ordering::Relaxed);
        Err(Turned::Denied)
    }
}

async fn come_in(entered: Entered, client: IpAddr) -> Result<Option<Pass>, Turned> {
    if entered.line.is_none() {
        return Ok(entered.pass);
    }
    // In a box: those who do not wait do not carry a timer's room.
    Box::pin(entered.come_in(Some(client))).await
}

async fn wait_in(line: Option<Box<Line>>) {
    if let Some(line) = line {
        Box::pin(line.turn()).await;
    }
}

/// Waits until it is the turn of a connection of which nothing was read yet. `None` when it has
/// ended meanwhile: it has left, was not let in after all, or the worker ends.
pub(crate) async fn wait_for_turn(
    shard: &Rc<EdgeShard>,
    conn: Conn,
    listener: usize,
    via: Option<IpAddr>,
    entered: Entered,
) -> Option<(Conn, Option<Pass>)> {
    let client = (!shard.edge.arrivals[listener].has_trusted(&conn)).then(|| conn.peer.ip());
    let begun = Instant::now();
    let end = tokio::select! {
        pass = entered.come_in(client) => match pass {
            Ok(pass) => return Some((conn, pass)),
            Err(why) => {
                turn_away(shard, conn, listener, via, why);
                return None;
            }
        },
        () = conn.socket.peer_end() => End::by(Party::Client, Reason::Eof),
        signal = conn.watch.signal() => {
            debug_assert_ne!(signal, Signal::Expired, "a connection that waits has no deadline yet");
            End::by(Party::Edge, Reason::Drain)
        }
    };
    log(shard, ClientAddress::new(conn.peer, via), listener, begun, end, None);
    None
}

/// Ends a connection that a listener does not let in. Who comes too often or with too many is told,
/// if that can be done without a TLS handshake, and as long as not too many listen.
pub(crate) fn turn_away(
    shard: &Rc<EdgeShard>,
    conn: Conn,
    listener: usize,
    via: Option<IpAddr>,
    why: Turned,
) {
    let Conn { mut socket, watch, peer, .. } = conn;
    let reason = if why == Turned::Denied { Reason::Denied } else { Reason::Limited };
    let (client, end) = (ClientAddress::new(peer, via), End::by(Party::Edge, reason));
    log(shard, client, listener, Instant::now(), end, Some(why));
    let has_tls = shard.edge.tls[listener].is_some();
    if has_tls || why == Turned::Denied || shard.lingering.get() >= LINGERING_MAX {
        return;
    }
    let lingering = Lingering::begin(&shard.lingering);
    tokio::task::spawn_local(async move {
        let _lingering = lingering;
        let answer = too_many(why);
        // It has room for that: nothing was written to it yet.
        let written = poll_fn(|cx| match watch.poll_signal(cx) {
            Poll::Ready(_) => Poll::Ready(Ok(0)),
            Poll::Pending => socket.poll_write(cx, answer.as_bytes()),
        });
        if matches!(written.await, Ok(length) if length == answer.len()) {
            linger(&mut socket, &watch).await;
        }
    });
}

/// The line of a connection of which nothing was read.
fn log(
    shard: &Rc<EdgeShard>,
    client: ClientAddress,
    listener: usize,
    begun: Instant,
    end: End,
    why: Option<Turned>,
) {
    let record = ConnectionRecord {
        client,
        listener,
        begun,
        requests: 0,
        bytes_in: 0,
        bytes_out: 0,
        tls: None,
        error: why.map(|why| why.as_str().to_owned()),
    };
    let has_tls = shard.edge.tls[listener].is_some();
    record.log(shard, end, if has_tls { Phase::Tls } else { Phase::Request });
}

fn too_many(why: Turned) -> String {
    let Turned::Limited { limit, .. } = why else { return String::new() };
    let text = format!("429 Too Many Requests: {limit}\n");
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: {}\r\n\
         content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{text}",
        why.retry_after(),
        text.len()
    )
}

/// One of those who are told that they were turned away.
struct Lingering(Rc<Cell<usize>>);

impl Lingering {
    fn begin(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// On each worker. What is above it is a flood, and is closed without a word.
const LINGERING_MAX: usize = 256;
