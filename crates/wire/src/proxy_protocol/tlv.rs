//! What stands behind the addresses of version 2: values with a type and a length. None of them is
//! used here; that they are whole is looked at, and the checksum when there is one.

use super::HeaderFault;
use super::checksum::Crc32c;

/// Checks the values of a header that begin at `start`.
pub(super) fn check(header: &[u8], start: usize) -> Result<(), HeaderFault> {
    let mut at = start;
    while let Some(&[kind, high, low]) = header.get(at..).and_then(<[u8]>::first_chunk) {
        let begin = at + HEAD_BYTES;
        let end = begin + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(begin..end).ok_or(HeaderFault::TlvOverrun)?;
        if kind == CRC32C {
            check_sum(header, begin, value)?;
        }
        at = end;
    }
    if at == header.len() { Ok(()) } else { Err(HeaderFault::TlvOverrun) }
}

/// The sum is of the whole header, with zeros in place of itself.
fn check_sum(header: &[u8], begin: usize, value: &[u8]) -> Result<(), HeaderFault> {
    let expected = <[u8; 4]>::try_from(value).map_err(|_| HeaderFault::BadChecksum)?;
    let mut sum = Crc32c::default();
    sum.add(&header[..begin]);
    sum.add(&[0; 4]);
    sum.add(&header[begin + 4..]);
    if sum.value() == u32::from_be_bytes(expected) { Ok(()) } else { Err(HeaderFault::BadChecksum) }
}

/// Of a type and a length.
const HEAD_BYTES: usize = 3;

/// The type of a checksum (`PP2_TYPE_CRC32C`).
const CRC32C: u8 = 0x03;
