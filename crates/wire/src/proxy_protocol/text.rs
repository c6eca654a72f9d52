//! Version 1: a line, such as `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{HeaderFault, Said, TEXT_BYTES_MAX, client};

pub(super) const BEGINNING: &[u8] = b"PROXY ";

/// How long the line is, with its end; `None` while that has not come.
pub(super) fn length(held: &[u8]) -> Result<Option<usize>, HeaderFault> {
    let line = &held[..held.len().min(TEXT_BYTES_MAX)];
    // A carriage return is part of the end, or there is none: another reader might stop at it.
    match line.iter().position(|&byte| matches!(byte, b'\r' | b'\n')) {
        Some(at) if line[at] == b'\n' => Err(HeaderFault::BadLine),
        Some(at) => match line.get(at + 1) {
            Some(b'\n') => Ok(Some(at + 2)),
            Some(_) => Err(HeaderFault::BadLine),
            None if line.len() == TEXT_BYTES_MAX => Err(HeaderFault::LineTooLong),
            None => Ok(None),
        },
        None if line.len() == TEXT_BYTES_MAX => Err(HeaderFault::LineTooLong),
        None => Ok(None),
    }
}

/// Reads a line that is whole.
pub(super) fn parse(line: &[u8]) -> Result<Said, HeaderFault> {
    let rest = &line[BEGINNING.len()..line.len() - 2];
    // What stands behind it has no meaning, whatever it is.
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(Said::Nothing);
    }
    let text = str::from_utf8(rest).map_err(|_| HeaderFault::BadLine)?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(HeaderFault::BadLine);
    let read = match word()? {
        "TCP4" => address::<Ipv4Addr>,
        "TCP6" => address::<Ipv6Addr>,
        _ => return Err(HeaderFault::BadLine),
    };
    let (source, destination) = (read(word()?)?, read(word()?)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(HeaderFault::BadLine);
    }
    let end = SocketAddr::new;
    client(end(source, source_port), end(destination, destination_port))
}

/// Of four numbers none may begin with a zero: some read those as octal.
fn address<A: FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, HeaderFault> {
    word.parse::<A>().map(Into::into).map_err(|_| HeaderFault::BadLine)
}

fn port(word: &str) -> Result<u16, HeaderFault> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = is_number && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain).ok_or(HeaderFault::BadLine)
}
