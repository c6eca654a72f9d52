//! The header of the PROXY protocol, versions 1 and 2, by which a balancer says in front of
//! everything else on a connection whose it is.
//!
//! [`Reader`] takes the header and not one byte behind it. Whether the peer is to be believed is
//! for the caller to know before. [`Said::header`] is the way back.

mod checksum;
pub mod header;
mod text;
mod tlv;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The peer's own, such as a health check, or that of somebody whose address it cannot say:
    /// the addresses of the connection hold.
    Nothing,
    Client(Ends),
}

/// A client, and what it has connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("it begins with another protocol than PROXY")]
    NotProxy,
    #[error("a line of version 1 is longer than {TEXT_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("a line of version 1 is not as the protocol has it")]
    BadLine,
    #[error("version {0} is not one of the protocol")]
    BadVersion(u8),
    #[error("command {0} is not one of the protocol")]
    BadCommand(u8),
    #[error("{0:#04x} is no family and transport of a connection")]
    BadFamily(u8),
    #[error("the header says that it has {0} more bytes, over the limit of {BINARY_BYTES_MAX}")]
    TooLong(u16),
    #[error("the header says that it has {0} more bytes, too few for its addresses")]
    TooShort(u16),
    #[error("the client's address, {0}, is nobody's")]
    NoAddress(IpAddr),
    #[error("a TLV reaches beyond the header")]
    TlvOverrun,
    #[error("the checksum is wrong")]
    BadChecksum,
}

/// Reads a header from pieces.
#[derive(Debug, Default)]
pub struct Reader {
    /// What has come of it: at most as much as is allowed, however much it says that there is.
    held: Vec<u8>,
}

impl Reader {
    /// Takes what of `bytes` is the header's, and says how much that is; the rest is for whoever
    /// comes next. `None` until the header is whole.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Said>), HeaderFault> {
        let before = self.held.len();
        let room = HEADER_BYTES_MAX.saturating_sub(before);
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match length(&self.held)? {
            Some(length) if length <= self.held.len() => {
                self.held.truncate(length);
                Ok((length - before, Some(parse(&self.held)?)))
            }
            _ => Ok((self.held.len() - before, None)),
        }
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How much has come.
    pub fn len(&self) -> usize {
        self.held.len()
    }
}

/// How long the header is that begins so. `None` while that is not known.
fn length(held: &[u8]) -> Result<Option<usize>, HeaderFault> {
    if is_beginning(held, &SIGNATURE) {
        let Some(fixed) = held.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
        let more = u16::from_be_bytes([fixed[14], fixed[15]]);
        // Before a byte more is waited for: nobody sends as much, and the checks are cheap.
        if usize::from(more) > BINARY_BYTES_MAX {
            return Err(HeaderFault::TooLong(more));
        }
        Ok(Some(FIXED_BYTES + usize::from(more)))
    } else if is_beginning(held, text::BEGINNING) {
        text::length(held)
    } else {
        Err(HeaderFault::NotProxy)
    }
}

/// Whether `held` is the beginning, as far as it goes.
fn is_beginning(held: &[u8], beginning: &[u8]) -> bool {
    let common = held.len().min(beginning.len());
    held[..common] == beginning[..common]
}

/// Reads a header that is whole.
fn parse(header: &[u8]) -> Result<Said, HeaderFault> {
    if header.starts_with(text::BEGINNING) {
        return text::parse(header);
    }
    let (version, command, family) = (header[12] >> 4, header[12] & 0x0f, header[13]);
    if version != 2 {
        return Err(HeaderFault::BadVersion(version));
    }
    match command {
        // A check by the balancer itself: whatever else is in the header has no meaning.
        LOCAL => return Ok(Said::Nothing),
        PROXY => {}
        other => return Err(HeaderFault::BadCommand(other)),
    }
    let body = &header[FIXED_BYTES..];
    let (said, tlvs) = match family {
        UNSPECIFIED => return Ok(Said::Nothing),
        TCP4 => {
            let (block, tlvs) = split::<12>(body)?;
            (ends(block, |address: [u8; 4]| Ipv4Addr::from(address).into())?, tlvs)
        }
        TCP6 => {
            let (block, tlvs) = split::<36>(body)?;
            (ends(block, |address: [u8; 16]| Ipv6Addr::from(address).into())?, tlvs)
        }
        // The two paths say nothing of who the client is.
        UNIX_STREAM => (Said::Nothing, split::<216>(body)?.1),
        other => return Err(HeaderFault::BadFamily(other)),
    };
    tlv::check(header, header.len() - tlvs.len())?;
    Ok(said)
}

fn split<const BYTES: usize>(body: &[u8]) -> Result<(&[u8], &[u8]), HeaderFault> {
    // No more than the limit, which has fewer bits.
    body.split_at_checked(BYTES).ok_or(HeaderFault::TooShort(body.len() as u16))
}

/// Two addresses, then two ports.
fn ends<const BYTES: usize>(
    block: &[u8],
    address: impl Fn([u8; BYTES]) -> IpAddr,
) -> Result<Said, HeaderFault> {
    let take = |at: usize| {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&block[at..at + BYTES]);
        address(bytes)
    };
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let source = SocketAddr::new(take(0), port(2 * BYTES));
    let destination = SocketAddr::new(take(BYTES), port(2 * BYTES + 2));
    client(source, destination)
}

/// An address that is nobody's must not become a client's: rules could take it for any.
fn client(source: SocketAddr, destination: SocketAddr) -> Result<Said, HeaderFault> {
    if source.ip().to_canonical().is_unspecified() {
        return Err(HeaderFault::NoAddress(source.ip()));
    }
    Ok(Said::Client(Ends { source, destination }))
}

/// What a header of version 2 begins with: no line of any protocol does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Of version 2: the signature, version and command, family and transport, and the length of what
/// follows.
const FIXED_BYTES: usize = 16;

/// What follows may have 65,535 bytes by its format. Addresses of Unix sockets take 216, and of TLVs
/// a client's certificate in full would be the largest; no balancer sends that.
const BINARY_BYTES_MAX: usize = 4096;

/// The longest line of version 1, with its end.
const TEXT_BYTES_MAX: usize = 107;

const HEADER_BYTES_MAX: usize = FIXED_BYTES + BINARY_BYTES_MAX;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

#[cfg(test)]
mod tests;
