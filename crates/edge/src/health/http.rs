//! The probe that asks for a path and looks at the status.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CheckConfig, ProbeError, tcp};
use crate::server::Address;

/// Asks the server at `address` for the check's path.
pub async fn probe(check: &CheckConfig, address: &Address) -> Result<(), ProbeError> {
    let mut stream = tcp::probe(address).await?;
    let head = request_head(check, address, "Connection: close\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (status, ..) = read_head(&mut stream).await?;
    let is_healthy = match check.status.as_slice() {
        [] => status.is_success() || status.is_redirection(),
        listed => listed.contains(&status.as_u16()),
    };
    if is_healthy { Ok(()) } else { Err(ProbeError::Status(status.as_u16())) }
}

pub(super) fn request_head(check: &CheckConfig, address: &Address, more: &str) -> String {
    let host = check.host.clone().unwrap_or_else(|| address.to_string());
    format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidewire-check\r\n{more}\r\n",
        check.path
    )
}

/// Reads a response head: status, headers, and what came behind it.
pub(super) async fn read_head(
    stream: &mut TcpStream,
) -> Result<(StatusCode, HeaderMap, BytesMut), ProbeError> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > HEAD_BYTES {
            return Err(ProbeError::NotHttp);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(length)) => {
                let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
                let status = status.ok_or(ProbeError::NotHttp)?;
                let headers = header_map(response.headers)?;
                let rest = bytes.split_off(length);
                return Ok((status, headers, rest));
            }
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

const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
