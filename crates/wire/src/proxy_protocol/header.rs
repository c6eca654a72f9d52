//! The header as it is written: what a [`Reader`](super::Reader) of it is told.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Ends, FIXED_BYTES, LOCAL, PROXY, SIGNATURE, Said, TCP4, TCP6, UNSPECIFIED};

/// The versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVersion {
    /// A line of text.
    V1,
    /// Bytes of a fixed form.
    V2,
}

impl Said {
    /// The header that says this. Of a client that is nobody, it says nothing: no reader would take
    /// that for an address.
    pub fn header(&self, version: HeaderVersion) -> Vec<u8> {
        let ends = match self {
            Self::Client(ends) if !is_nobody(ends.source) => Some(of_one_family(*ends)),
            _ => None,
        };
        match version {
            HeaderVersion::V1 => line(ends),
            HeaderVersion::V2 => binary(ends),
        }
    }
}

fn is_nobody(client: SocketAddr) -> bool {
    client.ip().to_canonical().is_unspecified()
}

/// Both ends as IPv4, or both as IPv6: a header has one family for the two of them. What has come by
/// another proxy may have been of the other one there.
fn of_one_family(Ends { source, destination }: Ends) -> Ends {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return Ends { source, destination };
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    Ends { source: mapped(source), destination: mapped(destination) }
}

fn line(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends { source, destination }) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let mut addresses = [0; 36];
    let (command, family, length) = match ends {
        None => (LOCAL, UNSPECIFIED, 0),
        Some(Ends { source, destination }) => {
            let mut rest = &mut addresses[..];
            let mut put = |bytes: &[u8]| rest.write_all(bytes).expect("there is room for both");
            [source, destination].into_iter().for_each(|end| match end.ip() {
                IpAddr::V4(address) => put(&address.octets()),
                IpAddr::V6(address) => put(&address.octets()),
            });
            [source, destination].into_iter().for_each(|end| put(&end.port().to_be_bytes()));
            match source {
                SocketAddr::V4(_) => (PROXY, TCP4, 12),
                SocketAddr::V6(_) => (PROXY, TCP6, 36),
            }
        }
    };
    let mut header = Vec::with_capacity(FIXED_BYTES + length);
    header.extend_from_slice(&SIGNATURE);
    // No more than one byte, by the line that has chosen it.
    header.extend_from_slice(&[VERSION << 4 | command, family, 0, length as u8]);
    header.extend_from_slice(&addresses[..length]);
    header
}

const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    /// What is written of these ends, as a line and as bytes; and that it is read as that again.
    #[track_caller]
    fn check(source: &str, destination: &str, expected: &str, bytes: &[u8]) {
        let ends =
            Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        let line = Said::Client(ends).header(HeaderVersion::V1);
        assert_eq!(line.escape_ascii().to_string(), expected.escape_default().to_string());
        let header = Said::Client(ends).header(HeaderVersion::V2);
        assert_eq!(header[..12], SIGNATURE);
        assert_eq!(header[12..], *bytes);
        let read = |header: &[u8]| Reader::default().read(header);
        let again = read(&line).unwrap();
        assert_eq!(again.0, line.len());
        assert_eq!(read(&header).unwrap(), (header.len(), again.1));
        let Some(Said::Client(read)) = again.1 else { panic!("{again:?}") };
        let canonical = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        assert_eq!(canonical(read.source), canonical(ends.source));
        assert_eq!(canonical(read.destination), canonical(ends.destination));
    }

    #[test]
    fn a_client_is_written_as_the_protocol_has_it() {
        check(
            "192.0.2.1:56324",
            "198.51.100.1:443",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb],
        );
        let v6 = [
            &[0x21, 0x21, 0, 36, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0xff, 0xff],
        ]
        .concat();
        check("[2001:db8::1]:1", "[::1]:65535", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", &v6);
    }

    #[test]
    fn ends_of_two_families_are_both_written_as_ipv6() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let one = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(
            "192.0.2.1:7",
            "[::1]:80",
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 7 80\r\n",
            &[&[0x21, 0x21, 0, 36][..], &mapped, &one, &[0, 7, 0, 80]].concat(),
        );
        check(
            "[::1]:80",
            "192.0.2.1:7",
            "PROXY TCP6 ::1 ::ffff:192.0.2.1 80 7\r\n",
            &[&[0x21, 0x21, 0, 36][..], &one, &mapped, &[0, 80, 0, 7]].concat(),
        );
        // Of one that is IPv4 and only written as IPv6, it is said as that.
        check(
            "[::ffff:192.0.2.1]:7",
            "192.0.2.2:80",
            "PROXY TCP4 192.0.2.1 192.0.2.2 7 80\r\n",
            &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0, 7, 0, 80],
        );
    }

    #[test]
    fn of_nobody_nothing_is_said() {
        let destination = "192.0.2.1:7".parse().unwrap();
        let client =
            |source: &str| Said::Client(Ends { source: source.parse().unwrap(), destination });
        for said in
            [Said::Nothing, client("0.0.0.0:0"), client("[::]:1"), client("[::ffff:0.0.0.0]:1")]
        {
            assert_eq!(said.header(HeaderVersion::V1), b"PROXY UNKNOWN\r\n");
            let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
            assert_eq!(said.header(HeaderVersion::V2), local);
            assert_eq!(Reader::default().read(&local), Ok((16, Some(Said::Nothing))));
        }
    }
}
