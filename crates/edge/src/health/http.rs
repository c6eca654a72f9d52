//! The probe that asks for a path and looks at the answer: its status, what else is expected of it,
//! and whether the server says that it drains.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;

use super::stream::ProbeStream;
use super::target::Target;
use super::{Answer, CheckConfig, ProbeError, expectation, tcp};
use crate::address::Address;

/// Asks the server for the check's path.
pub(super) async fn probe(target: &Target<'_>) -> Result<Answer, ProbeError> {
    let Target { check, address, .. } = target;
    let stream = tcp::probe(target).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let connected = builder.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(wrong)?;
    let asked = async {
        let response = sender.send_request(request(check, address)).await.map_err(wrong)?;
        judge(check, response).await
    };
    // The connection is driven beside the question, and is closed with its answer.
    tokio::select! {
        biased;
        answer = asked => answer,
        ended = drive(connection) => Err(ended),
    }
}

/// Never returns while an answer may still come.
async fn drive(connection: http1::Connection<TokioIo<ProbeStream>, Full<Bytes>>) -> ProbeError {
    // Its errors reach whoever asks.
    let _ = connection.await;
    std::future::pending().await
}

/// What an answer says of its server.
async fn judge(check: &CheckConfig, response: Response<Incoming>) -> Result<Answer, ProbeError> {
    let status = response.status().as_u16();
    if says_drain(response.headers()) {
        return Ok(Answer::Drain(format!("{STATE}: drain")));
    }
    if check.drain_status.iter().any(|range| range.contains(status)) {
        return Ok(Answer::Drain(format!("status {status}")));
    }
    let is_healthy = match check.status.as_slice() {
        [] => response.status().is_success() || response.status().is_redirection(),
        listed => listed.iter().any(|range| range.contains(status)),
    };
    if !is_healthy {
        return Err(ProbeError::Status(status));
    }
    expectation::check_headers(check, response.headers())?;
    expectation::check_body(check, response.into_body()).await?;
    Ok(Answer::Well)
}

fn says_drain(headers: &HeaderMap) -> bool {
    headers.get(STATE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"drain"))
}

/// The plan has looked at each part of it; what is wrong all the same is left out.
fn request(check: &CheckConfig, address: &Address) -> Request<Full<Bytes>> {
    let body = check.body.clone().map(Bytes::from).unwrap_or_default();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = check.method.parse().unwrap_or_default();
    *request.uri_mut() = check.path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *request.headers_mut() = headers(check, address);
    let close = HeaderValue::from_static("close");
    request.headers_mut().insert(header::CONNECTION, close);
    request
}

fn headers(check: &CheckConfig, address: &Address) -> HeaderMap {
    let host = check.host.clone().unwrap_or_else(|| address.host_header());
    let ours = [("host", host.as_str()), ("user-agent", "tidewire-check")];
    let theirs = check.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in ours.into_iter().chain(theirs) {
        let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        if let (Ok(name), Ok(value)) = parsed {
            headers.insert(name, value);
        }
    }
    headers
}

fn wrong(error: hyper::Error) -> ProbeError {
    if error.is_parse_too_large() {
        ProbeError::LargeHead
    } else if error.is_parse() || error.is_incomplete_message() {
        ProbeError::NotHttp
    } else {
        ProbeError::BrokeOff
    }
}

/// The head of a websocket probe, whose connection goes on as another protocol.
pub(super) fn request_head(check: &CheckConfig, address: &Address, more: &str) -> Vec<u8> {
    let mut head = format!("GET {} HTTP/1.1\r\n", check.path).into_bytes();
    for (name, value) in &headers(check, address) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(more.as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// Reads a response head: status, headers, and what came behind it.
pub(super) async fn read_head(
    stream: &mut ProbeStream,
) -> Result<(StatusCode, HeaderMap, BytesMut), ProbeError> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        if bytes.len() > HEAD_BYTES {
            return Err(ProbeError::LargeHead);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ProbeError::NotHttp);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(length)) if length > HEAD_BYTES => {
                return Err(ProbeError::LargeHead);
            }
            Ok(httparse::Status::Complete(length)) => {
                let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
                let status = status.ok_or(ProbeError::NotHttp)?;
                let headers = header_map(response.headers)?;
                let rest = bytes.split_off(length);
                return Ok((status, headers, rest));
            }
            Err(httparse::Error::TooManyHeaders) => return Err(ProbeError::LargeHead),
            Err(_) => return Err(ProbeError::NotHttp),
        }
    }
}

fn header_map(parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, ProbeError> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err(ProbeError::NotHttp),
        };
    }
    Ok(headers)
}

/// By which a server says what it wants; a Tidewire node does on `/readyz`.
pub const STATE: &str = "tidewire-state";

/// [`ProbeError::LargeHead`] says these two.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 100;
