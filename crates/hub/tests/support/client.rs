//! A WebSocket client for tests: real frames over a real socket, and every event as it came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::frame::{Opcode, encode_frame_masked};
use tidewire_wire::ws::handshake::{Offer, check_switch, encode_key};
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::DEADLINE;

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The stream ended.
    End,
    /// The stream broke.
    Reset,
}

impl Got {
    pub fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }
}

/// A connected client.
pub struct Client {
    pub stream: TcpStream,
    pub subprotocol: Option<String>,
    decoder: Decoder,
    got: VecDeque<Got>,
    buffer: Vec<u8>,
    answers_pings: bool,
}

impl Client {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::connect_with(address, path, &[], b"", None).await
    }

    pub async fn connect_v1(address: SocketAddr, path: &str) -> Self {
        Self::connect_with(address, path, &["tidewire.v1"], b"", None).await
    }

    /// `early` is sent in one piece with the handshake; `receive_buffer` makes the kernel hold
    /// little for a client that does not read.
    pub async fn connect_with(
        address: SocketAddr,
        path: &str,
        subprotocols: &[&str],
        early: &[u8],
        receive_buffer: Option<u32>,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = timeout(DEADLINE, socket.connect(address)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        let key = encode_key([7; 16]);
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            std::str::from_utf8(&key).unwrap()
        );
        if !subprotocols.is_empty() {
            request += &format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", "));
        }
        request += "\r\n";
        stream.write_all(&[request.as_bytes(), early].concat()).await.unwrap();
        let mut head = Vec::new();
        let (status, headers, length) = loop {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0, "no answer to the handshake");
            if let Some(parsed) = parse_head(&head) {
                break parsed;
            }
        };
        let mut offer = Offer::plain(key);
        offer.subprotocols =
            subprotocols.iter().map(|name| HeaderValue::from_str(name).unwrap()).collect();
        let switch = check_switch(status, &headers, &offer).unwrap();
        let limits = Limits {
            frame_bytes_max: 1 << 30,
            message_bytes_max: 1 << 30,
            fragments_max: u32::MAX,
        };
        let mut client = Self {
            stream,
            subprotocol: switch.subprotocol.map(|name| name.to_str().unwrap().to_owned()),
            decoder: Decoder::new(Role::Client, limits),
            got: VecDeque::new(),
            buffer: vec![0; 64 * 1024],
            answers_pings: true,
        };
        client.digest(&mut head[length..]);
        client
    }

    /// From now on pings are not answered.
    pub fn play_dead(&mut self) {
        self.answers_pings = false;
    }

    pub async fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes()).await;
    }

    pub async fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let bytes = frame(opcode, payload);
        self.send_bytes(&bytes).await;
    }

    pub async fn send_close(&mut self, code: u16) {
        let mut out = BytesMut::new();
        encode_close(CloseCode::new(code), "", Some([1, 2, 3, 4]), &mut out);
        self.send_bytes(&out).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// What comes next, pings and pongs included.
    pub async fn next_any(&mut self) -> Got {
        timeout(DEADLINE, self.wait()).await.expect("something comes in time")
    }

    /// The next message, Close or end. Pings are answered on the way.
    pub async fn next(&mut self) -> Got {
        loop {
            match self.next_any().await {
                Got::Ping(payload) if self.answers_pings => {
                    self.send_frame(Opcode::Pong, &payload).await;
                }
                Got::Ping(_) | Got::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// Makes sure that nothing comes for `time`.
    pub async fn nothing_for(&mut self, time: Duration) {
        if let Ok(got) = timeout(time, self.wait()).await {
            panic!("{got:?} came");
        }
    }

    async fn wait(&mut self) -> Got {
        loop {
            if let Some(got) = self.got.pop_front() {
                return got;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.stream.read(&mut buffer).await;
            match read {
                Ok(0) => self.got.push_back(Got::End),
                Ok(length) => self.digest(&mut buffer[..length]),
                Err(_) => self.got.push_back(Got::Reset),
            }
            self.buffer = buffer;
        }
    }

    fn digest(&mut self, mut input: &mut [u8]) {
        while let Some(event) = self.decoder.next(&mut input).expect("the hub sends good frames") {
            self.got.push_back(match event {
                Event::Text(text) => Got::Text(String::from_utf8(text.to_vec()).unwrap()),
                Event::Binary(bytes) => Got::Binary(bytes.to_vec()),
                Event::Ping(payload) => Got::Ping(payload.to_vec()),
                Event::Pong(payload) => Got::Pong(payload.to_vec()),
                Event::Close { code, reason } => {
                    Got::Close(code.map(CloseCode::as_u16), reason.into_owned())
                }
            });
        }
    }
}

/// A client's frame.
pub fn frame(opcode: Opcode, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_frame_masked(opcode, payload, [0x12, 0x34, 0x56, 0x78], &mut out);
    out
}

fn parse_head(head: &[u8]) -> Option<(StatusCode, HeaderMap, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(head).unwrap() else { return None };
    let status = StatusCode::from_u16(response.code.unwrap()).unwrap();
    let mut map = HeaderMap::new();
    for header in response.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(header.value).unwrap());
    }
    Some((status, map, length))
}
