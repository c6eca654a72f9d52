//! Tokens as a test makes them, and the `[[auth]]` that takes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::websocket::handshake;

/// The `[[auth]]` named `users`, which takes [`token`]s, without leeway.
pub const USERS: &str = "\n[[auth]]\nname = \"users\"\n\
    jwt = { secret = \"a secret of thirty-two bytes, ok\", leeway = \"0s\" }\n";

/// A token of ann that was issued now and ends in ten minutes, with these claims over its own.
pub fn token(claims: &Value) -> String {
    let now = now();
    let mut all = json!({ "sub": "ann", "iat": now, "exp": now + 600 });
    all.as_object_mut().expect("it is one").extend(claims.as_object().expect("claims").clone());
    let key = EncodingKey::from_secret(b"a secret of thirty-two bytes, ok");
    encode(&Header::new(Algorithm::HS256), &all, &key).expect("claims are JSON")
}

/// The text of a handshake that shows a token, and offers `tidewire.v1` when `is_v1`.
pub fn handshake_with(path: &str, token: &str, is_v1: bool) -> String {
    let offer = if is_v1 { "Sec-WebSocket-Protocol: tidewire.v1\r\n" } else { "" };
    let more = format!("\r\nAuthorization: Bearer {token}\r\n{offer}\r\n");
    handshake(path).replace("\r\n\r\n", &more)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    since_epoch().as_secs()
}

/// How far `expires`, in seconds since 1970, lies behind; zero before it.
pub fn since(expires: u64) -> Duration {
    since_epoch().saturating_sub(Duration::from_secs(expires))
}

/// Waits for the next second, in which a new token is newer than what was revoked in this one.
pub fn next_second() {
    let at = now();
    crate::deadline::until("the next second", || (now() > at).then_some(()));
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later")
}
