//! What scripted servers do: what servers do, and what they do wrong.
//!
//! To add one: a function here, named for what it does wrong.

use crate::http::Request;
use crate::peer::Peer;
use crate::websocket::{Got, Opcode, WebSocket, accept, server_frame, switch};

/// Answers 200 and says what the request was: its first line, its headers, its body.
pub fn mirrors(request: &Request, peer: &mut Peer) {
    let mut text = format!("{} {}\n", request.method, request.target);
    for (name, value) in &request.headers.0 {
        text += &format!("{name}: {value}\n");
    }
    let body = peer.body(&request.headers).bytes;
    text += &format!("\n{}", String::from_utf8_lossy(&body));
    answers(200, &text)(request, peer);
}

/// Answers with a status and a text, and is ready for the next request.
pub fn answers(status: u16, text: &str) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    let head = format!("HTTP/1.1 {status} Is\r\nContent-Length: {}\r\n\r\n", text.len());
    let text = text.to_owned();
    move |request, peer| {
        let is_head = request.method == "HEAD";
        peer.send(if is_head { head.clone() } else { format!("{head}{text}") });
    }
}

/// A WebSocket server that says everything back, in order, and answers a Close with it.
pub fn echoes(request: &Request, peer: &mut Peer) {
    let mut socket = accepts(request, peer);
    loop {
        match socket.next() {
            Got::Text(text) => socket.send(&text),
            Got::Binary(bytes) => socket.send_frame(Opcode::Binary, &bytes),
            Got::Ping(payload) => socket.send_frame(Opcode::Pong, &payload),
            Got::Pong(_) => {}
            Got::Close(code, reason) => {
                socket.send_close(code.unwrap_or(1000), &reason);
                return peer.close();
            }
            Got::End => return peer.close(),
        }
    }
}

/// Answers a request with `name`, and echoes on a WebSocket: to see who serves whom.
pub fn serves(name: &'static str) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    let answers = answers(200, name);
    move |request, peer| match request.headers.has("upgrade") {
        true => echoes(request, peer),
        false => answers(request, peer),
    }
}

/// A WebSocket server that takes everything and says nothing.
pub fn swallows(request: &Request, peer: &mut Peer) {
    let mut socket = accepts(request, peer);
    while socket.next() != Got::End {}
    peer.close();
}

/// Sends the 101, and then neither reads nor writes.
pub fn stalls_after_101(request: &Request, peer: &mut Peer) {
    accepts(request, peer);
    // Until the test is over: nobody reads what comes.
    loop {
        std::thread::park();
    }
}

/// After the 101 says `bye`, ends its direction, and goes on reading until the other side ends.
pub fn half_closes(request: &Request, peer: &mut Peer) {
    let mut socket = accepts(request, peer);
    socket.send("bye");
    peer.finish();
    peer.expect_gone();
}

/// Answers a handshake as if it were a plain request.
pub fn answers_200_to_upgrade(_: &Request, peer: &mut Peer) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

/// Answers a handshake with 426, as a server that wants another version.
pub fn declines_with_426(_: &Request, peer: &mut Peer) {
    peer.send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n");
}

/// Sends a 101 whose Accept answers another key.
pub fn wrong_accept(_: &Request, peer: &mut Peer) {
    peer.send(switch("AAAAAAAAAAAAAAAAAAAAAA=="));
}

/// Sends a 101 without an Accept.
pub fn no_accept(request: &Request, peer: &mut Peer) {
    let accept = format!("Sec-WebSocket-Accept: {}\r\n", accept(key(request)));
    peer.send(switch(key(request)).replace(&accept, ""));
}

/// Sends a 101 with the right Accept twice.
pub fn two_accepts(request: &Request, peer: &mut Peer) {
    let accept = format!("Sec-WebSocket-Accept: {}\r\n", accept(key(request)));
    peer.send(switch(key(request)).replace(&accept, &accept.repeat(2)));
}

/// Sends a 101 that says which protocol it switches to, and it is not websocket.
pub fn switches_to_foo(request: &Request, peer: &mut Peer) {
    peer.send(switch(key(request)).replace("Upgrade: websocket", "Upgrade: foo"));
}

/// Sends a 101 that does not say what it switches to.
pub fn switches_to_nothing(request: &Request, peer: &mut Peer) {
    peer.send(switch(key(request)).replace("Upgrade: websocket\r\n", ""));
}

/// Sends a 101 without `Connection: upgrade`.
pub fn switches_without_connection(request: &Request, peer: &mut Peer) {
    peer.send(switch(key(request)).replace("Connection: Upgrade\r\n", ""));
}

/// Sends a 101 with a subprotocol that nobody offered.
pub fn picks_a_subprotocol_of_its_own(request: &Request, peer: &mut Peer) {
    let end = "\r\nSec-WebSocket-Protocol: of-its-own\r\n\r\n";
    peer.send(switch(key(request)).replace("\r\n\r\n", end));
}

/// Switches protocols though nobody has asked it to.
pub fn switches_unasked(_: &Request, peer: &mut Peer) {
    peer.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
}

/// Sends a 100 and a 103 before its 101, and then echoes.
pub fn hints_before_101(request: &Request, peer: &mut Peer) {
    peer.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    echoes(request, peer);
}

/// Sends the first frame in one piece with the 101, and then echoes.
pub fn glues_bytes_to_101(request: &Request, peer: &mut Peer) {
    let first = server_frame(Opcode::Text, b"glued");
    peer.send([switch(key(request)).as_bytes(), &first].concat());
    echo_on(peer);
}

/// Reads the request and closes.
pub fn closes_before_answer(_: &Request, peer: &mut Peer) {
    peer.close();
}

/// Reads the request and never answers.
pub fn never_answers(_: &Request, peer: &mut Peer) {
    peer.expect_gone();
}

/// Answers with what is not HTTP.
pub fn speaks_no_http(_: &Request, peer: &mut Peer) {
    peer.send("220 mail.test ESMTP\r\n\r\n");
    peer.close();
}

/// Promises a body of 100 bytes and closes after ten.
pub fn breaks_off_its_body(_: &Request, peer: &mut Peer) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
    peer.close();
}

/// Sends a head and half of its body, and then nothing more.
pub fn stalls_in_its_body(_: &Request, peer: &mut Peer) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789");
    peer.expect_gone();
}

/// Sends its 101; the WebSocket is the script's from here.
pub fn accepts(request: &Request, peer: &mut Peer) -> WebSocket {
    peer.send(switch(key(request)));
    WebSocket::served(peer.take_over())
}

fn echo_on(peer: &mut Peer) {
    let mut socket = WebSocket::served(peer.take_over());
    while let Got::Text(text) = socket.next() {
        socket.send(&text);
    }
    peer.close();
}

fn key(request: &Request) -> &str {
    request.headers.get("sec-websocket-key").expect("a handshake has a key")
}
