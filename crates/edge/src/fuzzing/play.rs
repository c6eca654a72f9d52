//! A script, played against an edge, and what must hold once it is over.

use std::net::SocketAddr;
use std::time::Duration;

use tidewire_runtime::memory::MemoryStream;

use super::http_witness::{self, Read};
use super::rig::{AUTH, CLIENT, Pinging, Rig};
use super::script::{Pause, Side, Step, steps};
use super::stub::SUBPROTOCOL;
use super::tunnel_witness::{self, Direction};
use crate::end::{Party, Reason};

/// Plays `script` on `rig`, waits until all that it began has ended, and checks what everybody got.
/// Says what the edge has met with.
pub async fn play(rig: Rig, script: &[u8]) -> Met {
    let mut play = Play { rig, clients: Vec::new(), servers: Vec::new(), turn: (Side::Client, 0) };
    for step in steps(script) {
        play.take(step).await;
    }
    play.finish().await;
    play.check();
    Met { ends: play.rig.ends().collect(), rules: play.rig.met_rules().collect() }
}

/// What an edge has met with: how connections have ended, and the rules that have held.
#[cfg_attr(not(test), allow(dead_code, reason = "targets ask only whether promises hold"))]
pub struct Met {
    pub ends: Vec<(Party, Reason)>,
    pub rules: Vec<usize>,
}

struct Play {
    rig: Rig,
    clients: Vec<Peer>,
    servers: Vec<Peer>,
    turn: (Side, usize),
}

/// The other end of one of the edge's connections.
struct Peer {
    /// `None` when it is gone.
    stream: Option<MemoryStream>,
    /// Of a server.
    address: Option<SocketAddr>,
    is_reading: bool,
    said: Vec<u8>,
    got: Vec<u8>,
}

impl Play {
    async fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Turn(side, index) => {
                self.settle().await;
                if side == Side::Client && index >= self.clients.len() {
                    self.clients.push(Peer::new(self.rig.connect(), None));
                }
                self.turn = (side, index);
            }
            Step::Settle => self.settle().await,
            Step::Wait(Pause::Tick) => self.wait(Duration::from_millis(100)).await,
            Step::Wait(Pause::Long) => self.wait(Duration::from_millis(1600)).await,
            Step::Drain => self.rig.worker.drain(),
            Step::Say(bytes) => self.peer(|peer| peer.say(bytes)),
            Step::Switch => self.peer(Peer::switch),
            Step::End => self.peer(Peer::end),
            Step::Leave => self.peer(Peer::leave),
            Step::Pong if self.rig.pinging == Pinging::Yes => self.pong(),
            Step::Pong => {}
            Step::Reset => self.peer(Peer::reset),
            Step::Reading(is_reading) => self.peer(|peer| peer.is_reading = is_reading),
        }
    }

    /// Whoever's turn it is, if it is there.
    fn peer(&mut self, act: impl FnOnce(&mut Peer)) {
        let (side, index) = self.turn;
        let peers = match side {
            Side::Client => &mut self.clients,
            Side::Server => &mut self.servers,
        };
        // With fewer of them than the script believes, it is the last one's.
        let index = index.min(peers.len().saturating_sub(1));
        if let Some(peer) = peers.get_mut(index) {
            act(peer);
        }
    }

    /// Whoever's turn it is answers the ping that the edge has sent it last.
    fn pong(&mut self) {
        let others = match self.turn.0 {
            Side::Client => &self.servers,
            Side::Server => &self.clients,
        };
        // The pong of a ping that another has said goes on to that one.
        let said: Vec<Vec<u8>> = others.iter().map(|other| other.said.clone()).collect();
        self.peer(|peer| peer.pong(&said));
    }

    /// Has everything happen that can happen now. tokio's clock is paused: it goes on when there is
    /// nothing else to do.
    async fn settle(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let dialled = self.rig.dialled();
            self.servers.extend(
                dialled.into_iter().map(|dialled| Peer::new(dialled.stream, Some(dialled.address))),
            );
            let mut has_read = false;
            for peer in self.clients.iter_mut().chain(&mut self.servers) {
                has_read |= peer.is_reading && peer.read();
            }
            if !has_read {
                return;
            }
        }
    }

    async fn wait(&mut self, time: Duration) {
        self.settle().await;
        tokio::time::sleep(time).await;
        self.settle().await;
    }

    /// Whatever they do, every deadline of theirs has passed in the end.
    async fn finish(&mut self) {
        let mut patience = PATIENCE;
        while patience > 0 && !self.rig.is_idle() {
            let before = self.got_bytes();
            self.wait(Duration::from_millis(250)).await;
            // One answer after the other: each has its own time.
            patience = if self.got_bytes() > before { PATIENCE } else { patience - 1 };
        }
        assert!(self.rig.is_idle(), "a connection or a lease outlives its deadlines");
        // What they have not taken is there all the same.
        for peer in self.clients.iter_mut().chain(&mut self.servers) {
            peer.read();
        }
    }

    fn got_bytes(&self) -> usize {
        self.clients.iter().chain(&self.servers).map(|peer| peer.got.len()).sum()
    }

    fn check(&self) {
        self.rig.check_counts();
        let servers: Vec<Read> = self.servers.iter().map(Peer::check_server).collect();
        let clients: Vec<Read> = self.clients.iter().map(Peer::check_client).collect();
        self.check_numbers(&clients, &servers);
        for (client, read) in self.clients.iter().zip(&clients) {
            self.check_tunnel(client, read);
        }
        for read in servers.iter().filter(|read| !read.tunnel.is_empty()) {
            let is_from = |client: &Peer| self.is_from(read, client, Direction::ToServer);
            assert!(self.clients.iter().any(is_from), "a server got what nobody said");
        }
    }

    /// Servers see no more requests than clients got answers to, but one for each client that is
    /// under way when it ends, one that was answered when it was gone, and those that went out
    /// again because a kept connection was closed by its server.
    fn check_numbers(&self, clients: &[Read], servers: &[Read]) {
        let of_clients = |&(peer, _): &(&Peer, &Read)| !peer.is_auth();
        let servers = || self.servers.iter().zip(servers).filter(of_clients);
        let seen: usize = servers().map(|(_, read)| read.heads.len()).sum();
        let again = servers().filter(|(_, read)| read.heads.len() > 1).count();
        let answered: usize = clients.iter().map(Read::finals).sum();
        let gone = self.clients.iter().filter(|client| client.stream.is_none()).count();
        assert!(
            seen <= answered + clients.len() + gone + again,
            "{seen} requests reached servers, {answered} were answered"
        );
    }

    /// Whether what one has `read` is what `peer` has said, but for our pings.
    fn is_from(&self, read: &Read, peer: &Peer, direction: Direction) -> bool {
        match self.rig.pinging {
            Pinging::No => tunnel_witness::is_from(&read.tunnel, &peer.said, direction),
            Pinging::Yes => tunnel_witness::is_from_or_ping(&read.tunnel, &peer.said, direction),
        }
    }

    /// Behind a 101 there is what a server has said behind its own, and perhaps our Close.
    fn check_tunnel(&self, client: &Peer, read: &Read) {
        if read.tunnel.is_empty() {
            return;
        }
        let head = read.heads.last().expect("a tunnel follows a head");
        let is_stub = head.has("sec-websocket-protocol", SUBPROTOCOL.as_bytes());
        let is_from = |server: &Peer| self.is_from(read, server, Direction::ToClient);
        let is_servers = self.servers.iter().any(is_from);
        // The echo may lack what it had no room for.
        assert!(is_servers || is_stub && !client.said.is_empty(), "a client got what nobody said");
    }
}

impl Peer {
    fn new(stream: MemoryStream, address: Option<SocketAddr>) -> Self {
        let (said, got) = (Vec::new(), Vec::new());
        Self { stream: Some(stream), address, is_reading: true, said, got }
    }

    fn is_auth(&self) -> bool {
        self.address.is_some_and(|address| address.port() == AUTH)
    }

    fn say(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        if stream.try_write(bytes).is_ok() {
            self.said.extend_from_slice(bytes);
        }
    }

    fn switch(&mut self) {
        self.read();
        let Ok(read) = http_witness::requests(&self.got) else { return };
        let Some(accept) = http_witness::accept(&read) else { return };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.say(head.as_bytes());
    }

    /// Answers the ping that it got last and none of the others has `said`, where a frame of its
    /// own can stand.
    fn pong(&mut self, said: &[Vec<u8>]) {
        self.read();
        let direction = match self.address {
            Some(_) => Direction::ToServer,
            None => Direction::ToClient,
        };
        let Some(pong) = tunnel_witness::pong(&self.got, said, direction) else { return };
        let is_between = tunnel_witness::is_between_frames(&self.said);
        if let Some(stream) = self.stream.as_mut().filter(|_| is_between) {
            // It is not said to the other side.
            let _ = stream.try_write(&pong);
        }
    }

    fn end(&mut self) {
        let ended = self.stream.as_mut().map(MemoryStream::shutdown_write);
        drop(ended);
    }

    fn leave(&mut self) {
        self.stream = None;
    }

    fn reset(&mut self) {
        self.read();
        self.stream.iter_mut().for_each(MemoryStream::reset_on_drop);
        self.leave();
    }

    /// Whether there was something to read.
    fn read(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let before = self.got.len();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.try_read(&mut buffer) {
            self.got.extend_from_slice(&buffer[..length]);
        }
        self.got.len() > before
    }

    /// What a server got is strict, and says of clients what this edge knows of them.
    fn check_server(&self) -> Read {
        let read = http_witness::requests(&self.got)
            .unwrap_or_else(|wrong| panic!("a server got {wrong}"));
        let peer: SocketAddr = CLIENT.parse().expect("an address");
        let peer = peer.ip().to_string();
        for head in &read.heads {
            let mut said = head.all("x-forwarded-for");
            assert_eq!(said.next(), Some(peer.as_bytes()), "{head:?}");
            assert_eq!(said.next(), None, "{head:?}");
            assert!(self.is_auth() || head.all("forwarded").count() == 1, "{head:?}");
            assert!(head.has("x-forwarded-proto", b"http"), "{head:?}");
            assert!(head.all("x-user").count() <= 1, "{head:?}");
        }
        if !read.tunnel.is_empty() {
            let accept = http_witness::accept(&read).expect("a handshake has a key");
            let has_accepted =
                self.said.windows(accept.len()).any(|part| part == accept.as_bytes());
            assert!(has_accepted, "a server that has not switched got frames");
        }
        read
    }

    fn check_client(&self) -> Read {
        let may_head = self.said.windows(4).any(|four| four == b"HEAD");
        http_witness::responses(&self.got, may_head)
            .unwrap_or_else(|wrong| panic!("a client got {wrong}"))
    }
}

/// Quarters of a second that everything has to end in, behind the last word.
const PATIENCE: usize = 120;
