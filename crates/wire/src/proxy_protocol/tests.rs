//! Headers of the PROXY protocol, good and bad, cut wherever they can be.

use super::*;

/// What a header of version 2 is.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
}

fn tcp4(tlvs: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    binary(PROXY, TCP4, &[&addresses[..], tlvs].concat())
}

/// What is read of `bytes`, wherever they are cut: as text, and how many bytes are behind it.
#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    for cut in 0..=bytes.len() {
        let found = match read(&[&bytes[..cut], &bytes[cut..]]) {
            Ok((Some(Said::Nothing), rest)) => format!("nothing +{rest}"),
            Ok((Some(Said::Client(ends)), rest)) => {
                format!("{} -> {} +{rest}", ends.source, ends.destination)
            }
            Ok((None, _)) => "more".to_owned(),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(found, expected, "{:?} cut at {cut}", bytes.escape_ascii().to_string());
    }
}

fn read(pieces: &[&[u8]]) -> Result<(Option<Said>, usize), HeaderFault> {
    let mut reader = Reader::default();
    let mut said = None;
    let mut rest = 0;
    for piece in pieces {
        if said.is_some() {
            rest += piece.len();
            continue;
        }
        let taken;
        (taken, said) = reader.read(piece)?;
        rest += piece.len() - taken;
        assert!(
            said.is_some() || taken == piece.len(),
            "what is not the header's is not waited for"
        );
    }
    Ok((said, rest))
}

#[test]
fn a_line_says_whose_the_connection_is() {
    check(
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
        "192.0.2.1:56324 -> 198.51.100.1:443 +0",
    );
    check(
        b"PROXY TCP4 192.0.2.1 198.51.100.1 0 65535\r\nGET /",
        "192.0.2.1:0 -> 198.51.100.1:65535 +5",
    );
    check(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n\r\n", "[2001:db8::1]:1 -> [::1]:2 +2");
    check(
        b"PROXY TCP6 2001:DB8:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535 -> [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 +0",
    );
    check(b"PROXY UNKNOWN\r\nGET", "nothing +3");
    check(b"PROXY UNKNOWN ffff::1 \xff\0 what ever\r\n", "nothing +0");
}

#[test]
fn a_line_that_others_could_read_otherwise_is_refused() {
    let bad = HeaderFault::BadLine.to_string();
    for line in [
        "PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 00 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP4\t192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
        "PROXY TCP4 0x7f.0.0.1 198.51.100.1 1 2\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\r\n",
        "PROXY UNKNOWN \r \r\n",
        "PROXY UNKNOWN \n\r\n",
    ] {
        check(line.as_bytes(), &bad);
    }
    check(b"PROXY TCP4 0.0.0.0 198.51.100.1 1 2\r\n", "the client's address, 0.0.0.0, is nobody's");
    check(b"PROXY TCP6 :: ::1 1 2\r\n", "the client's address, ::, is nobody's");
    check(
        b"PROXY TCP6 ::ffff:0.0.0.0 ::1 1 2\r\n",
        "the client's address, ::ffff:0.0.0.0, is nobody's",
    );
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    check(line(107).as_bytes(), "nothing +0");
    let long = HeaderFault::LineTooLong.to_string();
    check(line(108).as_bytes(), &long);
    check(line(109).as_bytes(), &long);
    check(line(5000).as_bytes(), &long);
    check(&line(5000).as_bytes()[..107], &long);
}

#[test]
fn version_2_says_the_same_in_bytes() {
    check(&tcp4(&[]), "192.0.2.1:56324 -> 198.51.100.1:443 +0");
    check(
        &[tcp4(&[]), b"\x16\x03\x01".to_vec()].concat(),
        "192.0.2.1:56324 -> 198.51.100.1:443 +3",
    );
    let source = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
    let addresses = [&source[..], &Ipv6Addr::LOCALHOST.octets(), &[0, 1, 0, 2]].concat();
    check(&binary(PROXY, TCP6, &addresses), "[2001:db8::1]:1 -> [::1]:2 +0");
    check(&binary(PROXY, UNIX_STREAM, &[b'/'; 216]), "nothing +0");
    check(&binary(PROXY, UNSPECIFIED, &[]), "nothing +0");
    check(&binary(PROXY, UNSPECIFIED, &[7; 20]), "nothing +0");
    for family in [UNSPECIFIED, TCP4, 0x99] {
        check(&binary(LOCAL, family, &[]), "nothing +0");
        check(&binary(LOCAL, family, &[0xff; 40]), "nothing +0");
    }
}

#[test]
fn version_2_is_held_to_its_lengths() {
    let short = |length| HeaderFault::TooShort(length).to_string();
    check(&binary(PROXY, TCP4, &[1; 11]), &short(11));
    check(&binary(PROXY, TCP6, &[1; 12]), &short(12));
    check(&binary(PROXY, UNIX_STREAM, &[1; 215]), &short(215));
    check(&binary(PROXY, TCP4, &[]), &short(0));
    check(&tcp4(&[1; 4096 - 12])[..16], "more");
    let mut long = tcp4(&[]);
    for (length, is_allowed) in [(4096_u16, true), (4097, false), (65535, false)] {
        long[14..16].copy_from_slice(&length.to_be_bytes());
        let refused = HeaderFault::TooLong(length).to_string();
        check(&long, if is_allowed { "more" } else { &refused });
    }
}

#[test]
fn version_2_takes_no_command_family_or_version_that_it_does_not_have() {
    for family in [0x01, 0x10, 0x12, 0x13, 0x20, 0x22, 0x30, 0x32, 0x41, 0xff] {
        check(&binary(PROXY, family, &[1; 40]), &HeaderFault::BadFamily(family).to_string());
    }
    for command in 2..16 {
        check(&binary(command, TCP4, &[1; 12]), &HeaderFault::BadCommand(command).to_string());
    }
    for version in [0, 1, 3, 15] {
        let mut header = tcp4(&[]);
        header[12] = version << 4 | PROXY;
        check(&header, &HeaderFault::BadVersion(version).to_string());
    }
}

#[test]
fn tlvs_are_whole() {
    let good = "192.0.2.1:56324 -> 198.51.100.1:443 +0";
    check(&tcp4(&[4, 0, 0]), good);
    check(&tcp4(&[4, 0, 2, 9, 9, 0xea, 0, 1, 7]), good);
    let overrun = HeaderFault::TlvOverrun.to_string();
    for tlvs in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0xff, 0xff, 1], &[4, 0, 0, 4, 0, 9]] {
        check(&tcp4(tlvs), &overrun);
    }
    check(&binary(PROXY, UNIX_STREAM, &[b'/'; 217]), &overrun);
}

#[test]
fn a_checksum_that_is_there_is_right() {
    let with = |sum: u32, behind: &[u8]| {
        tcp4(&[&[4, 0, 1, 5, 3, 0, 4], &sum.to_be_bytes()[..], behind].concat())
    };
    let sum_of = |behind: &[u8]| {
        let mut sum = checksum::Crc32c::default();
        sum.add(&with(0, behind));
        sum.value()
    };
    let good = "192.0.2.1:56324 -> 198.51.100.1:443 +0";
    let bad = HeaderFault::BadChecksum.to_string();
    for behind in [&[][..], &[4, 0, 1, 9]] {
        check(&with(sum_of(behind), behind), good);
        check(&with(sum_of(behind) ^ 1, behind), &bad);
    }
    check(&tcp4(&[3, 0, 0]), &bad);
    check(&tcp4(&[3, 0, 5, 1, 2, 3, 4, 5]), &bad);
}

#[test]
fn what_is_no_header_is_known_at_its_first_byte() {
    let not = HeaderFault::NotProxy.to_string();
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXX",
        b"proxy ",
        b"\x16\x03\x01",
        b"\r\n\r\nGET",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\0",
    ] {
        check(bytes, &not);
    }
    check(b"", "more");
    check(b"PROX", "more");
    check(&SIGNATURE, "more");
}
