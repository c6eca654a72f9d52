//! The probe that does what clients do: a WebSocket handshake, a ping, its pong, a close.

use bytes::BytesMut;
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::frame::{Opcode, encode_frame_masked};
use tidewire_wire::ws::handshake::{Offer, check_switch, encode_key};
use tidewire_wire::ws::message::{Decoder, Event, Limits, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::ProbeStream;
use super::target::Target;
use super::{ProbeError, http, tcp};

/// Opens a WebSocket on the check's path, pings, and waits for the pong.
pub(super) async fn probe(target: &Target<'_>) -> Result<(), ProbeError> {
    let Target { check, address, .. } = target;
    let mut stream = tcp::probe(target).await?;
    let key = encode_key(fastrand::u128(..).to_ne_bytes());
    let more = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\n",
        str::from_utf8(&key).expect("base64 is ASCII")
    );
    stream.write_all(&http::request_head(check, address, &more)).await?;
    let (status, headers, rest) = http::read_head(&mut stream).await?;
    check_switch(status, &headers, &Offer::plain(key))
        .map_err(|wrong| ProbeError::Switch(wrong.to_string()))?;
    ping(&mut stream, rest).await
}

async fn ping(stream: &mut ProbeStream, mut bytes: BytesMut) -> Result<(), ProbeError> {
    let mut frames = BytesMut::new();
    encode_frame_masked(Opcode::Ping, PAYLOAD, mask(), &mut frames);
    stream.write_all(&frames).await?;
    let limits =
        Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragments_max: 1024 };
    let mut decoder = Decoder::new(Role::Client, limits);
    loop {
        if has_pong(&mut decoder, &mut bytes)? {
            break;
        }
        bytes.clear();
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ProbeError::NoPong("the end of the connection".into()));
        }
    }
    frames.clear();
    encode_close(CloseCode::NORMAL, "", Some(mask()), &mut frames);
    // The server is well, whatever becomes of this.
    let _ = stream.write_all(&frames).await;
    Ok(())
}

/// Whether the pong is among `bytes`; messages of the application may come before it.
fn has_pong(decoder: &mut Decoder, bytes: &mut BytesMut) -> Result<bool, ProbeError> {
    let mut input = &mut bytes[..];
    loop {
        match decoder.next(&mut input) {
            Ok(Some(Event::Pong(payload))) if *payload == *PAYLOAD => return Ok(true),
            Ok(Some(Event::Close { .. })) => return Err(ProbeError::NoPong("a Close".into())),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(violation) => return Err(ProbeError::NoPong(violation.to_string())),
        }
    }
}

fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}

const PAYLOAD: &[u8] = b"tidewire-check";
