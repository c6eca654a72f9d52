//! A WebSocket as a test holds one: real frames over a real socket, every event as it came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tidewire_wire::ws::close::{CloseCode, encode_close};
pub use tidewire_wire::ws::frame::Opcode;
use tidewire_wire::ws::frame::{encode_frame, encode_frame_masked};
use tidewire_wire::ws::handshake::accept_key;
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};

use crate::http::Response;
use crate::peer::Peer;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    pub peer: Peer,
    /// The 101 that opened it; `None` on the server's side.
    pub response: Option<Response>,
    mask: Option<[u8; 4]>,
    decoder: Decoder,
    got: VecDeque<Got>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The end of the stream.
    End,
}

/// The text of a good handshake. Tests that want another one replace a line of it.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The 101 that answers a handshake of this key.
pub fn switch(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )
}

/// The `Sec-WebSocket-Accept` that answers a key.
pub fn accept(key: &str) -> String {
    String::from_utf8_lossy(&accept_key(key.as_bytes())).into_owned()
}

/// The key of [`handshake`], from RFC 6455, section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The bytes of a client's frame.
pub fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_frame_masked(opcode, payload, MASK, &mut frame);
    frame.to_vec()
}

/// The bytes of a server's frame.
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_frame(opcode, payload, &mut frame);
    frame.to_vec()
}

impl WebSocket {
    /// Opens one on `path`, without a subprotocol.
    #[track_caller]
    pub fn connect(address: SocketAddr, path: &str) -> Self {
        Self::upgrade(Peer::connect(address), &handshake(path))
    }

    /// Opens one that speaks `tidewire.v1`.
    #[track_caller]
    pub fn connect_v1(address: SocketAddr, path: &str) -> Self {
        let offer = "\r\nSec-WebSocket-Protocol: tidewire.v1\r\n\r\n";
        let text = handshake(path).replace("\r\n\r\n", offer);
        Self::upgrade(Peer::connect(address), &text)
    }

    /// Sends a handshake and expects the 101.
    #[track_caller]
    pub fn upgrade(peer: Peer, handshake: &str) -> Self {
        Self::try_upgrade(peer, handshake).unwrap_or_else(|(response, _)| {
            panic!("{} instead of 101: {}", response.status, response.text())
        })
    }

    /// Opens one, or returns the answer that is not a 101, with the connection.
    #[track_caller]
    pub fn try_upgrade(mut peer: Peer, handshake: &str) -> Result<Self, (Box<Response>, Peer)> {
        peer.send(handshake);
        let response = peer.response();
        if response.status != 101 {
            return Err((Box::new(response), peer));
        }
        assert_eq!(response.headers.get("sec-websocket-accept"), Some(accept(KEY).as_str()));
        Ok(Self { response: Some(response), ..Self::new(peer, Role::Client) })
    }

    /// The client's end of a connection on which a 101 has been read.
    pub fn opened(peer: Peer) -> Self {
        Self::new(peer, Role::Client)
    }

    /// The server's end of a connection on which a 101 has been sent.
    pub fn served(peer: Peer) -> Self {
        Self::new(peer, Role::Server)
    }

    fn new(peer: Peer, role: Role) -> Self {
        let limits = Limits {
            frame_bytes_max: 1 << 30,
            message_bytes_max: 1 << 30,
            fragments_max: u32::MAX,
        };
        let mask = matches!(role, Role::Client).then_some(MASK);
        let decoder = Decoder::new(role, limits);
        Self { peer, response: None, mask, decoder, got: VecDeque::new() }
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes());
    }

    #[track_caller]
    pub fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let frame = match self.mask {
            Some(_) => client_frame(opcode, payload),
            None => server_frame(opcode, payload),
        };
        self.peer.send(frame);
    }

    #[track_caller]
    pub fn send_close(&mut self, code: u16, reason: &str) {
        let mut frame = BytesMut::new();
        encode_close(CloseCode::new(code), reason, self.mask, &mut frame);
        self.peer.send(frame);
    }

    /// What comes next.
    // Not an iterator: it fails the test when nothing comes in time.
    #[allow(clippy::should_implement_trait)]
    #[track_caller]
    pub fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.got.pop_front() {
                return got;
            }
            let mut bytes = self.peer.take_some();
            if bytes.is_empty() {
                return Got::End;
            }
            self.digest(&mut bytes);
        }
    }

    /// The next text; pings are answered on the way.
    #[track_caller]
    pub fn text(&mut self) -> String {
        loop {
            match self.next() {
                Got::Text(text) => return text,
                Got::Ping(payload) => self.send_frame(Opcode::Pong, &payload),
                other => panic!("{other:?} instead of a text"),
            }
        }
    }

    /// The next text, which is JSON.
    #[track_caller]
    pub fn json(&mut self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Sends a text and hears it back.
    #[track_caller]
    pub fn expect_echo(&mut self, text: &str) {
        self.send(text);
        assert_eq!(self.text(), text);
    }

    /// A Close of this code comes next, and is answered; then the end.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        match self.next() {
            Got::Close(Some(found), reason) => assert_eq!(found, code, "{reason}"),
            other => panic!("{other:?} instead of a Close"),
        }
        self.send_close(code, "");
        assert_eq!(self.next(), Got::End);
    }

    /// Nothing comes for `time`.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        assert_eq!(self.got.front(), None);
        self.peer.expect_silence(time);
    }

    #[track_caller]
    fn digest(&mut self, mut bytes: &mut [u8]) {
        loop {
            let got = match self.decoder.next(&mut bytes) {
                Ok(Some(Event::Text(text))) => {
                    Got::Text(String::from_utf8(text.to_vec()).expect("the decoder has looked"))
                }
                Ok(Some(Event::Binary(bytes))) => Got::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(payload))) => Got::Ping(payload.to_vec()),
                Ok(Some(Event::Pong(payload))) => Got::Pong(payload.to_vec()),
                Ok(Some(Event::Close { code, reason })) => {
                    Got::Close(code.map(CloseCode::as_u16), reason.into_owned())
                }
                Ok(None) => return,
                Err(violation) => panic!("what came is not WebSocket: {violation}"),
            };
            self.got.push_back(got);
        }
    }
}

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
