//! The opening handshake (RFC 6455, section 4): is a request a WebSocket, and did the server
//! really switch.
//!
//! Both questions are asked by a proxy too. One that tunnels on the word of either side alone lets
//! a client smuggle requests through a connection that never became a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use sha1::{Digest as _, Sha1};

use crate::http::tokens::{contains_token, tokens, trim};
use crate::ws::rules::Extensions;

/// What a request is, as far as WebSocket goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classified {
    /// Plain HTTP; an `Upgrade` in it is ignored.
    NotWebSocket,
    /// A handshake that is whole and right.
    WebSocket(Offer),
    /// A handshake that must not be answered with 101.
    Refused(Refusal),
}

/// What a client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `Sec-WebSocket-Key` as it was sent: 16 bytes in base64.
    pub key: [u8; KEY_BYTES],
    /// In the client's order of preference.
    pub subprotocols: Vec<HeaderValue>,
    /// The names of the extensions, without their parameters.
    pub extensions: Vec<HeaderValue>,
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a WebSocket handshake has no body")]
    Body,
    #[error("a WebSocket handshake is a GET")]
    Method,
    #[error("Sec-WebSocket-Version must be there once and be 13")]
    Version,
    #[error("Sec-WebSocket-Key must be there once and be 16 bytes in base64")]
    Key,
}

/// What a server agreed to with its 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub subprotocol: Option<HeaderValue>,
    /// What the frames may have because of it.
    pub extensions: Extensions,
}

/// Why an answer is not the 101 of a WebSocket server to this offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSwitch {
    #[error("status {0} instead of 101")]
    Status(StatusCode),
    #[error("Upgrade is not websocket alone")]
    Upgrade,
    #[error("Connection lacks upgrade")]
    Connection,
    #[error("Sec-WebSocket-Accept is missing")]
    AcceptMissing,
    #[error("Sec-WebSocket-Accept is there more than once")]
    AcceptRepeated,
    #[error("Sec-WebSocket-Accept {0:?} does not answer the key")]
    AcceptWrong(HeaderValue),
    #[error("more than one subprotocol was chosen")]
    SubprotocolRepeated,
    #[error("subprotocol {0:?} was not offered")]
    SubprotocolNotOffered(HeaderValue),
    #[error("extension {0:?} was not offered")]
    ExtensionNotOffered(HeaderValue),
}

/// Tells a WebSocket handshake from plain HTTP, and a good one from a bad one.
pub fn classify(method: &Method, version: Version, headers: &HeaderMap) -> Classified {
    // HTTP/1.0 must ignore Upgrade (RFC 9110, section 7.8), HTTP/2 has none, and without the
    // token in Connection it is of another hop.
    if version != Version::HTTP_11
        || !contains_token(headers, &header::UPGRADE, "websocket")
        || !contains_token(headers, &header::CONNECTION, "upgrade")
    {
        return Classified::NotWebSocket;
    }
    match offer(method, headers) {
        Ok(offer) => Classified::WebSocket(offer),
        Err(refusal) => Classified::Refused(refusal),
    }
}

/// Checks a server's answer to `offer`.
pub fn check_switch(
    status: StatusCode,
    headers: &HeaderMap,
    offer: &Offer,
) -> Result<Switch, BadSwitch> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadSwitch::Status(status));
    }
    let mut protocols = tokens(headers, &header::UPGRADE);
    match (protocols.next(), protocols.next()) {
        (Some(protocol), None) if protocol.eq_ignore_ascii_case(b"websocket") => {}
        _ => return Err(BadSwitch::Upgrade),
    }
    if !contains_token(headers, &header::CONNECTION, "upgrade") {
        return Err(BadSwitch::Connection);
    }
    check_accept(headers, offer)?;
    let extensions = chosen_extensions(headers, offer)?;
    Ok(Switch { subprotocol: chosen_subprotocol(headers, offer)?, extensions })
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_BYTES];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_BYTES));
    accept
}

/// A `Sec-WebSocket-Key` of 16 random bytes, for a client.
pub fn encode_key(nonce: [u8; 16]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let written = STANDARD.encode_slice(nonce, &mut key);
    debug_assert_eq!(written, Ok(KEY_BYTES));
    key
}

impl Offer {
    /// The offer of a client that wants neither subprotocol nor extension.
    pub fn plain(key: [u8; KEY_BYTES]) -> Offer {
        Offer { key, subprotocols: Vec::new(), extensions: Vec::new() }
    }
}

impl Refusal {
    /// The answer. To 426 belongs `Sec-WebSocket-Version: 13` (RFC 6455, section 4.4), to 405
    /// `Allow: GET`.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Body | Refusal::Key => StatusCode::BAD_REQUEST,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Version => StatusCode::UPGRADE_REQUIRED,
        }
    }

    /// The header that the status asks for.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Refusal::Body | Refusal::Key => None,
            Refusal::Method => Some((header::ALLOW, HeaderValue::from_static("GET"))),
            Refusal::Version => Some((header::SEC_WEBSOCKET_VERSION, VERSION)),
        }
    }
}

fn offer(method: &Method, headers: &HeaderMap) -> Result<Offer, Refusal> {
    // The body first: with one, nobody could say where the frames begin.
    let has_length = headers.get_all(header::CONTENT_LENGTH).into_iter().any(|it| it != "0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::Body);
    }
    if method != Method::GET {
        return Err(Refusal::Method);
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(Refusal::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).and_then(parse_key).ok_or(Refusal::Key)?;
    Ok(Offer {
        key,
        subprotocols: values(tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)),
        extensions: values(extension_names(headers)),
    })
}

/// 22 characters hold 16 bytes and 4 bits to spare, in which senders are known to be careless.
fn parse_key(value: &HeaderValue) -> Option<[u8; KEY_BYTES]> {
    let key: [u8; KEY_BYTES] = value.as_bytes().try_into().ok()?;
    let (digits, padding) = key.split_at(KEY_BYTES - 2);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (digits.iter().all(is_digit) && padding == b"==").then_some(key)
}

fn check_accept(headers: &HeaderMap, offer: &Offer) -> Result<(), BadSwitch> {
    let mut accepts = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).into_iter();
    let accept = accepts.next().ok_or(BadSwitch::AcceptMissing)?;
    if accepts.next().is_some() {
        return Err(BadSwitch::AcceptRepeated);
    }
    if accept.as_bytes() != accept_key(&offer.key) {
        return Err(BadSwitch::AcceptWrong(accept.clone()));
    }
    Ok(())
}

fn chosen_extensions(headers: &HeaderMap, offer: &Offer) -> Result<Extensions, BadSwitch> {
    let mut extensions = Extensions::None;
    for name in extension_names(headers) {
        if !offer.extensions.iter().any(|offered| offered == name) {
            return Err(BadSwitch::ExtensionNotOffered(value(name)));
        }
        extensions = match (name, extensions) {
            (b"permessage-deflate", Extensions::None) => Extensions::Deflate,
            _ => Extensions::Unknown,
        };
    }
    Ok(extensions)
}

fn chosen_subprotocol(
    headers: &HeaderMap,
    offer: &Offer,
) -> Result<Option<HeaderValue>, BadSwitch> {
    let mut lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let Some(chosen) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(BadSwitch::SubprotocolRepeated);
    }
    if !offer.subprotocols.contains(chosen) {
        return Err(BadSwitch::SubprotocolNotOffered(chosen.clone()));
    }
    Ok(Some(chosen.clone()))
}

/// The value of a header that may be there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// A parameter's value is a token, also if it is quoted (RFC 6455, section 9.1), so a comma always
/// separates extensions.
fn extension_names(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    tokens(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
        .filter_map(|extension| extension.split(|byte| *byte == b';').next())
        .map(trim)
}

fn values<'h>(tokens: impl Iterator<Item = &'h [u8]>) -> Vec<HeaderValue> {
    tokens.map(value).collect()
}

fn value(part: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(part).expect("a part of a header value is a header value")
}

/// The length of a `Sec-WebSocket-Key`.
pub const KEY_BYTES: usize = 24;
/// The length of a `Sec-WebSocket-Accept`.
pub const ACCEPT_BYTES: usize = 28;

/// The only version there is.
pub const VERSION: HeaderValue = HeaderValue::from_static("13");

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
